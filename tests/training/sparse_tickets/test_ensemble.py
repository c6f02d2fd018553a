"""Ensembles of sparse tickets, end to end on tiny data: every procedure, resume, refusals."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.layers import sparse_layers, sparsify
from zoo.training import recipes
from zoo.training.sparse_tickets import ensemble, networks
from zoo.training.sparse_tickets.callbacks import Rewind
from zoo.training.sparse_tickets.phases import TicketOptions


def recipe_of(method, **fields):
    """Ten batches of 8 an epoch."""
    settings = {"epochs": 3, "batch_size": 8, "held_out": 16 / 96, "num_members": 2,
                "arguments": "sparsity=0.7", **fields}  # fmt: skip
    return dataclasses.replace(recipes.recipe(f"cifar10_{method}_lenet"), **settings)


OPTIONS = {
    "edst": {"every": 3},
    "dst": {"every": 4, "growth": "set"},
    "static": {},
    "pruned": {"fine_tuning": 0.7},
    "lottery": {"rewind": 0.2},
}


def make(procedure, data_dir, folder, **options):
    method = "edst_tickets" if procedure == "edst" else "dst_tickets"
    options = TicketOptions(procedure, **{**OPTIONS[procedure], **options})
    return ensemble.ticket_ensemble(
        recipe_of(method), data_dir, folder, options, pause=0.1, command="a command"
    )


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """A folder a procedure, made when it is first asked for."""
    made = {}

    def run(procedure):
        if procedure not in made:
            made[procedure] = tmp_path_factory.mktemp(procedure)
            make(procedure, data_dir, made[procedure])
        return made[procedure]

    return run


def masks(model):
    return [ops.convert_to_numpy(layer.mask) for layer in sparse_layers(model)]


def kernels(model):
    return [ops.convert_to_numpy(layer.kernel) for layer in sparse_layers(model)]


@pytest.mark.slow
@pytest.mark.parametrize("procedure", OPTIONS)
def test_every_procedure_makes_an_ensemble_that_loads(procedure, runs, data_dir):
    folder = runs(procedure)
    config = json.loads((folder / "config.json").read_text())
    name = "edst_tickets_lenet" if procedure == "edst" else "dst_tickets_lenet"
    model = zoo.load(name, weights=folder)
    assert (config["name"], config["num_members"], model.num_members) == (name, 2, 2)
    assert config["tickets"]["kind"] == procedure and config["command"].endswith("a command")
    assert len(config["tickets"]["tickets"]) == 2
    with np.load(data_dir / "cifar10.npz") as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    accuracy = (zoo.predict(model, images).probabilities.argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(config["metrics"]["cifar10"]["accuracy"], abs=1e-4)
    present = sum(mask.sum() for mask in masks(model))
    assert present == pytest.approx(0.3 * sum(mask.size for mask in masks(model)), abs=2)
    for kernel, mask in zip(kernels(model), masks(model), strict=True):
        assert not kernel[~mask].any()
    first, second = (masks(model)[2][member] for member in range(2))  # a dense layer's, of each member
    assert (first != second).any()


@pytest.mark.slow
def test_tickets_are_the_best_of_their_windows(runs):
    folder = runs("edst")
    tickets = json.loads((folder / "config.json").read_text())["tickets"]["tickets"]
    with open(folder / "networks" / "c000_s0" / "log.csv") as file:
        seen = {10 * (int(row["epoch"]) + 1): float(row["val_accuracy"]) for row in csv.DictReader(file)}
    for ticket, (start, stop) in zip(tickets, [(10, 20), (20, 30)], strict=True):
        assert start < ticket["step"] <= stop
        assert ticket["held_out_accuracy"] >= max(a for s, a in seen.items() if start < s <= stop) - 1e-6


@pytest.mark.slow
def test_hops_move_most_connections_and_keep_their_number(runs):
    networks = runs("edst") / "networks" / "c000_s0"
    models = [sparsify(zoo.build(zoo.methods.Single(), "lenet", 10, (32, 32, 3)), 0.7) for _ in range(2)]
    for index, model in enumerate(models):
        zoo.weights.load_file(model, networks / f"ticket{index}.weights.h5")
    for before, after in zip(*map(masks, models), strict=True):
        assert before.sum() == after.sum()
        if not before.all():
            assert (before & after).sum() < 0.8 * before.sum()


class Stop(Exception):
    """A training that dies."""


@pytest.mark.slow
@pytest.mark.parametrize("step", [15, 27])
def test_a_run_that_stops_in_any_phase_ends_as_one_undisturbed(
    step, runs, data_dir, tmp_path, monkeypatch
):
    class Death(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == step:
                raise Stop

    monkeypatch.setattr(ensemble, "ProgressLine", Death)
    with pytest.raises(Stop):
        make("edst", data_dir, tmp_path)
    assert not (tmp_path / "config.json").exists()
    monkeypatch.undo()
    make("edst", data_dir, tmp_path)
    ours, theirs = (zoo.load("edst_tickets_lenet", weights=f) for f in (tmp_path, runs("edst")))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_finished_run_is_not_done_again(runs, data_dir, monkeypatch):
    folder = runs("dst")
    before = (folder / "config.json").read_text()
    monkeypatch.setattr(networks.run, "train_model", None)
    make("dst", data_dir, folder)
    assert (folder / "config.json").read_text() == before


@pytest.mark.slow
def test_static_tickets_keep_their_connections_and_dynamic_ones_do_not(runs):
    for procedure, moves in (("static", False), ("dst", True)):
        drawn = sparsify(zoo.build(zoo.methods.Single(), "lenet", 10, (32, 32, 3)), 0.7, seed=0)
        model = sparsify(drawn, 0.7, seed=9)
        zoo.weights.load_file(model, runs(procedure) / "networks" / "c000_s0" / "ticket0.weights.h5")
        pairs = list(zip(masks(drawn), masks(model), strict=True))
        assert any((a != b).any() for a, b in pairs) == moves
        assert [a.sum() for a, _ in pairs] == [b.sum() for _, b in pairs]


@pytest.mark.slow
def test_rewinding_brings_early_weights_back_under_late_masks(tmp_path):
    model = sparsify(zoo.build(zoo.methods.Single(), "lenet", 3, (16, 16, 3)), 0.0)
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3))
    model.compile(keras.optimizers.SGD(0.01, 0.9), model.loss)
    early = []

    class Change(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.jax_state_sync() if keras.backend.backend() == "jax" else None
                early.extend(v.copy() for v in self.model.network.get_weights())
            if batch == 4:
                self.model.jax_state_sync() if keras.backend.backend() == "jax" else None
                for layer in sparse_layers(self.model):
                    layer.mask.assign(
                        np.arange(np.prod(layer.mask.shape)).reshape(layer.mask.shape) % 3 == 0
                    )

    rewind = Rewind(tmp_path / "early.npz", 2, 5)
    model.fit(images[:10], np.arange(10) % 3, batch_size=2, shuffle=False, verbose=0,
              callbacks=[Change(), rewind])  # fmt: skip
    names = [v.name for v in model.network.weights]
    for name, before, now in zip(names, early, model.network.get_weights(), strict=True):
        if name == "kernel":
            mask = np.arange(before.size).reshape(before.shape) % 3 == 0
            np.testing.assert_array_equal(now, before * mask)
        elif name != "mask":
            np.testing.assert_array_equal(now, before)
    assert not any(ops.convert_to_numpy(slot).any() for slot in model.optimizer.momentums)


def test_what_cannot_work_is_refused_before_training(data_dir, tmp_path, raises_line, monkeypatch):
    monkeypatch.setattr(networks.run, "train_model", None)
    options = TicketOptions("edst", every=3)
    for fields, match in (
        ({"held_out": 0.0}, "held_out=0.0"),
        ({"arguments": "sparsity=1.2"}, "sparsity.*1.2"),
        ({"num_members": 30}, "too few for 30 tickets"),
        ({"method": "packed"}, "not one of packed"),
        ({"schedule": "steep"}, "schedule"),
    ):
        with raises_line(ValueError, match):
            recipe = dataclasses.replace(recipe_of("edst_tickets"), **fields)
            ensemble.ticket_ensemble(recipe, data_dir, tmp_path, options)
    with raises_line(ValueError, "every 1000 steps, and training has 30"):
        make("edst", data_dir, tmp_path, every=1000)
    assert not any(tmp_path.glob("networks/*"))


@pytest.mark.slow
def test_a_finished_run_is_not_gone_on_with_by_other_options(data_dir, runs, raises_line, monkeypatch):
    finished = runs("edst")
    monkeypatch.setattr(networks.run, "train_model", None)
    with raises_line(ValueError, "another every|options.*every"):
        make("edst", data_dir, finished, every=5)
