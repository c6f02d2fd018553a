"""Training on several devices and in several processes: the same weights as on one device."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from helpers.clusters import cluster_of, start
from helpers.paths import HELPERS
from zoo.training import recipes
from zoo.training.devices import choose
from zoo.training.devices.placement import Placement, check, cluster

WORKER = HELPERS / "distributed_worker.py"
RECIPE = recipes.Recipe("mnist", "single", "lenet", batch_size=16)


DOUBLE = {"precision": "float64"}
# On one device, on two of a process, and with two workers.
# In double precision: what float32 rounds differently, rectifiers turn into differences of 1e-5 to 1e-4.
JOBS = {
    "packed": {"method": "packed", **DOUBLE},
    "tickets": {"method": "tickets", **DOUBLE},
    # Each replica shuffles its own rows; with one image a row for all members that is only their order.
    "mimo": {"method": "mimo", "arguments": "input_repetition_probability=1.0", **DOUBLE},
}
# Without workers: what sums up their gradients is the same for all methods and precisions.
ALSO_MIRRORED = {
    "batch_ensemble": {"method": "batch_ensemble", **DOUBLE},
    "float32": {"method": "single", "batch_size": 32, "learning_rate": 0.005},
    "steps": {"method": "packed", "steps_per_execution": 5, **DOUBLE},
    # In short steps: what a processor rounds to 8 bits, twenty long ones drive apart.
    "bfloat16": {"method": "packed", "precision": "bfloat16", "learning_rate": 0.001},
    "float16": {"method": "packed", "precision": "float16", "learning_rate": 0.001},
}
# In float32, and so in short steps.
ON_JAX = {name: {"method": name, "learning_rate": 0.002} for name in ("packed", "tickets", "mimo")}
ALSO_PARALLEL = {"batch_ensemble": {"method": "batch_ensemble", "learning_rate": 0.002}}


def finish(*processes):
    try:
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()


def train_everywhere(mnist_28, folder, backend, one, several, jobs, more):
    """Do all jobs on one device, on two of one process, and, but for `more`, with two workers."""

    def begin(place, strategy, devices, jobs, config=None):
        command = [WORKER, mnist_28, folder / place, strategy, devices, json.dumps(jobs)]
        return start(command, backend, config)

    finish(begin("one", "none", 0, jobs | more), begin("two", one, 2, jobs | more))
    finish(*(begin("workers", several, 0, jobs, config) for config in cluster_of(2)))
    return folder


@pytest.fixture(scope="module")
def strategies(mnist_28, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    return train_everywhere(
        mnist_28, folder, "tensorflow", "mirrored", "multi_worker", JOBS, ALSO_MIRRORED
    )


@pytest.fixture(scope="module")
def parallel(mnist_28, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    return train_everywhere(
        mnist_28, folder, "jax", "data_parallel", "data_parallel", ON_JAX, ALSO_PARALLEL
    )


def weights(folder):
    with np.load(folder / "weights.npz") as arrays:
        return [arrays[name] for name in arrays]


def assert_same(folder, name, tolerance):
    """The weights of one device everywhere, and a saved model that answers as each replica does."""
    expected = weights(folder / "one" / f"{name}-0")
    for place, replicas, workers in (("two", 2, 1), ("workers", 1, 2 * (name in JOBS | ON_JAX))):
        for worker in range(workers):
            trained = folder / place / f"{name}-{worker}"
            for a, b in zip(weights(trained), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
            answers, of_replicas = np.load(trained / "answers.npy"), np.load(trained / "replicas.npy")
            assert len(of_replicas) in (1, replicas)
            np.testing.assert_allclose(
                of_replicas, np.broadcast_to(answers, of_replicas.shape), atol=1e-5
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packed", "batch_ensemble", "tickets", "mimo", "steps"])
def test_strategies_give_the_weights_of_one_device(strategies, name):
    assert_same(strategies, name, 1e-7)
    replicas = np.load(strategies / "two" / f"{name}-0" / "replicas.npy")
    assert len(replicas) == 2


@pytest.mark.slow
def test_strategies_agree_in_single_precision_too(strategies):
    assert_same(strategies, "float32", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_strategies_train_in_half_precision_with_float32_weights(strategies, name):
    one, two = (weights(strategies / place / f"{name}-0") for place in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert a.dtype == b.dtype == "float32"
        assert np.any(a != a.astype("float16")), "weights are rounded to half precision"
        assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(a) + 0.1


@pytest.mark.slow
def test_several_steps_an_execution_change_nothing(strategies):
    for place in ("one", "two"):
        for a, b in zip(*(weights(strategies / place / f"{name}-0") for name in ("packed", "steps"))):
            np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_JAX | ALSO_PARALLEL)
def test_jax_data_parallel_gives_the_weights_of_one_device(parallel, name):
    assert_same(parallel, name, 1e-5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"batch_size": 15}, "choose 14 or 16"),
        ({"accumulate": 2}, "accumulate.*data_parallel"),
        ({"clip_norm": 1.0}, "clip.*data_parallel"),
    ],
)
def test_what_a_strategy_cannot_do_is_refused(fields, reason):
    placement = Placement()
    placement.name, placement.replicas = "mirrored", 2
    with pytest.raises(ValueError, match=reason):
        check(placement, dataclasses.replace(RECIPE, **fields))


def test_compilation_and_several_steps_are_refused_where_they_fail():
    placement = Placement()
    placement.name, placement.replicas = "multi_worker", 2
    with pytest.raises(ValueError, match="XLA"):
        check(placement, RECIPE, jit_compile=True)
    with pytest.raises(ValueError, match="390 steps of an epoch; 3 does"):
        check(placement, RECIPE, steps_per_execution=4, steps=390)
    check(placement, RECIPE, steps_per_execution=3, steps=390)
    placement.replicas = 1
    check(placement, RECIPE, jit_compile=True)


@pytest.mark.parametrize(
    ("strategy", "devices", "reason"),
    [
        ("parameter_server", None, "asynchronously.*multi_worker"),
        ("everywhere", None, "must be one of none, mirrored"),
        ("none", 2, "needs --strategy="),
        ("mirrored", 0, "at least 1"),
    ],
)
def test_strategies_that_cannot_be_are_refused(strategy, devices, reason):
    with pytest.raises(ValueError, match=reason):
        choose.place(strategy, devices)


def test_a_strategy_needs_its_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="KERAS_BACKEND=jax"):
        choose.place("data_parallel")


def test_clusters_are_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster() is None
    config = {
        "cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]},
        "task": {"type": "worker", "index": 1},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert cluster() == (["a:1", "b:1", "c:1"], 2)
    for bad in ("{", "[]", '{"cluster": {}}', json.dumps(config | {"task": {"type": "ps", "index": 0}})):
        monkeypatch.setenv("TF_CONFIG", bad)
        with pytest.raises(ValueError, match="TF_CONFIG must be like"):
            cluster()
