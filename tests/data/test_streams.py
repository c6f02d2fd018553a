"""Streams of encoded images: exact batches whatever the workers, and what real sets of JPEGs hold."""

import dataclasses
import importlib.util
import io

import keras
import numpy as np
import pytest
from PIL import Image

from helpers.images import encode
from helpers.paths import ROOT

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

from zoo.data import arrays, streams, tfrecords  # noqa: E402
from zoo.data.epoch_shuffle import EpochShuffle  # noqa: E402
from zoo.training import streams as public_streams  # noqa: E402

SIZE, BATCH = (16, 16), 6
SETTINGS = {
    "records": {},
    "cache": {"cache": True},
    "files": {"shuffle": "files", "block": 10},
}


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "input_pipeline.py"
    spec = importlib.util.spec_from_file_location("input_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Where the places of records are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def source(benchmark, tmp_path_factory):
    """43 small photographs in seven files, each of a class of its own."""
    folder = tmp_path_factory.mktemp("imagenet")
    benchmark.write_tfds(folder, benchmark.photographs(43, long=(60, 80), short=(40, 60)), files=7)
    return streams.open_split("imagenet2012", "train", folder)


@pytest.fixture
def written(benchmark, tmp_path):
    """Write encoded images and open them."""

    def write(images, **options):
        benchmark.write_tfds(tmp_path, images, **options)
        return streams.open_split(options.get("name", "imagenet2012"), "train", tmp_path)

    return write


def batches(source, batch_size=BATCH, epoch=0, seed=3, **options):
    stream = streams.training(source, batch_size, seed=seed, epoch=epoch, image_size=SIZE, **options)
    return list(stream.as_numpy_iterator())


def same(some, others):
    assert len(some) == len(others) > 0
    for (images, labels), (more, names) in zip(some, others, strict=True):
        np.testing.assert_array_equal(labels, names)
        np.testing.assert_array_equal(images, more)


def joined(parts):
    """The workers' parts of each step as one batch."""
    return [
        tuple(np.concatenate(piece) for piece in zip(*step, strict=True))
        for step in zip(*parts, strict=True)
    ]


def test_the_public_module_has_the_old_name_of_open_split():
    assert public_streams.open is public_streams.open_split is streams.open_split


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_workers_together_see_the_batches_of_one(source, setting):
    whole = batches(source, **SETTINGS[setting])
    assert len(whole) == 43 // BATCH
    for images, labels in whole:
        assert images.shape == (BATCH, *SIZE, 3) and images.dtype == "uint8"
        assert labels.shape == (BATCH,) and labels.dtype == "int32"
    labels = np.concatenate([labels for _, labels in whole])
    assert len(set(labels)) == len(labels)
    for workers in (2, 3):
        parts = [
            batches(source, worker=w, num_workers=workers, **SETTINGS[setting]) for w in range(workers)
        ]
        same(joined(parts), whole)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_epochs_differ_and_a_restart_goes_on_exactly(source, setting):
    options = SETTINGS[setting]
    whole = batches(source, epochs=2, **options)
    assert len(whole) == 14 and (whole[0][1] != whole[7][1]).any()
    same(batches(source, epochs=2, first_step=5, **options), whole[5:])
    parts = [batches(source, epoch=1, first_step=6, worker=w, num_workers=2, **options) for w in (0, 1)]
    same(joined(parts), whole[13:])
    assert (batches(source, seed=4, **options)[0][1] != whole[0][1]).any()


@pytest.mark.slow
def test_order_is_that_of_arrays_and_crops_belong_to_examples(source):
    whole = batches(source, epoch=2)
    expected = np.random.default_rng([3, 2]).permutation(43)[:42]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in whole]), expected)
    pictures = {label: image for batch in whole for image, label in zip(*batch)}
    for batch in batches(source, epoch=2, **SETTINGS["files"]):
        for image, label in zip(*batch):
            if label in pictures:
                np.testing.assert_array_equal(image, pictures[label])


@pytest.mark.slow
def test_nothing_depends_on_global_seeds(source):
    before = batches(source, **SETTINGS["files"])
    keras.utils.set_random_seed(77)
    same(batches(source, **SETTINGS["files"]), before)


@pytest.mark.slow
def test_replicas_take_their_parts_in_turn(source):
    whole, parts = batches(source), batches(source, replicas=3)
    assert {len(labels) for _, labels in parts} == {2}
    same([tuple(map(np.concatenate, zip(*parts[i : i + 3]))) for i in range(0, len(parts), 3)], whole)


@pytest.mark.slow
def test_files_of_their_own(source):
    parts = [
        batches(source, worker=w, num_workers=3, shard="files", **SETTINGS["files"]) for w in range(3)
    ]
    seen = [{int(label) for _, labels in part for label in labels} for part in parts]
    assert all(len(part) == 7 and len(part[0][1]) == 2 for part in parts)
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    again = batches(source, worker=1, num_workers=3, first_step=5, shard="files", **SETTINGS["files"])
    same(again, parts[1][5:])


@pytest.mark.slow
def test_half_of_the_images_are_mirrored(source):
    pairs = [
        (image, other)
        for (images, _), (others, _) in zip(batches(source), batches(source, flip=False), strict=True)
        for image, other in zip(images, others, strict=True)
    ]
    straight = [(image == other).all() for image, other in pairs]
    assert all(same or (image == other[:, ::-1]).all() for same, (image, other) in zip(straight, pairs))
    assert 10 < sum(straight) < 32


