"""Fold a network and check what comes of it."""

import keras
import numpy as np
from keras import ops

from zoo.exporting.fold_rules import NORMS
from zoo.exporting.folding import folded
from zoo.layers.nested_layers import all_layers

RNG = np.random.default_rng(7)


MAPS = RNG.normal(size=(5, 6, 6, 4)).astype("float32")


def random_weights(model):
    """The model with random weights; moving statistics are far from 0 and 1."""
    rng = np.random.default_rng(11)
    for layer in all_layers(model):
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            shape = weight.shape
            if weight.dtype in ("bool", "uint32") or weight.name == "masks":
                continue
            if weight.name == "moving_variance":
                weight.assign(rng.uniform(0.3, 9, shape))
            elif weight.name in ("gamma", "r", "s"):
                weight.assign(rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape))
            elif "kernel" in weight.name and weight.name != "e_kernel":
                weight.assign(numpy(weight) + 0.05 * rng.normal(size=shape))
            elif not weight.name.startswith("log_"):
                weight.assign(rng.normal(size=shape))
    return model


def numpy(value):
    return ops.convert_to_numpy(value).astype("float64")


def norms(network):
    """Names of the normalisations that a network computes."""
    return [layer.name for layer in all_layers(network) if type(layer) in NORMS]


def answers(network, x):
    """Outputs of a network at inference, as a list."""
    return [numpy(output) for output in keras.tree.flatten(network(x, training=False))]


def check(network, x, left=()):
    """Fold a network of random weights; that it answers the same, and which normalisations are left.

    The answers are those for all of `x` at once, and for its first row alone.
    """
    random_weights(network)
    before = [w.copy() for w in network.get_weights()]
    nodes = [len(layer._inbound_nodes) for layer in network.layers]
    batches = x, keras.tree.map_structure(lambda x: x[:1], x)
    expected = [answers(network, batch) for batch in batches]
    assert all(one.std() > 1e-3 for one in expected[0])
    copy = folded(network)
    assert norms(copy) == list(left)
    for batch, answer in zip(batches, expected):
        for one, other in zip(answer, answers(copy, batch), strict=True):
            np.testing.assert_allclose(other, one, atol=1e-5 * max(1, np.abs(one).max()))
    # The given network stays as it was and shares nothing with its copy.
    for weight in copy.weights:
        weight.assign(np.zeros(weight.shape))
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(layer._inbound_nodes) for layer in network.layers] == nodes
    return copy


def tower(*parts, shape=MAPS.shape[1:]):
    x = inputs = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)
