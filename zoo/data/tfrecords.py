"""Prepared folders of TensorFlow Datasets as encoded images, read in any order or file after file."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from concurrent import futures
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

if keras.backend.backend() != "tensorflow":
    try:
        tf.config.set_visible_devices([], "GPU")  # which the other backend needs
    except RuntimeError:  # somebody uses TensorFlow already
        pass


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A split of a data set that TFDS has prepared. An example's index is its place in the split.

    Args:
        name: str, the data set's name.
        split: str, such as "train".
        files: tuple of str, paths of its record files.
        skips: tuple of ints, how many records at the start of each file are left out.
        counts: tuple of ints, how many records of each file are then used.
        num_classes: int, K.
        class_names: tuple of str.
        image_shape: (H, W, C), or None if sizes differ.
        channels: int, 1 or 3.
        parse: function from a record to (encoded image, label).
    """

    name: str
    split: str
    files: tuple
    skips: tuple
    counts: tuple
    num_classes: int
    class_names: tuple
    image_shape: tuple | None
    channels: int
    parse: object

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return sum(self.counts)

    @property
    def num_bytes(self) -> int:
        """The size of the files in bytes."""
        return sum(tf.io.gfile.stat(file).length for file in self.files)

    @functools.cached_property
    def offsets(self) -> tuple:
        """The number of the file and the first byte of each record: int32 and int64 arrays (N,)."""
        with futures.ThreadPoolExecutor(16) as pool:  # waits for the disk
            parts = list(pool.map(_offsets, self.files))
        used = [
            part[skip : skip + count]
            for part, skip, count in zip(parts, self.skips, self.counts, strict=True)
        ]
        for file, part, count in zip(self.files, used, self.counts, strict=True):
            if len(part) != count:
                raise ValueError(f"{file} has {len(part)} of {count} records; prepare {self.name} again")
        numbers = np.repeat(np.arange(len(used), dtype="int32"), self.counts)
        return numbers, np.concatenate(used)

    @functools.cached_property
    def encoded(self) -> Any:
        """All records in memory, a string tensor (N,)."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if self.num_bytes > 0.8 * memory:
            raise ValueError(
                f"cache=True needs {self.num_bytes / 1e9:.1f} GB for {self.name} and the machine has "
                f"{memory / 1e9:.1f} GB; leave cache=False"
            )
        with tf.device("cpu"):
            return (
                in_order(self)
                .map(lambda i, record: record)
                .batch(self.num_examples)
                .get_single_element()
            )

    def place(self, index: Any) -> Any:
        """Describe where an example is, for messages.

        Args:
            index: int tensor.

        Returns:
            A string tensor.
        """
        ends = np.cumsum(self.counts)
        index = tf.cast(index, ends.dtype)
        number = tf.searchsorted(ends, [index], side="right")[0]
        inside = index - tf.gather(ends - self.counts - self.skips, number)
        return tf.strings.format("record {} of ", inside) + tf.gather(self.files, number)


def open_split(name: str, split: str, data_dir: Any) -> Source:
    """Open a split of a data set that TFDS has prepared.

    Args:
        name: str, TFDS's name, such as "imagenet2012".
        split: str, "train", "validation", or a part such as "train[:95%]".
        data_dir: str or path of TFDS's folder.

    Returns:
        A `Source`.

    Raises:
        FileNotFoundError: if data set or split are not there.
        ValueError: for a data set without supervised pairs of image and label.
    """
    data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        splits = builder.info.splits
    except Exception as error:  # TFDS raises errors of its own, some of many lines
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(f"no prepared {name} in {data_dir}: {reason}") from None
    if not splits:
        raise FileNotFoundError(
            f"no prepared {name} in {data_dir}; docs/datasets.md says how to prepare it"
        )
    if split.split("[")[0] not in splits:
        raise FileNotFoundError(
            f"{name} in {data_dir} has no split {split!r}; there are {', '.join(splits)}"
        )
    return _source(builder.info, name, split)


def _source(info, name, split):
    keys = info.supervised_keys or ()
    features = info.features
    kinds = [type(features[key]) for key in keys] if len(keys) == 2 else []
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(
            f"{name} does not pair images with class labels; write your own pipeline for it"
        )
    image, label = keys

    def parse(record):
        example = features.deserialize_example(record, decoders={image: tfds.decode.SkipDecoding()})
        return example[image], tf.cast(example[label], tf.int32)

    shape = features[image].shape
    parts = info.splits[split].file_instructions
    return Source(
        name, split, tuple(os.fspath(part.filename) for part in parts), tuple(part.skip for part in parts),
        tuple(part.examples_in_shard if part.take < 0 else part.take for part in parts),
        features[label].num_classes, tuple(features[label].names), None if None in shape else tuple(shape), shape[-1] or 3, parse,
    )  # fmt: skip


def _offsets(file):
    """First bytes of a record file's records; a record has a head of 12 bytes and a tail of 4."""
    if not os.path.exists(file):
        raise ValueError(f'{file} is not a local file; pass cache=True or shuffle="files"')
    status = os.stat(file)
    key = hashlib.sha256(f"{os.path.abspath(file)} {status.st_size} {status.st_mtime_ns}".encode())
    cache = pathlib.Path(os.environ.get("ZOO_CACHE", "~/.cache/ensemble-zoo")).expanduser()
    kept = cache / "records" / f"{key.hexdigest()[:32]}.npy"
    if kept.is_file():
        return np.load(kept)
    offsets, position = [], 0
    with open(file, "rb", buffering=0) as stream:
        while position < status.st_size:
            offsets.append(position)
            head = os.pread(stream.fileno(), 8, position)
            position += int.from_bytes(head, "little") + 16
    if position > status.st_size:
        raise ValueError(f"{file} ends within a record; copy or prepare it again")
    return _keep(kept, np.array(offsets, "int64"))


