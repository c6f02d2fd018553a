"""Normalisations fold into every layer before them, and stay where that would be wrong."""

import keras
import numpy as np
import pytest
from keras import layers

from helpers.arrays import convolve
from helpers.folding import MAPS, check, numpy, random_weights, tower
from zoo.exporting.fold_rules import affine, values
from zoo.exporting.folding import folded
from zoo.layers import (
    BatchEnsembleConv2D,
    BatchEnsembleDepthwiseConv2D,
    BatchNormalization,
    MIMOExpand,
    PackedConv1D,
    PackedConv2D,
    PackedDense,
    PackedDepthwiseConv2D,
    PerMember,
    PerMemberBatchNormalization,
    SplitMembers,
)

KEYS = {"scale": False, "center": False}
FOLDING = {
    "convolution": [layers.Conv2D(6, 3, padding="same"), layers.BatchNormalization()],
    "no bias": [layers.Conv2D(6, 3, strides=2, use_bias=False), BatchNormalization()],
    "no gamma": [layers.Conv2D(6, 3), BatchNormalization(scale=False, epsilon=0.1)],
    "no beta": [layers.Conv2D(6, 3, use_bias=False), BatchNormalization(center=False)],
    "neither": [layers.Conv2D(6, 3), layers.BatchNormalization(axis=3, **KEYS)],
    "groups": [layers.Conv2D(6, 3, groups=2, dilation_rate=2), BatchNormalization()],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=2), BatchNormalization()],
    "separable": [layers.SeparableConv2D(6, 3), BatchNormalization()],
    "dense": [layers.Dense(6), BatchNormalization()],
    "dense after pooling": [layers.GlobalAveragePooling2D(), layers.Dense(6), BatchNormalization()],
    "one packed tensor": [PackedConv2D(6, 3, 2, gamma=1, role="hidden"), BatchNormalization()],
    "packed groups": [PackedDense(6, 2, 2, gamma=2), BatchNormalization()],
    "packed list": [
        PackedConv2D(6, 3, 2, role="stem"), SplitMembers(2), BatchNormalization(),
        PerMember(layers.ReLU()), PackedConv2D(4, 3, 2, gamma=3), BatchNormalization(),
        PackedDepthwiseConv2D(2), BatchNormalization(),
    ],
    "packed apart": [PackedConv2D(6, 3, 2, role="stem", separate_outputs=True), BatchNormalization()],
    "packed sequence": [layers.Reshape((-1, 4)), PackedConv1D(6, 3, 2), BatchNormalization()],
    "rank and bias": [BatchEnsembleConv2D(6, 3, 2, rank=2), BatchNormalization(scale=False)],
    "fast depthwise": [
        BatchEnsembleDepthwiseConv2D(3, 2, depth_multiplier=2, use_bias=False), BatchNormalization(),
    ],
    "of members": [BatchEnsembleConv2D(6, 3, 3), PerMemberBatchNormalization(3, epsilon=0.1)],
    "of members, neither": [
        BatchEnsembleConv2D(6, 3, 2, use_bias=False), PerMemberBatchNormalization(2, **KEYS),
    ],
    "dropout between": [layers.Conv2D(6, 3), layers.Dropout(0.5), BatchNormalization()],
    "sequential inside": [
        keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(6, 3), layers.BatchNormalization()]),
        layers.ReLU(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDING)
def test_every_layer_folds(name):
    check(tower(*FOLDING[name]), MAPS)


