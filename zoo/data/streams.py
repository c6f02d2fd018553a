"""Input pipelines for images that are too many for memory: encoded on disk, uint8 until on the device.

    source = streams.open_split("imagenet2012", "train", data_dir)
    batches = streams.training(source, 1024, seed=0, epoch=3, worker=1, num_workers=4)

The global batches of an epoch, crops and mirroring included, depend only on (seed, epoch): not on the
number of workers, threads or cores, nor on where a run was resumed.
"""

import numpy as np
import tensorflow as tf

from zoo.data import image_decoding
from zoo.data.tfrecords import Source, at_random, in_order, open_split

__all__ = ["evaluation", "open_split", "order", "training"]

FILES_AT_ONCE = 16  # read side by side with shuffle="files"; part of the order


def order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Return the order of an epoch's examples, the same as `EpochShuffle`'s.

    Args:
        seed: int.
        epoch: int.
        size: int, the number of examples.

    Returns:
        Int array (size,), a permutation.
    """
    return np.random.default_rng([seed, epoch]).permutation(size)


def training(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    epochs: int = 1,
    worker: int = 0,
    num_workers: int = 1,
    replicas: int = 1,
    first_step: int = 0,
    image_size: tuple[int, int] = (224, 224),
    crop: str = "random_resized",
    flip: bool = True,
    cache: bool = False,
    shuffle: str = "records",
    shard: str = "batches",
    block: int = 4096,
    broken: str = "raise",
) -> tf.data.Dataset:
    """Return this worker's part of each whole batch of an epoch.

    Args:
        source: what `open_split` returned.
        batch_size: int, images per global batch; worker w of n takes the w-th n-th of each batch.
        seed: int; with the epoch it decides order, crops and mirrors.
        epoch: int, the first epoch.
        epochs: int >= 1, epochs that follow one another. Default: 1.
        worker: int, this worker's number. Default: 0.
        num_workers: int >= 1. Default: 1.
        replicas: int >= 1, devices of this worker; each gets its own batch, one after the other
            (`tf.distribute.Strategy.distribute_datasets_from_function`). Default: 1.
        first_step: int, steps of the first epoch to leave out; their images are not decoded. Default: 0.
        image_size: two ints, (height, width) in pixels of the results of crop="random_resized".
            Default: (224, 224).
        crop: str, "random_resized", Inception's, or "none", for images of one size.
            Default: "random_resized".
        flip: bool, whether to mirror half of the images. Default: True.
        cache: bool, whether to keep the encoded images in memory. Default: False.
        shuffle: str, "records", a permutation of all examples, which needs local files or `cache`; or
            "files", files in random order, 16 side by side, `block` records at a time shuffled.
            Default: "records".
        shard: str, with shuffle="files": "batches" as above, for which each worker reads all files; or
            "files", for which each reads its own, so that batches depend on the number of workers, and
            some examples of a worker with fewer come twice. Default: "batches".
        block: int, records that are shuffled together; twice as many are in memory. Default: 4096.
        broken: str, what to do with an image that cannot be decoded: "raise", or "blank", mid-grey
            instead. Default: "raise".

    Returns:
        `tf.data.Dataset` of uint8 images (B, H, W, C) and int32 labels (B,), where
        B = batch_size / num_workers / replicas.

    Raises:
        ValueError: for arguments that do not fit together or the data.
    """
    _check(source, batch_size, worker, num_workers, replicas, first_step)
    if shuffle == "records":
        take = _own_records(source, batch_size, seed, worker, num_workers)
    elif shuffle == "files":
        take = _own_files(source, batch_size, seed, worker, num_workers, shard, block)
    else:
        raise ValueError(f'shuffle must be "records" or "files"; got {shuffle!r}')
    first = epoch, first_step
    stream = tf.data.Dataset.range(epoch, epoch + epochs).flat_map(
        lambda e: take(e, tf.where(e == first[0], np.int64(first[1]), np.int64(0)))
    )
    if shuffle == "records":
        stream = at_random(source, stream, cache)

    def draws(epoch, index):
        key = tf.random.fold_in(tf.stack([np.int64(seed), epoch]), index)
        return tf.unstack(tf.random.split(key, 2))

    prepare = _preparation(source, image_size, crop, broken, draws, flip)
    stream = stream.map(prepare, tf.data.AUTOTUNE)
    steps = (source.num_examples // batch_size * epochs - first_step) * replicas
    return _finished(stream, batch_size // num_workers // replicas, True, steps)


def evaluation(
    source: Source,
    batch_size: int,
    *,
    image_size: tuple[int, int] = (224, 224),
    crop: str = "centre",
    drop_remainder: bool = False,
    broken: str = "raise",
) -> tf.data.Dataset:
    """Return all examples in order, in batches of which the last may be smaller.

    Args:
        source: what `open_split` returned.
        batch_size: int >= 1, images per batch.
        image_size: two ints, (height, width) in pixels of the results of crop="centre".
            Default: (224, 224).
        crop: str, "centre", the middle of an image whose shorter side is resized to 256/224 of
            `image_size`, or "none", for images of one size. Default: "centre".
        drop_remainder: bool, whether to leave out a smaller last batch. Default: False.
        broken: str, see `training`. Default: "raise".

    Returns:
        `tf.data.Dataset` of uint8 images (B, H, W, C) and int32 labels (B,).

    Raises:
        ValueError: for arguments that do not fit together or the data.
    """
    prepare = _preparation(source, image_size, crop, broken)
    stream = in_order(source).map(lambda i, record: prepare(np.int64(0), i, record), tf.data.AUTOTUNE)
    whole, rest = divmod(source.num_examples, batch_size)
    return _finished(stream, batch_size, drop_remainder, whole + bool(rest and not drop_remainder))


def _check(source, batch_size, worker, num_workers, replicas, first_step):
    if batch_size < 1 or batch_size % (num_workers * replicas):
        raise ValueError(
            f"batch_size={batch_size} must be a multiple of {num_workers * replicas}, the number of devices"
        )
    if batch_size > source.num_examples:
        raise ValueError(
            f"batch_size={batch_size} is more than the {source.num_examples} training images"
        )
    if not 0 <= worker < num_workers:
        raise ValueError(f"worker={worker} must be from 0 to {num_workers - 1}")
    steps = source.num_examples // batch_size
    if not 0 <= first_step < steps:
        raise ValueError(f"first_step={first_step} must be from 0 to {steps - 1}, the epoch's last")


def _own_records(source, batch_size, seed, worker, num_workers):
    """A function from epoch and first step to this worker's (epoch, index)."""
    size, steps = source.num_examples, source.num_examples // batch_size

    def rows(epoch, first):
        parts = order(seed, epoch, size)[: steps * batch_size].reshape(steps, num_workers, -1)
        return parts[first:, worker].reshape(-1)

    def take(epoch, first):
        indices = tf.numpy_function(rows, [epoch, first], tf.int64)
        indices = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(indices, (None,)))
        return indices.map(lambda i: (epoch, i))

    return take