def _keep(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as stream:
        np.save(stream, array)
    draft.replace(path)  # whoever reads it meanwhile has the whole of it
    return array


def at_random(source: Source, indices: tf.data.Dataset, cache: bool) -> tf.data.Dataset:
    """Read examples in any order.

    Args:
        source: a `Source`.
        indices: `tf.data.Dataset` of (epoch, index).
        cache: bool, whether to keep the encoded images in memory.

    Returns:
        `tf.data.Dataset` of (epoch, index, record).
    """
    if cache:
        encoded = source.encoded
        return indices.map(lambda epoch, i: (epoch, i, tf.gather(encoded, i)))
    with tf.device("cpu"):
        numbers, offsets = (tf.constant(table) for table in source.offsets)
        files = tf.constant(source.files)

    def read(epoch, i):
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[tf.gather(files, tf.gather(numbers, i))], compression_type="", buffer_size=0,
            byte_offsets=[tf.gather(offsets, i)],
        )  # fmt: skip
        records = tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))
        return records.take(1).map(lambda record: (epoch, i, record))

    return indices.interleave(read, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE)


def in_order(
    source: Source, numbers: tf.data.Dataset | None = None, parallel: int = 1
) -> tf.data.Dataset:
    """Read examples file after file.

    Args:
        source: a `Source`.
        numbers: `tf.data.Dataset` of numbers of files. Default: None, all in order.
        parallel: int >= 1, files read side by side. Default: 1.

    Returns:
        `tf.data.Dataset` of (index, record).
    """
    firsts = np.cumsum([0, *source.counts[:-1]])
    with tf.device("cpu"):
        files, firsts, skips, counts = (
            tf.constant(x) for x in (source.files, firsts, source.skips, source.counts)
        )
    skips, counts = tf.cast(skips, tf.int64), tf.cast(counts, tf.int64)

    def read(number):
        file = tf.data.TFRecordDataset(tf.gather(files, number))
        used = file.skip(tf.gather(skips, number)).take(tf.gather(counts, number))
        return used.enumerate(tf.gather(firsts, number))

    numbers = tf.data.Dataset.range(len(source.files)) if numbers is None else numbers
    if parallel == 1:
        return numbers.flat_map(read)
    return numbers.interleave(read, cycle_length=parallel, num_parallel_calls=tf.data.AUTOTUNE)