def branched():
    """Cases in which folding would be wrong: (network, names of normalisations left)."""
    x = inputs = keras.Input(MAPS.shape[1:])

    def norm(name="left"):
        return BatchNormalization(name=name)

    y = layers.Conv2D(6, 3)(x)
    yield "output used twice", keras.Model(inputs, layers.Concatenate()([norm()(y), layers.ReLU()(y)]))
    y = layers.Conv2D(6, 3)(x)
    yield "output is an answer", keras.Model(inputs, [norm()(y), y])
    y = layers.Conv2D(6, 3)(x)
    yield "two norms", keras.Model(inputs, layers.Add()([norm()(y), norm("other")(y)]))
    yield "activation", tower(layers.Conv2D(6, 3, activation="relu"), norm())
    shared = layers.Conv2D(4, 3, padding="same")
    yield "layer called twice", tower(shared, layers.ReLU(), shared, norm())
    shared = norm()
    yield "norm called twice", tower(layers.Conv2D(4, 3), shared, layers.Conv2D(4, 3), shared)
    yield "another axis", tower(layers.Conv2D(6, 3), layers.BatchNormalization(axis=1, name="left"))
    yield "after a sum", tower(lambda x: layers.Add()([layers.Dense(4)(x), x]), norm())
    yield "first", tower(norm(), layers.Conv2D(6, 3))
    yield "second in a row", tower(layers.Conv2D(6, 3), norm("first"), norm())
    yield "pooled between", tower(layers.Conv2D(6, 3), layers.MaxPooling2D(), norm())
    yield "packed head", tower(PackedDense(6, 2, role="head"), norm())
    yield (
        "members share no bias",
        tower(layers.Conv2D(6, 3), PerMemberBatchNormalization(2, name="left")),
    )
    split = SplitMembers(2)(PackedConv2D(6, 3, 2, role="stem")(x))
    yield "exchanged members", keras.Model(inputs, layers.Concatenate()(norm()(split[::-1])))
    base = tower(layers.Conv2D(6, 3), norm())
    yield "told to train", keras.Model(inputs, base(x, training=True))
    yield "norm told to train", tower(layers.Conv2D(6, 3), lambda x: norm()(x, training=True))


LEFT = {"two norms": ["left", "other"], "norm called twice": ["left"]}


@pytest.mark.parametrize(("name", "network"), [pytest.param(*case, id=case[0]) for case in branched()])
def test_what_cannot_be_folded_stays(name, network):
    check(network, MAPS, LEFT.get(name, ["left"]))


def test_factors_and_offsets_are_the_formula():
    norm = random_weights(tower(BatchNormalization(epsilon=0.5))).layers[-1]
    gamma, beta, mean, variance = (numpy(w) for w in norm.get_weights())
    factor, offset = affine(norm)
    expected = gamma * (MAPS - mean) / np.sqrt(variance + 0.5) + beta
    np.testing.assert_allclose(MAPS * factor + offset, expected, atol=1e-6)


def test_folded_convolution_is_the_formula():
    """Against a convolution in NumPy, whose output is normalised in NumPy."""
    network = random_weights(tower(layers.Conv2D(3, 3, padding="same"), BatchNormalization()))
    convolution, norm = network.layers[1:]
    kernel, bias = (numpy(w) for w in convolution.get_weights())
    gamma, beta, mean, variance = (numpy(w) for w in norm.get_weights())
    y = convolve(MAPS, kernel, 1, 1, "same") + bias
    expected = gamma * (y - mean) / np.sqrt(variance + norm.epsilon) + beta
    copy = folded(network)
    np.testing.assert_allclose(numpy(copy(MAPS)), expected, atol=1e-4)
    found = values(convolution, norm)
    np.testing.assert_allclose(convolve(MAPS, found["kernel"], 1, 1, "same") + found["bias"], expected)


def test_mimo_sees_an_image_once():
    network = tower(lambda x: MIMOExpand(3)(x)[0], layers.Conv2D(6, 3, padding="same"), layers.ReLU())
    copy = check(network, MAPS)
    kernel = numpy(network.layers[2].kernel)
    expected = np.stack([kernel[:, :, 3 * c : 3 * c + 3].sum(axis=2) for c in range(4)], axis=2)
    assert copy.layers[1].kernel.shape == expected.shape == (3, 3, 4, 6)
    np.testing.assert_allclose(numpy(folded(network).layers[1].kernel), expected, atol=1e-5)


def test_copies_that_others_see_stay():
    """A stem called twice, an expansion used twice and rows that are an answer."""
    inputs = keras.Input(MAPS.shape[1:])
    copies, rows = MIMOExpand(3)(inputs)
    check(keras.Model(inputs, layers.Add()([layers.Conv2D(12, 1)(copies), copies])), MAPS)
    check(keras.Model(inputs, [layers.Conv2D(12, 1)(copies), rows]), MAPS[:2])
    check(keras.Model(inputs, layers.Conv2D(12, 1, groups=3)(copies)), MAPS)


def test_layers_with_state_and_layers_inside_layers_are_copied():
    adapted = layers.Normalization()
    adapted.adapt(MAPS * 5 + 3)
    inner = layers.TimeDistributed(layers.Conv1D(3, 2))
    inputs = keras.Input(MAPS.shape[1:])
    network = keras.Model(inputs, inner(adapted(inputs)) * 2.0)
    expected = numpy(network(MAPS))
    np.testing.assert_allclose(numpy(folded(network)(MAPS)), expected, atol=1e-6)
