"""The folder of a run: it takes no other data, damage, second process or full disk for its own."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from helpers.workers import checksums
from zoo.checked_training import NotFiniteError
from zoo.files import json_files
from zoo.training import recipes
from zoo.training.loop import checkpoint, identity, run

RECIPE = dataclasses.replace(
    recipes.recipe("mnist_single_mlp"), epochs=2, batch_size=8, learning_rate=0.01, held_out=0.1
)


def _train(data, folder, recipe=RECIPE, **options):
    return run.train(recipe, data, folder, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mnist_28):
    """A run of two epochs with its checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    _train(mnist_28, folder)
    return folder


@pytest.fixture
def unfinished(tmp_path, finished):
    """The same before `config.json` was written."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    for path in finished.iterdir():
        if path.is_file() and path.name != "config.json":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(finished, mnist_28, raises_line):
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    assert _train(mnist_28, finished) == json.loads((finished / "config.json").read_text())
    with raises_line(ValueError, "on other training images or labels"):
        _train(mnist_28, finished, limit=80)
    with raises_line(ValueError, "finished run of another recipe"):
        _train(mnist_28, finished, dataclasses.replace(RECIPE, seed=1))
    assert before == {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}


def test_other_data_and_flags_are_not_resumed(unfinished, mnist_28, tmp_path, raises_line):
    with raises_line(ValueError, r"on other training images or labels \(144, not 72\)"):
        _train(mnist_28, unfinished, limit=80)
    with np.load(mnist_28 / "mnist.npz") as found:
        changed = dict(found)
    changed["y_train"] = changed["y_train"][::-1].copy()
    np.savez(tmp_path / "mnist.npz", **changed)
    with raises_line(ValueError, "on other training images or labels"):
        _train(tmp_path, unfinished)
    with raises_line(ValueError, r"another recipe \(epochs=2, not 3\)"):
        _train(mnist_28, unfinished, dataclasses.replace(RECIPE, epochs=3))
    with raises_line(ValueError, "without --remat"):
        _train(mnist_28, unfinished, remat=True)


@pytest.mark.fast("cut")
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "state", "pointer"])
def test_a_damaged_checkpoint_falls_back_to_the_other(damage, unfinished, finished, mnist_28):
    newest = json.loads((unfinished / "checkpoint.json").read_text())
    path = unfinished / newest["weights"]
    if damage == "flipped":
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    else:
        name = "checkpoint.json" if damage == "pointer" else path.name.replace(".weights.h5", ".json")
        (unfinished / name).write_text('{"epochs": 1, "steps"')
    _train(mnist_28, unfinished)
    assert checksums(unfinished) == checksums(finished)
    log = (unfinished / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]


def test_two_damaged_checkpoints_are_refused(unfinished, mnist_28, raises_line):
    for name in checkpoint.NAMES:
        (unfinished / name).write_bytes(b"nothing")
    with raises_line(ValueError, r"no checkpoint in .* is whole \(sha256\); delete"):
        _train(mnist_28, unfinished)


@pytest.mark.parametrize(
    "damage", ["list", "pipe", "epochs", "weights", "sha256", "random", "remat", "recipe", "data"]
)
def test_a_state_that_is_not_a_state_or_lacks_an_entry_is_not_whole(damage, unfinished, raises_line):
    for name in ("checkpoint.json", "checkpoint-0.json", "checkpoint-1.json"):
        path = unfinished / name
        state = json.loads(path.read_bytes())
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
        elif damage == "list":
            path.write_text("[]")
        else:
            del state["digest"], state[damage]
            path.write_text(json.dumps({**state, "digest": json_files.digest(state)}))
    with raises_line(ValueError, r"no checkpoint in .* is whole"):
        checkpoint.Checkpoint(unfinished, RECIPE).position()


def test_log_has_each_epoch_once(tmp_path):
    path = tmp_path / "log.csv"
    identity.trim_log(path, 3)
    assert not path.exists()
    path.write_text("epoch,loss\n0,1.5\n1,1.25\n1,1.2\n2,1.0\n3,0.9\n4,0.")
    identity.trim_log(path, 3)
    assert path.read_text() == "epoch,loss\n0,1.5\n1,1.2\n2,1.0\n"
    identity.trim_log(path, 0)
    assert path.read_text() == "epoch,loss\n"


HOLDS = """
import pathlib, sys
from zoo.training.loop import identity
with identity.alone_in(pathlib.Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_stops_before_it_touches_anything(unfinished, mnist_28, raises_line):
    before = {path: path.read_bytes() for path in unfinished.iterdir()}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, unfinished], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"holds\n"
        with raises_line(ValueError, "another process trains in .*; wait for it"):
            _train(mnist_28, unfinished)
        assert before == {path: path.read_bytes() for path in unfinished.iterdir()}
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    with identity.alone_in(unfinished):  # the kernel gave it back
        pass


