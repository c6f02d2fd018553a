"""Runs of several workers that are killed or told to stop, and end as undisturbed ones.

What happens to a run alone is in training/test_train.py (killed), loop/test_run.py and training/test_fill.py (told).
"""

import json
import subprocess

import numpy as np
import pytest

from helpers.clusters import cluster_of, start
from helpers.paths import HELPERS
from helpers.workers import checksums
from zoo.files import json_files
from zoo.files.hashes import fingerprint
from zoo.training import recipes
from zoo.training.devices.placement import Placement
from zoo.training.loop import checkpoint

WORKER = HELPERS / "dying_worker.py"
# Twenty steps an epoch, three epochs.
FLAGS = ["--recipe=mnist_single_lenet", "--batch_size=8", "--epochs=3", "--held_out=0.1",
         "--tensorboard=false", "--learning_rate=0.01"]  # fmt: skip


def several(folder, data, strategy, deaths, backend):
    """A run on two workers, each in a folder of its own as on machines of their own."""
    processes = [
        start(
            [WORKER, *death, *FLAGS, f"--data_dir={data}", f"--output_dir={folder / str(index)}",
             f"--strategy={strategy}"], backend, config,
        )
        for index, (death, config) in enumerate(zip(deaths, cluster_of(2)))
    ]  # fmt: skip
    outputs = []
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=600)[0])
        except subprocess.TimeoutExpired:
            process.kill()
            outputs.append("hung " + process.communicate()[0])
    return outputs, [process.returncode for process in processes]


LIVES = ("NONE", 0)


def position(folder):
    """(epochs, steps of the next one) that a checkpoint has seen."""
    state = json.loads((folder / "checkpoint.json").read_text())
    return state["epochs"], state["steps"]


# What happens in one run after the other: to which worker, after how many steps, and where it goes on.
LIVES_OF_A_RUN = {
    "multi_worker": [("KILL", 0, 26, (1, 0)), ("TERM", 1, 5, (1, 8))],
    "data_parallel": [("KILL", 1, 26, (1, 0)), ("TERM", 0, 5, (1, 8))],
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", LIVES_OF_A_RUN)
def test_workers_that_die_end_as_if_undisturbed(mnist_28, tmp_path, strategy):
    backend = "tensorflow" if strategy == "multi_worker" else "jax"
    outputs, statuses = several(tmp_path / "whole", mnist_28, strategy, [LIVES, LIVES], backend)
    assert statuses == [0, 0], outputs
    for signal, worker, step, kept in LIVES_OF_A_RUN[strategy]:
        deaths = [LIVES, LIVES]
        deaths[worker] = (signal, step)
        outputs, statuses = several(tmp_path, mnist_28, strategy, deaths, backend)
        if signal == "TERM":
            assert statuses == [0, 0], outputs
        else:
            assert statuses[worker] == -9 and statuses[1 - worker] not in (0, None), outputs
            assert "hung" not in outputs[1 - worker]
        assert max(position(tmp_path / "0"), position(tmp_path / "1" / "worker-1")) == kept
    outputs, statuses = several(tmp_path, mnist_28, strategy, [LIVES, LIVES], backend)
    assert statuses == [0, 0], outputs
    assert checksums(tmp_path / "0") == checksums(tmp_path / "whole" / "0")
    assert not (tmp_path / "1" / "config.json").exists()  # the first worker alone exports


class TwoWorkers(Placement):
    """One of two workers whose exchanges are played back: what the other sends is known."""

    workers = 2

    def __init__(self, worker, other):
        self.worker, self.other = worker, list(other)

    def sum(self, array):
        return array + self.other.pop(0)


def test_the_furthest_checkpoint_is_sent_to_a_worker_with_an_empty_disk(tmp_path):
    recipe = recipes.Recipe("mnist", "single", "lenet")
    full, empty = tmp_path / "full", tmp_path / "empty"
    for folder in (full, empty):
        folder.mkdir()
    source = checkpoint.Checkpoint(full, recipe)
    (full / "checkpoint-1.weights.h5").write_bytes(b"weights, of a length that is not a multiple of 4")
    digest = fingerprint(full / "checkpoint-1.weights.h5")["sha256"]
    state = {"epochs": 3, "steps": 2, "weights": "checkpoint-1.weights.h5", "sha256": digest, "remat": False,
             "recipe": source.recipe, "data": source.data, "random": [], "seconds": 1.5}  # fmt: skip
    for name in ("checkpoint.json", "checkpoint-1.json"):
        (full / name).write_text(json.dumps({**state, "digest": json_files.digest(state)}))

    def sent(contents):
        padded = np.frombuffer(contents.ljust(-(-len(contents) // 4) * 4, b"\0"), "int32")
        return [np.array([len(contents)], "int32"), padded]

    exchanged = [np.array([[3, 2], [0, 0]], "int32")]
    for contents in (b"checkpoint-1.weights.h5", (full / "checkpoint-1.weights.h5").read_bytes(),
                     source.state.read_bytes()):  # fmt: skip
        exchanged += sent(contents)
    target = checkpoint.Checkpoint(empty, recipe)
    target.share(TwoWorkers(1, exchanged))
    assert target.position() == (3, 2)
    for path in full.iterdir():
        assert (empty / path.name).read_bytes() == path.read_bytes()
