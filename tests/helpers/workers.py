"""Processes that share the networks of an ensemble, of which some die."""

import dataclasses
import os
import signal
import time

from helpers import forks
from zoo.files import config_files, hashes
from zoo.training import recipes

# A script of zoo.training that kills itself after step N > 0, once so many networks are begun.
WORKER = """
import importlib, os, pathlib, signal, sys, time
from absl import app
from zoo.training.loop.preemption import SaveOnSignal
script, step, begun, networks, *flags = sys.argv[1:]
look, steps = SaveOnSignal.on_train_batch_end, [0]
def after_batch(self, batch, logs=None):
    steps[0] += 1
    if steps[0] == int(step):
        while len(list(pathlib.Path(networks).glob("*"))) < int(begun):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    look(self, batch, logs)
SaveOnSignal.on_train_batch_end = after_batch
app.run(importlib.import_module(f"zoo.training.{script}").main, argv=[script, *flags])
"""


FIELDS = {"epochs": 3, "batch_size": 5, "learning_rate": 0.01, "seed": 7}


def recipe_of(method, **fields):
    """Twenty steps an epoch of the hundred images."""
    return dataclasses.replace(recipes.recipe(f"mnist_{method}_mlp"), **FIELDS, **fields)


def checksums(folder):
    """sha256 of the weights that a run left, which they have."""
    files = config_files.read_config(folder)["files"]
    assert {name: hashes.fingerprint(folder / name) for name in files} == files
    return [file["sha256"] for file in files.values()]


def start(script, data, folder, *more, step=0, begun=0):
    """A process that works on networks in `folder`."""
    networks = folder / ("members" if script == "members" else "networks")
    fields = [f"--{name}={value}" for name, value in FIELDS.items()]
    command = [
        "-W", "ignore", "-c", WORKER, script, step, begun, networks, *fields, *more, "--num_members=3",
        "--tensorboard=false", "--jit_compile=false", f"--data_dir={data}", f"--output_dir={folder}",
    ]  # fmt: skip
    return forks.start(command, cwd=data, env=os.environ | {"OMP_NUM_THREADS": "1"})


def outputs(processes):
    """What processes wrote until their end."""
    return [process.communicate(timeout=500)[1] for process in processes]


def three_workers(script, data, folder, *flags):
    """Three processes on three networks, the first of which is killed within its own; their outputs."""
    flags = (*flags, "--heartbeat=3")
    dying = start(script, data, folder, *flags, step=26, begun=3)
    while not list(folder.glob("*/*.attempt*")):
        assert dying.poll() is None, dying.communicate()[1]
        time.sleep(0.05)
    workers = [dying, start(script, data, folder, *flags), start(script, data, folder, *flags)]
    found = outputs(workers)
    assert [process.returncode for process in workers] == [-signal.SIGKILL, 0, 0], found
    assert (folder / "config.json").is_file()
    return found
