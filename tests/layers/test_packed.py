"""Packed layers against plain NumPy, block by block.  Runs on every backend."""

import keras
import numpy as np
import pytest

from helpers.arrays import by_group, convolve, draw, numpy
from zoo.layers import (
    BatchNormalization,
    PackedConv1D,
    PackedConv2D,
    PackedDense,
    PackedDepthwiseConv2D,
    PackedFlatten,
    PerMember,
    SplitMembers,
)

CONVOLUTIONS = {1: PackedConv1D, 2: PackedConv2D}


def split(x, members):
    return np.split(x, members, axis=-1)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_convolution_is_one_convolution_a_group(rank, padding, stride, dilation):
    layer = CONVOLUTIONS[rank](
        6, 3, 2, 1.0, strides=stride, dilation_rate=dilation, padding=padding, bias_initializer="normal",
        activation="relu",
    )  # fmt: skip
    x = draw(2, *(7, 8)[:rank], 4)
    given = numpy(layer(x))
    kernel, bias = layer.get_weights()
    expected = by_group(lambda p, k: convolve(p, k, stride, dilation, padding), x, kernel) + bias
    np.testing.assert_allclose(given, np.maximum(expected, 0), atol=1e-5)
    for j, member in enumerate(layer(split(x, 2))):
        np.testing.assert_allclose(numpy(member), split(given, 2)[j], atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, (3, 2)])
def test_convolution_has_groups_inside_a_member(kernel_size):
    layer = PackedConv2D(64, kernel_size, 2, 2, 2, padding="same", bias_initializer="normal")
    x = draw(2, 4, 5, 256)
    given = numpy(layer(x))
    kernel, bias = layer.get_weights()
    assert layer.groups == 4 and kernel.shape[-2:] == (64, 32)
    expected = by_group(lambda p, k: convolve(p, k, 1, 1, "same"), x, kernel) + bias
    np.testing.assert_allclose(given, expected, atol=1e-4)
    apart = np.concatenate([numpy(y) for y in layer(split(x, 2))], axis=-1)
    np.testing.assert_allclose(apart, given, atol=1e-5)


@pytest.mark.parametrize("role", ["stem", "first"])
def test_stem_lets_every_member_see_the_whole_input(role):
    layer = PackedConv2D(4, 3, 2, 2, 2, role=role, padding="same")
    x = draw(2, 5, 5, 3)
    given = numpy(layer(x))
    assert layer.kernel.shape == (1, 3, 3, 3, 8)
    np.testing.assert_allclose(given, convolve(x, layer.get_weights()[0][0], 1, 1, "same"), atol=1e-5)


@pytest.mark.parametrize("role", ["hidden", "shortcut"])
def test_hidden_roles_share_out_the_channels(role):
    layer = PackedConv2D(4, 3, 2, 3, role=role)
    assert layer(draw(1, 4, 4, 8)).shape == (1, 2, 2, 12)
    assert layer.kernel.shape == (2, 3, 3, 4, 6)


@pytest.mark.parametrize("role", ["head", "last"])
def test_convolution_head_gives_every_member_all_filters(role):
    layer = PackedConv2D(5, 1, 2, 3, role=role, bias_initializer="normal")
    x = draw(2, 3, 3, 8)
    given = numpy(layer(x))
    kernel, bias = layer.get_weights()
    assert given.shape == (2, 2, 3, 3, 5)
    for m in range(2):
        expected = split(x, 2)[m] @ kernel[m, 0, 0] + bias[5 * m : 5 * m + 5]
        np.testing.assert_allclose(given[:, m], expected, atol=1e-5)
    np.testing.assert_allclose(numpy(layer(split(x, 2))), given, atol=1e-6)