def test_evaluation_is_in_order(source):
    found = list(streams.evaluation(source, 20, image_size=SIZE).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), range(43))
    assert len(list(streams.evaluation(source, 20, image_size=SIZE, drop_remainder=True))) == 2


def photograph(benchmark):
    [encoded] = benchmark.photographs(1, long=(60, 80), short=(40, 60))
    return np.asarray(Image.open(io.BytesIO(encoded)))


def test_images_that_cannot_be_decoded(benchmark, written):
    good = [encode(photograph(benchmark), quality=95)] * 12
    good[5] = good[5][: len(good[5]) * 2 // 3]
    good[9] = b""
    source = written(good, files=3)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"record 1 of .*tfrecord-00001 cannot be dec"
    ):
        list(streams.evaluation(source, 6, image_size=SIZE))
    [(images, _)] = streams.evaluation(source, 12, image_size=SIZE, broken="blank").as_numpy_iterator()
    blank = [bool((image == 128).all()) for image in images]
    assert [i for i, grey in enumerate(blank) if grey] == [5, 9]
    order = streams.order(3, 0, 12).tolist()
    last = max(order.index(5), order.index(9))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"record 1 of .*tfrecord-0000[12] cannot be"
    ):
        batches(source, 1, first_step=last)
    if last < 11:
        assert len(batches(source, 1, first_step=last + 1)) == 11 - last  # not even decoded


@pytest.mark.slow
def test_small_images_as_arrays_have_them(written, tmp_path):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (50, 8, 8, 3), "uint8"), rng.integers(0, 10, 50)
    feature = tfds.features.Image(shape=(8, 8, 3), encoding_format="png")
    pngs = [encode(image, "PNG") for image in pixels]
    source = written(pngs, labels=labels, name="pictures", feature=feature, files=3)
    assert source.image_shape == (8, 8, 3) and source.num_classes == 1000 and source.num_examples == 50
    split = arrays.load("pictures", "train", tmp_path)
    np.testing.assert_array_equal(split.images, pixels)
    expected = EpochShuffle(split, 7, seed=3, epoch=4)
    same(batches(source, 7, epoch=4, crop="none", flip=False), [expected[i] for i in range(7)])
    part = streams.open_split("pictures", "train[10:40]", tmp_path)
    [(images, found)] = streams.evaluation(part, 30, crop="none").as_numpy_iterator()
    np.testing.assert_array_equal(found, labels[10:40])
    for options in SETTINGS.values():
        for images, _ in batches(part, 30, crop="none", flip=False, **options):
            assert sorted(images.sum((1, 2, 3))) == sorted(pixels[10:40].sum((1, 2, 3)))
    assert part.place(0).numpy().decode().startswith("record 10 of ")


def test_any_backend_learns_from_a_stream(source):
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1000)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stream = streams.training(source, BATCH, seed=0, epoch=0, epochs=2, image_size=SIZE)
    history = model.fit(stream, epochs=2, steps_per_epoch=7, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    if keras.backend.backend() != "tensorflow":
        assert not tf.config.get_visible_devices("GPU")


def test_what_is_missing(source, benchmark, tmp_path, raises_line):
    with raises_line(FileNotFoundError, "no prepared imagenet2012 in "):
        streams.open_split("imagenet2012", "train", tmp_path)
    with raises_line(FileNotFoundError, "no prepared nonsense in "):
        streams.open_split("nonsense", "train", tmp_path)
    benchmark.write_tfds(tmp_path, benchmark.photographs(2, long=(60, 80), short=(40, 60)), files=1)
    with raises_line(FileNotFoundError, "has no split 'validation'; there are train"):
        streams.open_split("imagenet2012", "validation", tmp_path)
    [file] = (tmp_path / "imagenet2012" / "5.1.0").glob("*tfrecord*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    broken = streams.open_split("imagenet2012", "train", tmp_path)
    with raises_line(ValueError, "ends within a record"):
        batches(broken, 1)
    file.write_bytes(whole[: 16 + int.from_bytes(whole[:8], "little")])
    with raises_line(ValueError, "has 1 of 2 records"):
        batches(broken, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 44}, "batch_size=44 is more than the 43 training images"),
        ({"num_workers": 5}, "batch_size=6 must be a multiple of 5"),
        ({"num_workers": 2, "worker": 2}, "worker=2 must be from 0 to 1"),
        ({"first_step": 7}, "first_step=7 must be from 0 to 6"),
        ({"crop": "none"}, "differ in size"),
        ({"crop": "centre"}, 'crop must be "random_resized" or "none"'),
        ({"shuffle": "all"}, 'shuffle must be "records" or "files"'),
        ({"broken": "skip"}, 'broken must be "raise" or "blank"'),
        ({"shuffle": "files", "shard": "x"}, 'shard must be "batches" or "files"'),
        (
            {"shuffle": "files", "shard": "files", "batch_size": 12, "num_workers": 12},
            "gives 7 files to 12 workers",
        ),
    ],
)
def test_refusals(source, raises_line, options, message):
    with raises_line(ValueError, message):
        batches(source, **options)


def test_cache_needs_memory(source, raises_line, monkeypatch):
    monkeypatch.setattr(tfrecords.os, "sysconf", lambda name: 100)
    with raises_line(ValueError, "cache=True needs 0.0 GB for imagenet2012 and the machine has 0.0 GB"):
        batches(dataclasses.replace(source), cache=True)
