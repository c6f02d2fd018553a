"""Cards of sparse ensembles, the cost that they state, and the counting of nested and sparse networks."""

import json
import math
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import zoo
from zoo import counts
from zoo.cards import Card
from zoo.layers import densify, sparse_layers, sparsify
from zoo.methods import BatchEnsemble, Single, Tickets


def lenet(method, backbone="lenet"):
    return zoo.build(method, backbone, 5, (20, 20, 3))


@pytest.fixture(scope="module")
def tickets():
    return lenet(Tickets(3, sparsity=0.8))


def by_hand(network, spatial):
    """(non-zero parameters, MACs of existing weights) of sparse kernels, by their masks alone."""
    masks = {layer.name: ops.convert_to_numpy(layer.mask) for layer in sparse_layers(network)}
    biases = sum(math.prod(w.shape) for w in network.trainable_weights if w.name != "kernel")
    existing = sum(int(mask.sum()) for mask in masks.values()) + biases
    return existing, sum(int(m.sum()) * n for m, n in zip(masks.values(), spatial, strict=True))


SPATIAL = [20 * 20, 6 * 6, 1, 1, 1]  # positions of LeNet's layers for 20x20 images


def test_sparse_packed_networks_are_counted_weight_by_weight(tickets):
    given = counts.nonzeros(tickets.network), counts.sparse_macs(tickets.network)
    assert given == by_hand(tickets.network, SPATIAL)
    dense = lenet(Single()).network
    assert counts.macs(tickets.network) == 3 * counts.macs(dense)
    assert counts.parameters(tickets.network) == tuple(3 * n for n in counts.parameters(dense))
    assert counts.sparse_macs(dense) == counts.macs(dense)
    assert counts.nonzeros(dense) == counts.parameters(dense)[0]
    same = densify(tickets.network)
    assert counts.sparse_macs(same) == counts.macs(same) == counts.macs(tickets.network)


def test_members_of_an_ensemble_are_counted_wherever_they_are_nested():
    single, other = sparsify(lenet(Single()), 0.6), lenet(BatchEnsemble(4, tile_at=1))
    joined = zoo.ensemble([single, other, zoo.ensemble([other, single])])
    for count in (counts.macs, counts.sparse_macs, counts.nonzeros, lambda n: counts.parameters(n)[0]):
        assert count(joined.network) == 2 * (count(single.network) + count(other.network))
    assert counts.sparse_macs(joined.network) < counts.macs(joined.network)
    assert counts.macs(joined) == counts.macs(joined.network)


def test_a_changed_mask_is_a_changed_count(tickets):
    model = lenet(Tickets(2, sparsity=0.5))
    before = counts.nonzeros(model.network), counts.sparse_macs(model.network)
    layer = sparse_layers(model.network)[0]
    mask = ops.convert_to_numpy(layer.mask)
    layer.mask.assign(np.zeros_like(mask))
    after = counts.nonzeros(model.network), counts.sparse_macs(model.network)
    assert before[0] - after[0] == mask.sum() and before[1] - after[1] == mask.sum() * SPATIAL[0]


@pytest.mark.parametrize(
    ("density", "epochs", "recipe_epochs", "published"),
    [  # WRN-28-10 on CIFAR-100 and ResNet-50: DST is M runs, EDST one
        (0.3374, 3 * 250, 250, 1.01),
        (0.3374, 450, 250, 0.607),
        (0.1663, 850, 250, 0.566),
        (0.42, 170, 150, 0.48),
        (0.42, 310, 150, 0.87),
        (0.42, 2 * 200, 150, 1.12),
    ],
)
def test_training_costs_what_was_published(density, epochs, recipe_epochs, published):
    given = counts.training_flops(density, epochs, recipe_epochs)
    assert given == pytest.approx(published, abs=6e-4 if published in (0.607, 0.566) else 5e-3)
    rare = counts.training_flops(density, epochs, recipe_epochs, update_every=1000)
    assert given < rare < 1.003 * given