def test_a_folder_that_cannot_be_written_to(mnist_28, tmp_path, raises_line):
    (tmp_path / "file").write_text("")
    with raises_line(OSError, "cannot write to .*; make room there, or choose another --output_dir"):
        _train(mnist_28, tmp_path / "file")
    with raises_line(OSError, "cannot write to /proc/run"):
        _train(mnist_28, pathlib.Path("/proc/run"))


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(
    unfinished, mnist_28, monkeypatch, raises_line, finished
):
    (unfinished / "checkpoint.json").unlink()
    newest = json.loads((unfinished / "checkpoint-1.json").read_text())
    assert newest["epochs"] == 2
    (unfinished / "checkpoint-1.json").unlink()

    def full(model, path):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(28, "Can't write data\n(file write failed: No space left on device)")

    with monkeypatch.context() as patched:
        patched.setattr("zoo.classifier.EnsembleClassifier.save_weights", full)
        with raises_line(OSError, "cannot save a checkpoint in .*No space left.*the one before is kept"):
            _train(mnist_28, unfinished)
    _train(mnist_28, unfinished)
    assert checksums(unfinished) == checksums(finished)


def test_divergence_keeps_the_last_checkpoint(mnist_28, tmp_path, raises_line):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, warm_up=0.75, epochs=4, schedule="linear")
    recipe = dataclasses.replace(recipe, momentum=0.0, weight_decay=0.0)
    with raises_line(NotFiniteError, "training is lost"):
        _train(mnist_28, tmp_path, recipe)
    assert not (tmp_path / "config.json").exists()
    assert not _not_finite(tmp_path / "checkpoint-0.weights.h5")
    assert not _not_finite(tmp_path / "checkpoint-1.weights.h5")


def _not_finite(path):
    """Names of the arrays of a weights file that hold NaN; none of a missing file."""
    names = []

    def look(name, item):
        if isinstance(item, h5py.Dataset) and not np.isfinite(item[()]).all():
            names.append(name)

    if path.is_file():
        with h5py.File(path) as file:
            file.visititems(look)
    return names


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: d.update(y_train=d["y_train"][:-1]), "160 images and 159 labels"),
        (lambda d: d.update(y_test=d["y_test"] + 9), "the test data of mnist: labels run from 9 to 12"),
        (lambda d: d.update(y_train=d["y_train"] + 0.5), "integer labels expected, got fractions"),
        (lambda d: d.update(y_train=d["y_train"].astype("int64") + 2**32), "got 4294967296 to"),
        (
            lambda d: d.update(y_train=d["y_train"].astype("int64") + 10**9),
            "go to 1000000003, and there are at most",
        ),
        (lambda d: d.update(x_test=d["x_test"][:, :20]), r"the test data of mnist: images must be"),
        (lambda d: d.update(x_train=d["x_train"] * np.float32("nan")), "hold NaN or infinite"),
    ],
)
def test_data_that_cannot_be_learnt(change, line, mnist_28, tmp_path, raises_line):
    with np.load(mnist_28 / "mnist.npz") as found:
        data = dict(found)
    change(data)
    np.savez(tmp_path / "mnist.npz", **data)
    with raises_line(ValueError, line):
        _train(tmp_path, tmp_path / "run")
