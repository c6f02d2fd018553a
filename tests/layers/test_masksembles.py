"""Masksembles: the masks, and layers against plain NumPy.  Runs on every backend."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from helpers.arrays import convolve, draw
from zoo.layers import MaskedConv2D, MaskedDense
from zoo.layers.masksembles import member_masks
from zoo.methods import Masksembles


def numpy(value):
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 10, 64, 257])
@pytest.mark.parametrize("members", [1, 2, 4, 9])
@pytest.mark.parametrize("scale", [1, 1.3, 2.0, 6, 1e3, 1e30, math.inf])
def test_masks_have_the_documented_ones_and_leave_no_channel_out(channels, members, scale):
    masks = member_masks(channels, members, scale, seed=3)
    assert masks.shape == (members, channels) and masks.dtype == "float32"
    assert set(np.unique(masks)) <= {0, 1}
    # Of s * a channels, M choices of a of them cover s * a * (1 - (1 - 1/s)^M) on average.
    cover = members if scale > 1e9 else scale * (1 - (1 - 1 / scale) ** members)
    active = min(channels, math.ceil(channels / cover - 1e-6))
    assert (masks.sum(axis=1) == active).all()
    assert (masks.sum(axis=0) >= 1).all()
    if scale == 1 or members == 1:
        assert masks.all()


def test_masks_repeat_under_their_seed_alone():
    masks = member_masks(32, 4, 2.0, seed=1)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(member_masks(32, 4, 2.0, seed=1), masks)
    assert (member_masks(32, 4, 2.0, seed=2) != masks).any()
    for one, other in itertools.combinations(masks, 2):
        assert (one != other).any()


def test_overlap_falls_with_the_scale():
    """As published: two masks share about a / s of their a channels' places."""
    for scale in (1.5, 2.0, 3.0):
        shares = []
        for seed in range(30):
            masks = member_masks(200, 4, scale, seed)
            active = masks[0].sum()
            shares += [(a * b).sum() / active for a, b in itertools.combinations(masks, 2)]
        cover = scale * (1 - (1 - 1 / scale) ** 4)
        # Of C channels, not s * a: the share of two random choices is a / C, 1 / cover.
        assert np.mean(shares) == pytest.approx(1 / cover, abs=0.1)
        assert np.mean(shares) < 1 / scale + 0.15


def masked(operation):
    def formula(x, weights):
        masks = weights["masks"]
        members = np.arange(len(x)) * len(masks) // len(x)
        rows = [operation((row * masks[m])[None], weights["kernel"])[0] for row, m in zip(x, members)]
        return np.tanh(np.stack(rows) + weights["bias"])

    return formula


@pytest.mark.parametrize("shape", [(4, 6), (5, 6), (1, 6), (4, 2, 6)])
def test_dense_is_its_formula(shape, check_formula):
    layer = MaskedDense(2, 3, seed=1, activation="tanh", bias_initializer="normal")
    check_formula(layer, draw(*shape), masked(np.matmul))
    np.testing.assert_array_equal(numpy(layer.masks), member_masks(6, 3, 2.0, 1))


@pytest.mark.parametrize(("strides", "padding"), [(1, "valid"), (2, "same")])
def test_convolution_is_its_formula(strides, padding, check_formula):
    layer = MaskedConv2D(
        2, (2, 3), 2, 3.0, strides=strides, padding=padding, activation="tanh", bias_initializer="normal"
    )
    check_formula(layer, draw(3, 3, 4, 5), masked(lambda x, k: convolve(x, k, strides, 1, padding)))


def test_at_scale_one_a_layer_is_the_plain_one():
    layer, plain = MaskedDense(3, 4, 1.0), keras.layers.Dense(3)
    x = draw(8, 5)
    expected = numpy(plain(x))
    layer.build(x.shape)
    layer.kernel.assign(plain.kernel)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-6)


MAPS = draw(5, 6, 6, 8)
LAYERS = {
    "dense": (lambda: MaskedDense(3, 2, 3.0, 7, activation="relu"), MAPS[:, 0, 0]),
    "dense 3d": (lambda: MaskedDense(3, 4, use_bias=False), MAPS[:, 0]),
    "conv": (lambda: MaskedConv2D(3, 3, 4, kernel_regularizer="l2", strides=2), MAPS),
    "few channels": (lambda: MaskedConv2D(3, 3, 4, 6.0, padding="same"), MAPS[..., :1]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_a_good_keras_layer(name, check_layer):
    check_layer(*LAYERS[name])


def test_masks_are_weights_that_no_training_changes(tiny, images, labels):
    method = Masksembles(4, 2.5, seed=3)
    model = tiny(method, "lenet")
    layers = [layer for layer in model.network.layers if hasattr(layer, "masks")]
    assert [layer.name for layer in layers] == ["conv2", "dense1", "dense2", "head"]
    before = [numpy(layer.masks).copy() for layer in layers]
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), model.loss, run_eagerly=True)
    kernels = [numpy(layer.kernel).copy() for layer in layers]
    model.fit(images, labels, verbose=0)
    for layer, masks, kernel in zip(layers, before, kernels):
        assert not any(v is layer.masks for v in model.trainable_variables)
        np.testing.assert_array_equal(numpy(layer.masks), masks)
        assert (numpy(layer.kernel) != kernel).any()


def test_masks_are_saved(tmp_path, tiny, images):
    """Answers depend on the file alone: another version may draw other masks."""
    model = tiny(Masksembles(3, seed=1), "mlp")
    for layer in model.network.layers:
        if hasattr(layer, "masks"):
            layer.masks.assign(np.roll(numpy(layer.masks), 1, axis=0))
    model.save_weights(tmp_path / "model.weights.h5")
    other = tiny(Masksembles(3, seed=1), "mlp")
    assert np.abs(numpy(other(images)) - numpy(model(images))).max() > 1e-4
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy(other(images)), numpy(model(images)))


def test_layers_of_a_network_have_masks_of_their_own(tiny):
    """Not one choice for all layers of equal width, or members would meet at the same channels in each."""
    model = tiny(Masksembles(4), "resnet20", (8, 8, 3))
    masks = [numpy(layer.masks) for layer in model.network.layers if hasattr(layer, "masks")]
    for one, other in itertools.combinations(masks, 2):
        assert one.shape != other.shape or (one != other).any()
    again = tiny(Masksembles(4), "resnet20", (8, 8, 3))
    repeated = [numpy(layer.masks) for layer in again.network.layers if hasattr(layer, "masks")]
    for one, other in zip(masks, repeated, strict=True):
        np.testing.assert_array_equal(one, other)


BAD = [
    (lambda: MaskedDense(3, 0), "num_members.*0"),
    (lambda: MaskedDense(3, 4, 0.5), "scale.*0.5"),
    (lambda: MaskedConv2D(3, 3, 4, float("nan")), "scale.*nan"),
    (lambda: MaskedConv2D(3, 3, data_format="channels_first"), "channels_first"),
    (lambda: member_masks(8, 4, 0), "scale.*0"),
    (lambda: Masksembles(0), "num_members.*0"),
    (lambda: Masksembles(4, 0.9), "scale.*0.9"),
    (lambda: Masksembles(4, training_mode="all"), "training_mode.*all"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
