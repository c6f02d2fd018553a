"""What bounds training on ImageNet-shaped images: the input pipeline or the network.

    python benchmarks/input_pipeline.py [--images 4000] [--data_dir DIR] [--backbone resnet18] [--rates 3000]

Photographs of real size (375x500 or so, 110 kB, varied from two of scikit-learn's) are written as TFDS writes
ImageNet, once, into DIR or a temporary folder.  Measured are: each stage of the pipeline in CPU time an image
(a stage is the difference to the pipeline without it); images/s of the pipeline alone, of training steps
on a batch that stays on the device, and of both together, by turns and as medians.  Prints JSON and a
sentence; `--rates` are images/s of devices that are to be kept busy.

Measured with TensorFlow 2.21 on CPU cores that had other work, too: 420 to 525 images/s a core, of which decoding
is half; with two such cores 167 images/s from the pipeline alone, 2.9 through a ResNet-18, bound by the network.
"""

import argparse
import io
import itertools
import json
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image, ImageEnhance
from sklearn import datasets as sklearn_datasets

import zoo
from zoo.data import image_decoding, streams, tfrecords


def photographs(count, seed=0, long=(480, 501), short=(330, 400)):
    """Encoded JPEGs, each another crop, scale, colour and grain of one of two photographs."""
    rng = np.random.default_rng(seed)
    originals = [Image.fromarray(image) for image in sklearn_datasets.load_sample_images().images]
    for i in range(count):
        original = originals[i % len(originals)]
        width, height = (int(rng.uniform(0.7, 1) * side) for side in original.size)
        left, top = (int(rng.integers(a - b + 1)) for a, b in zip(original.size, (width, height)))
        size = int(rng.integers(*long)), int(rng.integers(*short))
        size = size if rng.random() < 0.75 else size[::-1]
        image = original.resize(size, Image.BICUBIC, box=(left, top, left + width, top + height))
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.7, 1.3))
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
        # Enlarged photographs are smooth: without a camera's noise the files were half as long.
        grain = rng.normal(0, rng.uniform(5, 10), (size[1], size[0], 1))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype("uint8"))
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=int(rng.integers(92, 98)))
        yield encoded.getvalue()


def write_tfds(
    data_dir, images, labels=None, name="imagenet2012", split="train", files=16, feature=None
):
    """Write encoded images as TFDS would prepare them, in data_dir/name/5.1.0.

    Args:
        data_dir: of TFDS.
        images: encoded.
        labels: of 1000 classes; an image's number by default.
        name: of the set.
        split: its only split.
        files: how many record files.
        feature: of the images; ImageNet's by default.
    """
    images = list(images)
    labels = np.arange(len(images)) % 1000 if labels is None else labels
    folder = pathlib.Path(data_dir) / name / "5.1.0"
    folder.mkdir(parents=True)
    features = {
        "image": feature or tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=1000),
        "file_name": tfds.features.Text(),
    }
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version("5.1.0"), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=-(-len(images) // files))
    writer.initialize_splits([split])
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        example = {"image": image, "label": int(label), "file_name": f"{i}.JPEG"}
        writer.add_examples({split: [example]})
    writer.close_all()


def stages(source, size):
    """Datasets that go one stage further each: {stage: dataset}; none runs in parallel."""
    indices = tf.data.Dataset.range(source.num_examples).shuffle(source.num_examples, seed=0)
    read = tfrecords.at_random(source, indices.map(lambda i: (np.int64(0), i)), cache=False)

    def parsed(epoch, i, record):
        return i, source.parse(record)[0]

    def crop(i, encoded):
        key = tf.random.fold_in(tf.constant([0, 0], tf.int64), i)
        box, _ = image_decoding.random_resized_crop(size, key)(tf.image.extract_jpeg_shape(encoded))
        return encoded, box

    def decoded(i, encoded):
        return tf.image.decode_and_crop_jpeg(*crop(i, encoded), 3)

    def resized(i, encoded):
        return tf.cast(tf.round(tf.image.resize(decoded(i, encoded), size)), tf.uint8)

    files = read.map(parsed)
    return {
        "read": read,
        "parse": files,
        "draw": files.map(crop),
        "decode": files.map(decoded),
        "resize": files.map(resized),
        "batch": files.map(resized).batch(64),
    }


def stage_costs(source, size, rounds):
    """Microseconds of CPU time an image that each stage adds, and of the whole pipeline."""
    datasets = {name: _one_thread(dataset) for name, dataset in stages(source, size).items()}
    options = {"seed": 0, "epoch": 0, "image_size": size}
    datasets["whole"] = _one_thread(streams.training(source, 64, **options))
    times = {name: [] for name in datasets}
    for _ in range(rounds + 1):
        for name, dataset in datasets.items():
            start = time.process_time()
            _exhaust(dataset)
            times[name].append((time.process_time() - start) / source.num_examples * 1e6)
    totals = {name: statistics.median(values[1:]) for name, values in times.items()}
    names = list(totals)[:-1]
    added = {b: totals[b] - totals[a] for a, b in itertools.pairwise(names)}
    return {"read": totals["read"], **added, "whole": totals["whole"]}


def _one_thread(dataset):
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def _exhaust(dataset):
    """Within TensorFlow: taking single elements to Python costs more than reading them."""
    dataset.reduce(np.int64(0), lambda count, *_: count + 1)


def rates(source, size, backbone, batch_size, steps, rounds):
    """Images/s of the pipeline alone, of training alone and of both: {what: median}."""
    model = zoo.build(zoo.methods.Single(), backbone, source.num_classes, (*size, 3))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), model.loss)
    batches = streams.training(
        source, batch_size, seed=0, epoch=0, epochs=1000, image_size=size
    ).as_numpy_iterator()
    images, labels = next(batches)
    fixed = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)
    enough = max(steps, source.num_examples // batch_size - steps)  # more than was prefetched
    kinds = {
        "input": (lambda: next(batches), enough),
        "compute": (lambda: model.train_on_batch(*fixed), steps),
        "together": (lambda: model.train_on_batch(*next(batches)), steps),
    }
    times = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):  # the first compiles
        for kind, (step, count) in kinds.items():
            start = time.perf_counter()
            for _ in range(count):
                step()
            times[kind].append(count * batch_size / (time.perf_counter() - start))
    return {kind: statistics.median(values[1:]) for kind, values in times.items()}