@pytest.mark.parametrize("gamma", [1, 2])
@pytest.mark.parametrize("shape", [(3,), (3, 4)])
def test_dense_is_a_block_diagonal_matrix(gamma, shape):
    layer = PackedDense(6, 2, 2, gamma, bias_initializer="normal")
    x = draw(*shape, 8)
    given = numpy(layer(x))
    kernel, bias = layer.get_weights()
    assert kernel.shape == (2 * gamma, 4 // gamma, 6 // gamma)
    matrix = np.zeros((8, 12))
    for j, block in enumerate(kernel):
        rows, columns = block.shape
        matrix[j * rows : (j + 1) * rows, j * columns : (j + 1) * columns] = block
    np.testing.assert_allclose(given, x @ matrix + bias, atol=1e-5)
    apart = np.concatenate([numpy(y) for y in layer(split(x, 2))], axis=-1)
    np.testing.assert_allclose(apart, given, atol=1e-6)


def test_dense_stem_and_head():
    x = draw(3, 8)
    stem = PackedDense(5, 2, 2, 2, role="stem")
    np.testing.assert_allclose(numpy(stem(x)), x @ stem.get_weights()[0][0], atol=1e-5)
    head = PackedDense(5, 4, 2, role="head")
    given, kernel = numpy(head(x)), head.get_weights()[0]
    for m in range(4):
        np.testing.assert_allclose(given[:, m], split(x, 4)[m] @ kernel[m], atol=1e-5)
    np.testing.assert_allclose(numpy(head(split(x, 4))), given, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": "same"}, {"depth_multiplier": 2}])
def test_depthwise_convolution_is_keras_own_in_either_form(options):
    x = draw(2, 5, 5, 4)
    layer, keras_own = PackedDepthwiseConv2D(3, **options), keras.layers.DepthwiseConv2D(3, **options)
    keras_own.build(x.shape)
    layer.build([(2, 5, 5, 2)] * 2)
    layer.set_weights(keras_own.get_weights())
    expected = numpy(keras_own(x))
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-6)
    apart = np.concatenate([numpy(y) for y in layer(split(x, 2))], axis=-1)
    np.testing.assert_allclose(apart, expected, atol=1e-6)


def test_regularisers_see_the_stored_blocks():
    layer = PackedDense(
        4,
        2,
        2,
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer="l1",
        bias_initializer="ones",
    )
    layer(draw(2, 8))
    kernel, bias = layer.get_weights()
    total = sum(float(loss) for loss in layer.losses)
    assert total == pytest.approx(0.5 * (kernel**2).sum() + 0.01 * np.abs(bias).sum(), rel=1e-5)


def test_flatten_of_one_tensor_keeps_members_side_by_side():
    x = draw(2, 3, 2, 8)
    expected = np.concatenate([part.reshape(2, -1) for part in split(x, 4)], axis=-1)
    np.testing.assert_array_equal(numpy(PackedFlatten(4)(x)), expected)


def test_split_and_per_member():
    x = draw(2, 4, 4, 6)
    members = SplitMembers(3)(x)
    for y, expected in zip(members, split(x, 3), strict=True):
        np.testing.assert_array_equal(numpy(y), expected)
    for y, expected in zip(
        PerMember(keras.layers.GlobalMaxPooling2D())(members), split(x, 3), strict=True
    ):
        np.testing.assert_array_equal(numpy(y), expected.max(axis=(1, 2)))
    doubled = PerMember(keras.layers.Add())([members, members])
    for y, expected in zip(doubled, split(x, 3), strict=True):
        np.testing.assert_allclose(numpy(y), 2 * expected)


def test_per_member_passes_training_on():
    dropout = PerMember(keras.layers.Dropout(0.5, seed=1))
    x = [np.ones((4, 50), "float32")] * 2
    assert all((numpy(y) == 1).all() for y in dropout(x, training=False))
    trained = [numpy(y) for y in dropout(x, training=True)]
    assert all((y == 0).any() for y in trained)
    assert (trained[0] != trained[1]).any()


MAPS = draw(5, 6, 6, 8)


APART = split(MAPS, 2)


LAYERS = {
    "conv": (lambda: PackedConv2D(4, 3, 2, 2, activation="relu", kernel_regularizer="l2"), MAPS),
    "conv apart": (lambda: PackedConv2D(4, 3, 2, 2, strides=2, padding="same"), APART),
    "conv stem": (lambda: PackedConv2D(4, (3, 2), 2, 2, role="stem", dilation_rate=2), MAPS),
    "conv head": (lambda: PackedConv2D(4, 3, 2, 2, role="head", use_bias=False), APART),
    "conv1d": (lambda: PackedConv1D(4, 3, 2, 2), MAPS[:, 0]),
    "conv1d apart": (lambda: PackedConv1D(4, 3, 2, 2, padding="same"), split(MAPS[:, 0], 2)),
    "dense": (lambda: PackedDense(8, 2, 1.5, 2, kernel_initializer="he_normal"), MAPS[:, 0, 0]),
    "dense apart": (lambda: PackedDense(4, 2, 2, 1), APART),
    "dense head": (lambda: PackedDense(3, 2, role="head"), split(MAPS[:, 0, 0], 2)),
    "depthwise": (lambda: PackedDepthwiseConv2D(3), MAPS),
    "depthwise apart": (lambda: PackedDepthwiseConv2D(3, padding="same"), APART),
    "norm": (lambda: BatchNormalization(momentum=0.8), MAPS),
    "norm apart": (lambda: BatchNormalization(), APART),
    "split": (lambda: SplitMembers(4), MAPS),
    "flatten": (lambda: PackedFlatten(2), MAPS),
    "per member": (lambda: PerMember(keras.layers.MaxPooling2D(2)), APART),
    "merge": (lambda: PerMember(keras.layers.Add()), [APART, APART]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_a_good_keras_layer(name, check_layer):
    check_layer(*LAYERS[name])


@pytest.mark.parametrize("shape", [(6, 4, 5, 8), (16, 8), (4, 5, 8)])
@pytest.mark.parametrize(
    "options", [{}, {"scale": False, "momentum": 0.5}, {"center": False, "epsilon": 0.1}]
)
def test_normalisation_outputs_are_keras_own(shape, options):
    x = 3 * draw(*shape) + 2
    ours, keras_own = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in (ours, keras_own):
        layer.build(shape)
        layer.set_weights([np.linspace(0.5, 2, 8) + i for i in range(len(layer.weights))])
    apart = BatchNormalization(**options)
    apart.build([(*shape[:-1], 4)] * 2)
    apart.set_weights(ours.get_weights())
    for training in (True, False, True):
        expected = numpy(keras_own(x, training=training))
        np.testing.assert_allclose(numpy(ours(x, training=training)), expected, atol=1e-5)
        members = [numpy(y) for y in apart(split(x, 2), training=training)]
        np.testing.assert_allclose(np.concatenate(members, -1), expected, atol=1e-5)
    for weights in zip(ours.get_weights(), apart.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(weights[0], weights[2], atol=1e-5)
        np.testing.assert_allclose(weights[1], weights[2], atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 3), (3,)])
def test_normalisation_gradients_are_keras_own(shape):
    """A step of SGD moves each weight by its gradient, below the normalisation and in it."""
    x, target = draw(16, *shape), draw(16, *shape[:-1], 6) ** 2

    def step(kind):
        inputs = keras.Input(shape)
        y = keras.layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=5))(inputs)
        if kind == "apart":
            y = keras.layers.Concatenate()(BatchNormalization()(SplitMembers(2)(y)))
        else:
            y = (BatchNormalization if kind == "ours" else keras.layers.BatchNormalization)()(y)
        model = keras.Model(inputs, y)
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.train_on_batch(x, target)
        return model.get_weights()

    expected = step("keras")
    for kind in ("ours", "apart"):
        for weight, other in zip(step(kind), expected, strict=True):
            np.testing.assert_allclose(weight, other, atol=1e-5)


def test_frozen_normalisation_uses_and_keeps_its_moving_statistics():
    layer = BatchNormalization()
    layer.build((None, 4, 4, 2))
    layer.trainable = False
    x = draw(3, 4, 4, 2) + 5
    np.testing.assert_allclose(numpy(layer(x, training=True)), x / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(layer.get_weights()[2], 0)


def test_normalisation_of_one_value_a_channel():
    layer = BatchNormalization(momentum=0.0)
    np.testing.assert_allclose(
        numpy(layer(np.full((1, 1, 1, 3), 7.0, "float32"), training=True)), 0, atol=1e-5
    )
    np.testing.assert_allclose(layer.get_weights()[3], 0, atol=1e-6)