def _own_files(source, batch_size, seed, worker, num_workers, shard, block):
    """A function from epoch and first step to this worker's (epoch, index, record)."""
    own = batch_size // num_workers
    steps = source.num_examples // batch_size
    if shard not in ("batches", "files"):
        raise ValueError(f'shard must be "batches" or "files"; got {shard!r}')
    if shard == "files" and len(source.files) < num_workers:
        raise ValueError(
            f'shard="files" gives {len(source.files)} files to {num_workers} workers; use shard="batches"'
        )

    def numbers(epoch):
        files = order(seed, epoch, len(source.files))
        return files[worker::num_workers] if shard == "files" else files

    def take(epoch, first):
        files = tf.ensure_shape(tf.numpy_function(numbers, [epoch], tf.int64), (None,))
        records = in_order(source, tf.data.Dataset.from_tensor_slices(files), FILES_AT_ONCE)
        records = _shuffled(records, tf.stack([np.int64(seed), epoch]), block)
        if shard == "files":
            records = records.repeat().skip(first * own).take((steps - first) * own)
        else:
            records = records.skip(first * batch_size).take((steps - first) * batch_size)
            records = records.batch(own).shard(num_workers, worker).unbatch()
        return records.map(lambda i, record: (epoch, i, record))

    return take


def _shuffled(records, key, block):
    """Blocks shuffled in themselves: a shuffle buffer's order would depend on TensorFlow's global seed."""

    def mix(number, block):
        here = tf.random.fold_in(key, number)
        places = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(block[0])[0]), here)
        return tuple(tf.gather(part, places) for part in block)

    return records.batch(block).enumerate().map(lambda n, b: mix(n, b)).prefetch(1).unbatch()


def _preparation(source, image_size, crop, broken, draws=None, flip=False):
    """The function from (epoch, index, record) to (image, label)."""
    if crop not in ("random_resized" if draws else "centre", "none"):
        raise ValueError(
            f'crop must be "{"random_resized" if draws else "centre"}" or "none"; got {crop!r}'
        )
    if broken not in ("raise", "blank"):
        raise ValueError(f'broken must be "raise" or "blank"; got {broken!r}')
    if crop == "none" and source.image_shape is None:
        raise ValueError(
            f'images of {source.name} differ in size; crop="none" is for images of one size'
        )
    shape = source.image_shape if crop == "none" else (*image_size, source.channels)

    def otherwise(index):
        if broken == "raise":
            tf.debugging.Assert(False, [source.place(index) + " cannot be decoded"])
        return tf.fill(shape, tf.constant(128, tf.uint8))

    def prepare(epoch, index, record):
        encoded, label = source.parse(record)
        where, side = draws(epoch, index) if draws else (None, None)
        window = None
        if crop == "random_resized":
            window = image_decoding.random_resized_crop(image_size, where)
        elif crop == "centre":
            window = image_decoding.centre_crop(image_size)
        image = image_decoding.decode(encoded, source.channels, window, lambda: otherwise(index))
        if flip:
            mirrored = tf.random.stateless_uniform((), side) < 0.5
            image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        return tf.ensure_shape(image, shape), label

    return prepare


def _finished(stream, batch_size, drop_remainder, steps):
    options = tf.data.Options()
    options.deterministic = True
    # Each worker makes its own part: tf.distribute must not take a part of that again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    stream = stream.batch(batch_size, drop_remainder)
    stream = stream.apply(tf.data.experimental.assert_cardinality(steps))
    return stream.prefetch(tf.data.AUTOTUNE).with_options(options)
