"""Training from the command line, resumed after a kill, and from TensorFlow Datasets' folders."""

import csv
import dataclasses
import json
import signal
import time

import numpy as np
import pytest

import zoo
from helpers import forks
from zoo.data.arrays import load
from zoo.training import recipes
from zoo.training.loop import run

EPOCHS = 12
ARGUMENTS = [
    "--recipe=cifar10_packed_lenet", f"--epochs={EPOCHS}", "--batch_size=8", "--num_members=2",
    "--held_out=0.25", "--learning_rate=0.01",
]  # fmt: skip


def command(data_dir, output_dir, *more):
    folders = [f"--data_dir={data_dir}", f"--output_dir={output_dir}"]
    return ["-m", "zoo.training.train", *ARGUMENTS, *folders, *more]


@pytest.fixture(scope="module")
def whole(forked_python, data_dir, tmp_path_factory):
    """The folder and the output of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, forked_python(*command(data_dir, folder))


def test_a_run_leaves_all_that_is_known_of_it(whole):
    folder, process = whole
    config = json.loads((folder / "config.json").read_text())
    assert (config["name"], config["dataset"]) == ("packed_lenet", "cifar10")
    assert config["recipe"]["epochs"] == EPOCHS and config["recipe"]["alpha"] == 2.0
    assert config["steps_per_epoch"] == 9
    assert config["metrics"]["cifar10"]["images"] == 40 and config["held_out"]["images"] == 24
    assert set(ARGUMENTS) <= set(config["command"].split()) and str(folder) not in config["command"]
    assert config["software"]["keras"] and config["hardware"] and config["licence"] == "Apache-2.0"
    assert f"epoch {EPOCHS}/{EPOCHS}" in process.stderr and "100%" in process.stderr
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(EPOCHS))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["val_loss"]) > 0
    assert list((folder / "tensorboard").rglob("events.out.*"))
    assert zoo.load("packed_lenet", weights=folder).num_members == 2


@pytest.mark.slow
def test_a_killed_run_goes_on_to_exactly_the_same_weights(whole, forked_python, data_dir, tmp_path):
    process = forks.start(command(data_dir, tmp_path), tmp_path)
    try:
        while not (tmp_path / "checkpoint.json").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = json.loads((tmp_path / "checkpoint.json").read_text())["epochs"]
    assert 1 <= done < EPOCHS and not (tmp_path / "config.json").exists()

    resumed = forked_python(*command(data_dir, tmp_path))
    assert (
        f"epoch {done + 1}/{EPOCHS}" in resumed.stderr and f"epoch {done}/{EPOCHS}" not in resumed.stderr
    )
    models = [zoo.load("packed_lenet", weights=folder) for folder in (whole[0], tmp_path)]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    with open(tmp_path / "log.csv") as file:
        assert {int(row["epoch"]) for row in csv.DictReader(file)} == set(range(EPOCHS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "pattern"),
    [
        (["--alpha=4"], "another recipe"),
        (["--recipe=cifar10_packed_vgg"], "unknown recipe 'cifar10_packed_vgg'"),
        (["--recipe=cifar10_swag_lenet", "--output_dir=new"], "unknown method 'swag'"),
        (["--data_dir=nowhere"], "no folder nowhere"),
        (["--precision=float7"], "float7"),
        (["--milestones=a,b"], "milestones"),
    ],
)
def test_wrong_commands_fail_in_one_line(more, pattern, whole, forked_python, data_dir):
    process = forked_python(*command(data_dir, whole[0], *more), succeeds=False)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("zoo.training.train: ") and pattern in last


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """MNIST as TensorFlow Datasets prepares it, with 30 and 10 images of our own."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(8)
    arrays = {
        name: (rng.integers(0, 256, (count, 28, 28, 1), "uint8"), np.arange(count) % 10)
        for name, count in (("train", 30), ("test", 10))
    }
    builder = tfds.builder("mnist", data_dir=str(folder))

    def examples(split):
        for i, (image, label) in enumerate(zip(*arrays[split], strict=True)):
            yield i, {"image": image, "label": int(label)}

    builder._split_generators = lambda *a, **k: {split: examples(split) for split in arrays}
    builder.download_and_prepare()
    return folder, arrays


def test_prepared_tfds_folders_are_read(tfds_folder, raises_line):
    folder, arrays = tfds_folder
    for name, (images, labels) in arrays.items():
        loaded = load("mnist", name, folder)
        assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int32
        given = {image.tobytes(): label for image, label in zip(*loaded, strict=True)}
        assert given == {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        np.testing.assert_array_equal(loaded.labels, load("mnist", name, str(folder)).labels)
    with raises_line(FileNotFoundError, "fashion_mnist"):
        load("fashion_mnist", "train", folder)


@pytest.mark.slow
def test_a_run_by_streaming_is_the_run_of_arrays(tfds_folder, tmp_path):
    """Small images as they are: the same batches, read while it trains, and so the same weights."""
    folder, _ = tfds_folder
    recipe = recipes.Recipe(
        "mnist", "single", "mlp", batch_size=4, epochs=2, learning_rate=0.001, flip=False, shift=1
    )  # low enough to converge: a diverging run would compare NaN
    for name, stream in (("arrays", False), ("stream", True)):
        run.train(dataclasses.replace(recipe, stream=stream), folder, tmp_path / name)
    one, two = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("arrays", "stream")
    )
    assert np.isfinite(one["metrics"]["mnist"]["nll"])
    assert one["files"] == two["files"] and one["metrics"] == two["metrics"]
    with pytest.raises(ValueError, match="set held_out=0"):
        run.train(dataclasses.replace(recipe, stream=True, held_out=0.1), folder, tmp_path / "held")
