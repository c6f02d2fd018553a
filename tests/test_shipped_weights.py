"""Weights in `saved_models` are whole and still mean what they meant when they were made."""

import configparser
import hashlib
import json
import zlib

import numpy as np
import pytest

import zoo
import zoo.counts
from helpers.paths import ROOT
from zoo.training.loop.run_record import probe_images

ENTRIES = {entry["folder"]: entry for entry in zoo.registry.index()}
PROMISED = {
    "packed_resnet20-cifar10",
    "single_resnet20-cifar10",
    "packed_lenet-cifar10",
    "single_lenet-cifar10",
    "packed_lenet-mnist",
    "single_lenet-mnist",
}


def test_the_promised_weights_are_there():
    assert set(ENTRIES) >= PROMISED


@pytest.mark.slow
def test_the_weights_in_the_wheel_leave_it_under_60_mb():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    left_out = setup["options.exclude_package_data"]["zoo.saved_models"].split()
    home = zoo.registry.home()
    files = {path for path in home.glob("*/*") if not any(path.match(one) for one in left_out)}
    code = 1_000_000  # of the rest of the package, compressed
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 60_000_000 - code


@pytest.mark.slow
def test_shipped_weights_are_whole():
    zoo.registry.index.cache_clear()
    assert (zoo.registry.home() / "index.json").is_file()
    index = zoo.registry.index()
    assert index
    for entry in index:
        folder = zoo.registry.home() / entry["folder"]
        config = json.loads((folder / "config.json").read_text())
        for key in ("name", "dataset", "parameters", "macs", "metrics", "files"):
            assert entry[key] == config[key], (entry["folder"], key)
        assert entry["name"] in zoo.list_models(dataset=entry["dataset"])
        assert set(entry["metrics"][entry["dataset"]]) >= {"accuracy", "nll", "ece", "images"}
        for name, recorded in entry["files"].items():
            content = (folder / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == recorded["sha256"]
            assert len(content) == recorded["bytes"] < 16_000_000


@pytest.mark.fast(
    "batch_ensemble_lenet-fashion_mnist", "packed_lenet-fashion_mnist", "single_lenet-fashion_mnist"
)
@pytest.mark.parametrize("folder", ENTRIES)
def test_weights_answer_as_recorded(folder):
    entry = ENTRIES[folder]
    config = json.loads((zoo.registry.home() / folder / "config.json").read_text())
    model = zoo.load(entry["name"], weights=entry["dataset"])
    assert model.num_members == config["num_members"]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    answers = zoo.predict(model, probe_images(model.input_shape[1:])).probabilities
    drawn = entry["name"].startswith("mc_dropout")  # backends draw other units from one seed
    np.testing.assert_allclose(answers, config["probe"], atol=0.15 if drawn else 1e-4)


@pytest.mark.parametrize("backbone", ["lenet", "resnet20"])
def test_single_and_packed_had_equal_updates(backbone):
    for dataset in {entry["dataset"] for entry in zoo.registry.entries(f"packed_{backbone}")}:
        cards = [zoo.card(f"{method}_{backbone}", dataset).config for method in ("single", "packed")]
        updates = [card["steps_per_epoch"] * card["recipe"]["epochs"] for card in cards]
        assert updates[0] == updates[1]


@pytest.mark.slow
@pytest.mark.parametrize("folder", [f for f, entry in ENTRIES.items() if "nonzeros" in entry])
def test_tickets_are_as_sparse_and_as_small_as_recorded(folder):
    entry = ENTRIES[folder]
    model = zoo.load(entry["name"], weights=entry["dataset"])
    tickets = zoo.card(entry["name"], entry["dataset"]).config["tickets"]
    assert zoo.counts.nonzeros(model.network) == entry["nonzeros"] == tickets["nonzeros"]
    masks = [np.asarray(layer.mask) for layer in zoo.layers.sparse_layers(model.network)]
    zeros = 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert zeros == pytest.approx(tickets["sparsity"], abs=1e-4)
    size = sum(file["bytes"] for file in entry["files"].values())
    assert size < 0.3 * tickets["dense_bytes"]