@given(st.floats(0.01, 1), st.integers(1, 500), st.integers(1, 1000))
def test_updates_by_gradients_cost_what_rigl_says(density, epochs, every):
    """By iterations: T steps and an update, which is one of its own."""
    iterations = epochs * (every + 1) / every
    expected = iterations * (3 * density * every + 2 * density + 1) / (every + 1) / 3 / 100
    given = counts.training_flops(density, epochs, 100, update_every=every)
    assert given == pytest.approx(expected)
    random = counts.training_flops(density, epochs, 100, update_every=every, update_batches=0)
    assert random == pytest.approx(density * epochs / 100)


def test_training_that_begins_dense_costs_that_too():
    assert counts.training_flops(0.25, 30, 10, dense_epochs=30) == pytest.approx(3 + 0.75)


def test_ticket_costs(tickets):
    dense = lenet(Single()).network
    costs = counts.ticket_costs(tickets.network, dense, 30, 10, update_every=100)
    density = by_hand(tickets.network, SPATIAL)[1] / counts.macs(dense)
    assert costs["nonzeros"] == by_hand(tickets.network, SPATIAL)[0]
    assert costs["dense_bytes"] == 3 * 4 * dense.count_params()
    assert costs["inference_flops"] == pytest.approx(density, abs=1e-4)
    updates = 3 * (2 * density / 3 + 1) / 100 / 3
    assert costs["training_flops"] == pytest.approx(density + updates, abs=1e-4)
    singles = [sparsify(lenet(Single()), 0.8, seed=i) for i in range(3)]
    fused, nested = zoo.fuse(singles, Tickets(3, sparsity=0.8)), zoo.ensemble(singles)
    first, second = (counts.ticket_costs(model.network, dense, 30, 10) for model in (fused, nested))
    assert first == second and first["inference_flops"] == first["training_flops"]
    assert json.loads(json.dumps(costs)) == costs


CONFIG = {
    "dataset": "cifar10", "num_members": 3, "parameters": 185_118, "macs": 1_250_000,
    "metrics": {"cifar10": {"accuracy": 0.7, "nll": 0.9, "ece": 0.01, "images": 10_000}},
    "recipe": {"epochs": 12, "seed": 0}, "steps_per_epoch": 351, "seconds": 600, "hardware": "1 CPU core",
    "software": {"keras": "3"}, "commit": None, "licence": "Apache-2.0", "command": "train",
    "files": {"model.weights.npz": {"sha256": "0" * 64, "bytes": 99_000}},
}  # fmt: skip
TICKETS = {
    "kind": "edst", "sparsity": 0.8, "distribution": "erk", "nonzeros": 37_500, "dense_bytes": 740_472,
    "inference_flops": 1.0123, "training_flops": 0.6071, "latency_ms": {"tickets": 4.126, "dense": 1.5},
    "update_every": 100, "growth": "rigl",
    "phases": [
        {"name": "exploration", "start": 0, "stop": 1400, "factor": 1.0, "ticket": None, "hop": False},
        {"name": "ticket 0, fine", "start": 1400, "stop": 2100, "factor": 0.01, "ticket": 0, "hop": True},
    ],
    "tickets": [{"phase": "ticket 0, fine", "held_out_accuracy": 0.7125, "step": 2106}],
}  # fmt: skip


def text(**changes):
    tickets = {key: value for key, value in {**TICKETS, **changes}.items() if value is not None}
    return str(Card("edst_tickets_lenet", {**CONFIG, "tickets": tickets}))


def test_the_card_of_tickets_states_their_cost():
    lines = text().splitlines()
    for line in (
        "* parameters: 37,500 non-zero (20.3% of 185,118 trainable)",
        "* MACs an image: 1,250,000, masked weights included",
        "* size: 99,000 bytes on disk, 0.134 of dense float32 networks' 740,472",
        "* inference FLOPs: 1.012 times one dense network's (counted, theoretical)",
        "* training FLOPs: 0.607 times one dense network's (counted, theoretical)",
        "* latency: 4.13 ms, one dense network 1.50 ms (measured, batch 1)",
        "* sparsity: 0.8 of all kernels' weights",
        "* updates of the topology: every 100 steps",
        "| exploration | 0 to 1400 | 1 of the peak |  |",
        "| ticket 0, fine | 1400 to 2100, connections hop first | 0.01 of the peak | 0 |",
        "| ticket | phase | held out accuracy | step |",
        "| 0 | ticket 0, fine | 0.7125 | 2106 |",
    ):
        assert line in lines
    assert f"* sha256 of model.weights.npz: {'0' * 64}" in lines