def report(source, options):
    """All that is measured, as a dictionary."""
    size = (options.image_size, options.image_size)
    costs = stage_costs(source, size, options.rounds)
    a_core = 1e6 / costs["whole"]
    found = {
        "images": source.num_examples,
        "bytes_an_image": _mean_size(source),
        "cores": len(os.sched_getaffinity(0)),
        "cpu_us_an_image": {stage: round(cost) for stage, cost in costs.items()},
        "images_s_a_core": round(a_core),
        "cores_needed": {str(rate): round(rate / a_core, 1) for rate in options.rates},
    }
    if options.backbone:
        speeds = rates(source, size, options.backbone, options.batch_size, options.steps, options.rounds)
        found |= {"backbone": options.backbone, "backend": keras.backend.backend()}
        found |= {"batch_size": options.batch_size}
        found |= {f"{kind}_images_s": round(speed, 1) for kind, speed in speeds.items()}
        found["bound_by"] = "input" if speeds["input"] < speeds["compute"] else "compute"
        found["busy"] = round(speeds["together"] / speeds["compute"], 2)
    return found


def _mean_size(source):
    sizes = tfrecords.in_order(source).map(lambda i, record: tf.strings.length(record)).batch(64)
    return round(float(np.mean([size for batch in sizes.as_numpy_iterator() for size in batch])))


def sentence(found):
    """The report in words."""
    cores = ", ".join(f"{cores} for {rate} images/s" for rate, cores in found["cores_needed"].items())
    text = f"A core makes {found['images_s_a_core']} images/s; cores needed: {cores}."
    if "backbone" not in found:
        return text
    return (
        f"{text} On {found['cores']} cores the pipeline alone gives {found['input_images_s']} images/s, "
        f"{found['backbone']} alone takes {found['compute_images_s']}, both together reach "
        f"{found['together_images_s']}: bound by {found['bound_by']}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument(
        "--data_dir", help="where the images are written, or were, outside the repository"
    )
    parser.add_argument("--backbone", default="resnet18", help="empty measures the pipeline alone")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="*", default=[1000.0, 3000.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = pathlib.Path(options.data_dir or folder)
        if not (data_dir / "imagenet2012").exists():
            write_tfds(data_dir, photographs(options.images))
        found = report(
            streams.open_split("imagenet2012", f"train[:{options.images}]", data_dir), options
        )
    print(json.dumps(found, indent=1))
    print(sentence(found))


if __name__ == "__main__":
    main()
