"""Sparse layers against plain NumPy, their masks, and what training does to them.  Runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from helpers.arrays import convolve, draw
from zoo.layers import (
    PackedConv2D,
    PackedDense,
    SparseConv2D,
    SparseDense,
    SparseDepthwiseConv2D,
    SparsePackedConv1D,
    SparsePackedConv2D,
    SparsePackedDense,
    sparse_layers,
)
from zoo.layers.sparse.layers import random_mask


def numpy(value):
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize(
    ("shape", "nonzeros"), [((3, 4), 5), ((7,), 1), ((2, 2, 3, 5), 60), ((1000, 37), 999)]
)
def test_masks_have_the_exact_count_and_repeat_under_their_seed(shape, nonzeros):
    mask = random_mask(shape, nonzeros, seed=3)
    assert mask.shape == shape and mask.dtype == bool and mask.sum() == nonzeros
    np.testing.assert_array_equal(random_mask(shape, nonzeros, seed=3), mask)
    if 1 < nonzeros < mask.size - 1:
        assert (random_mask(shape, nonzeros, seed=4) != mask).any()


def test_masks_favour_no_place():
    counts = sum(random_mask((4, 5), 6, seed).astype(int) for seed in range(2000))
    # Each place is drawn with probability 0.3; 2000 draws deviate by 20 (one sigma).
    assert np.abs(counts - 600).max() < 110


def dense(x, weights):
    return np.tanh(x @ (weights["kernel"] * weights["mask"]) + weights["bias"])


@pytest.mark.parametrize("shape", [(5, 6), (1, 6), (4, 2, 6)])
def test_dense_is_its_formula(shape, check_formula):
    layer = SparseDense(7, sparsity=0.6, seed=1, activation="tanh", bias_initializer="normal")
    check_formula(layer, draw(*shape), dense)
    assert numpy(layer.mask).sum() == 17  # of 42, 25 are masked


@pytest.mark.parametrize(("strides", "padding"), [(1, "valid"), (2, "same")])
def test_convolution_is_its_formula(strides, padding, check_formula):
    def formula(x, weights):
        kernel = weights["kernel"] * weights["mask"]
        return np.tanh(convolve(x, kernel, strides, 1, padding) + weights["bias"])

    layer = SparseConv2D(
        4,
        (2, 3),
        sparsity=0.5,
        strides=strides,
        padding=padding,
        activation="tanh",
        bias_initializer="normal",
    )
    check_formula(layer, draw(3, 4, 5, 3), formula)


def test_depthwise_is_its_formula(check_formula):
    def formula(x, weights):
        kernel = weights["kernel"] * weights["mask"]
        parts = [convolve(x[..., c : c + 1], kernel[:, :, c : c + 1], 1, 1, "same") for c in range(3)]
        return np.concatenate(parts, axis=-1) + weights["bias"]

    layer = SparseDepthwiseConv2D(
        3, sparsity=0.7, depth_multiplier=2, padding="same", bias_initializer="normal"
    )
    check_formula(layer, draw(2, 4, 5, 3), formula)


@pytest.mark.parametrize("apart", [True, False])
def test_packed_layers_are_packed_layers_of_the_masked_kernel(apart):
    x = draw(3, 6, 6, 8)
    for kind, ordinary, arguments, inputs in (
        (SparsePackedConv2D, PackedConv2D, (4, 3), x),
        (SparsePackedDense, PackedDense, (4,), x[:, 0, 0]),
    ):
        if apart:
            inputs = [inputs[..., :4], inputs[..., 4:]]
        options = {"num_members": 2, "alpha": 2, "bias_initializer": "normal"}
        sparse, plain = kind(*arguments, sparsity=0.5, **options), ordinary(*arguments, **options)
        plain(inputs), sparse(inputs)
        plain.set_weights([numpy(sparse.kernel) * numpy(sparse.mask), numpy(sparse.bias)])
        sparse.kernel.assign(numpy(sparse.kernel) + 1.0)  # what is masked does not count
        plain.kernel.assign(numpy(plain.kernel) + numpy(sparse.mask))
        for y, expected in zip(keras.tree.flatten(sparse(inputs)), keras.tree.flatten(plain(inputs))):
            np.testing.assert_allclose(numpy(y), numpy(expected), atol=1e-5)


MAPS = draw(5, 6, 6, 8)
LAYERS = {
    "dense": (lambda: SparseDense(3, sparsity=0.8, seed=7, activation="relu"), MAPS[:, 0, 0]),
    "dense 3d": (lambda: SparseDense(3, sparsity=0.5, use_bias=False), MAPS[:, 0]),
    "all there": (lambda: SparseDense(3), MAPS[:, 0]),
    "conv": (lambda: SparseConv2D(3, 3, sparsity=0.9, kernel_regularizer="l2", strides=2), MAPS),
    "groups": (lambda: SparseConv2D(4, 3, sparsity=0.5, groups=2, padding="same"), MAPS),
    "depthwise": (lambda: SparseDepthwiseConv2D(3, sparsity=0.5), MAPS),
    "packed": (lambda: SparsePackedConv2D(4, 3, sparsity=0.5, num_members=2), MAPS),
    "packed 1d": (lambda: SparsePackedConv1D(4, 3, 2, sparsity=0.5), MAPS[:, 0]),
    "packed head": (lambda: SparsePackedDense(3, 2, sparsity=0.5, role="head"), MAPS[:, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_a_good_keras_layer(name, check_layer):
    check_layer(*LAYERS[name])


def test_weights_that_exist_begin_as_in_a_dense_layer():
    layer = SparseDense(50, sparsity=0.8, seed=2, kernel_initializer=keras.initializers.HeNormal(seed=5))
    layer.build((None, 40))
    plain = keras.layers.Dense(50, kernel_initializer=keras.initializers.HeNormal(seed=5))
    plain.build((None, 40))
    np.testing.assert_array_equal(numpy(layer.kernel), numpy(plain.kernel) * numpy(layer.mask))
    assert numpy(layer.mask).sum() == 400
    np.testing.assert_array_equal(numpy(layer.mask), random_mask((40, 50), 400, 2))


def test_two_layers_of_a_size_draw_different_masks_under_one_random_seed():
    masks = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        pair = [SparseDense(20, sparsity=0.5), SparseDense(20, sparsity=0.5)]
        for layer in pair:
            layer.build((None, 20))
        masks.append([numpy(layer.mask) for layer in pair])
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0][0] != masks[0][1]).any()


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
}


@pytest.mark.fast("adamw")
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_moves_what_does_not_exist(name):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            SparseConv2D(4, 3, sparsity=0.7, kernel_regularizer="l2", activation="relu"),
            keras.layers.Flatten(),
            SparseDense(3, sparsity=0.9, kernel_regularizer="l1"),
        ]
    )
    model.compile(OPTIMIZERS[name](), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [(numpy(layer.kernel).copy(), numpy(layer.mask).copy()) for layer in sparse_layers(model)]
    assert len(before) == 2
    model.fit(draw(32, 6, 6, 2), np.arange(32) % 3, batch_size=8, epochs=2, verbose=0)
    for layer, (kernel, mask) in zip(sparse_layers(model), before):
        assert not any(v is layer.mask for v in model.trainable_variables)
        np.testing.assert_array_equal(numpy(layer.mask), mask)
        np.testing.assert_array_equal(numpy(layer.kernel)[~mask], 0)
        assert (numpy(layer.kernel) != kernel).sum() > 0.5 * mask.sum()


def test_an_assigned_mask_is_seen_by_what_was_traced_and_is_saved(tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), SparseDense(3, sparsity=0.5, bias_initializer="normal")]
    )
    x, layer = draw(4, 6), sparse_layers(model)[0]
    layer.kernel.assign(draw(6, 3))
    before = model.predict(x, verbose=0)
    layer.mask.assign(~numpy(layer.mask))
    expected = x @ (numpy(layer.kernel) * numpy(layer.mask)) + numpy(layer.bias)
    after = model.predict(x, verbose=0)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert np.abs(after - before).max() > 0.1
    model.save_weights(tmp_path / "m.weights.h5")
    other = keras.Sequential([keras.Input((6,)), SparseDense(3, sparsity=0.5)])
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), after)
    np.testing.assert_array_equal(numpy(sparse_layers(other)[0].mask), numpy(layer.mask))


@pytest.mark.parametrize("sparsity", [1, 1.0, -0.1, float("nan"), "0.5", None])
def test_bad_sparsity_is_refused_in_one_line(sparsity, raises_line):
    for make in (lambda **o: SparseDense(3, **o), lambda **o: SparseConv2D(3, 3, **o)):
        with raises_line(ValueError, r"sparsity must be in \[0, 1\)"):
            make(sparsity=sparsity)