@pytest.mark.parametrize("key", [*TICKETS, "all"])
def test_what_a_config_lacks_is_left_out(key):
    gone = text(**dict.fromkeys(TICKETS if key == "all" else [key]))
    assert len(gone.splitlines()) <= len(text().splitlines())
    assert gone != text() and "None" not in gone
    if key == "all":
        assert gone.split("* MACs")[0].endswith("185,118 trainable\n")
    for part in ({"tickets": 4.1}, {"dense": 1.5}, {}):
        assert ("latency" in text(latency_ms=part)) == ("tickets" in part)


def test_other_cards_say_nothing_of_tickets():
    plain = str(Card("packed_lenet", CONFIG))
    assert "* parameters: 185,118 trainable\n* MACs an image: 1,250,000\n" in plain
    assert "* size: 99,000 bytes on disk\n* members: 3\n" in plain
    assert "theoretical" not in plain and "icket" not in plain


def test_nested_networks_by_hand():
    images = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(images)
    x = keras.layers.Conv2D(4, 1)(keras.layers.AveragePooling2D(2)(x))
    inner = keras.Model(images, x)
    outer = keras.Input((8, 8, 3))
    model = keras.Model(outer, keras.layers.Dense(2)(keras.layers.Flatten()(inner(outer))))
    assert counts.macs(model) == 64 * 9 * 6 + 16 * 6 * 4 + 64 * 2


def test_a_card_shows_what_the_model_is_and_the_single_network_beside():
    """Of published weights: shape, method and its arguments, classes, and both models' figures."""
    text = str(zoo.card("packed_resnet20"))
    spec = zoo.card("packed_resnet20").config["spec"]
    assert "Images 32x32x3 in [0, 255]." in text and "10 classes: airplane" in text
    assert (
        f"Method packed(num_members=4, alpha={spec['method']['alpha']:g}, gamma=1) on resnet20." in text
    )
    (single,) = zoo.registry.entries("single_resnet20")
    assert f"| cifar10, single_resnet20 | {single['metrics']['cifar10']['accuracy']:.4f} |" in text
    assert f"* beside it, single_resnet20: {single['parameters']:,} parameters" in text
    assert "`zoo card packed_resnet20 --latency` measures it" in text
    assert "beside it" not in str(zoo.card("single_resnet20"))


@pytest.mark.slow
def test_latency_is_measured_beside_the_single_network():
    text = str(zoo.card("packed_lenet", "mnist", latency=True))
    assert re.search(
        r"\* latency: \d+\.\d\d ms, single_lenet \d+\.\d\d ms \(one image at a time, measured", text
    )


def test_a_name_with_several_data_sets_is_asked_about(monkeypatch, capsys):
    from zoo import cli

    datasets = [entry["dataset"] for entry in zoo.registry.entries("packed_lenet")]
    assert len(datasets) > 1
    assert cli.main(["card", "packed_lenet"]) == 0
    captured = capsys.readouterr()
    assert f"Trained on {datasets[0]}" in captured.out
    assert (
        f"weights of {', '.join(datasets)}; this shows {datasets[0]}, choose with --weights"
        in captured.err
    )
    answers = iter(["imagenet", datasets[1]])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert cli.main(["card", "packed_lenet"]) == 0
    assert f"Trained on {datasets[1]}" in capsys.readouterr().out
    assert cli.main(["card", "packed_lenet", "--weights", datasets[-1]]) == 0
    assert f"Trained on {datasets[-1]}" in capsys.readouterr().out


def test_the_card_of_a_joined_ensemble_names_how_each_member_was_trained():
    lines = str(zoo.card("deep_ensemble_cifarnet")).splitlines()
    for seed in range(3):
        assert any(
            line.startswith(f"* member {seed}: `") and f"--seed={seed}`" in line for line in lines
        )
