"""Blocks of weights in Dense layers: drawn, pruned, saved, moved, and forgotten.  On every backend."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import zoo
from helpers.arrays import draw
from zoo.layers import (
    SparseConv2D,
    SparseDense,
    TopologyUpdates,
    densify,
    sparse_layers,
    sparsify,
    update_topology,
)
from zoo.layers.sparse import block_masks
from zoo.layers.sparse.layers import random_mask
from zoo.layers.sparse.topology import drop_and_grow

SHAPES = st.sampled_from([(1, 4), (2, 3), (3, 1), (1, 1)])


def numpy(value):
    return ops.convert_to_numpy(value)


def blockwise(array, block_shape=(1, 4)):
    """Weights of each block side by side, (blocks, weights), by plain loops."""
    high, wide = block_shape
    return np.array(
        [
            array[row : row + wide, column : column + high].ravel()
            for row in range(0, array.shape[0], wide)
            for column in range(0, array.shape[1], high)
        ]
    )


def whole(mask, block_shape=(1, 4)):
    """The number of blocks of a mask that has no parts of blocks."""
    found = blockwise(mask, block_shape)
    assert (found.all(axis=1) == found.any(axis=1)).all()
    return int(found.all(axis=1).sum())


def network():
    """Dense kernels (24, 12) and (12, 5) behind a convolution."""
    x = inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(5, name="head")(x), name="user")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.99])
def test_a_layer_draws_whole_blocks_in_the_exact_number(sparsity):
    layer = SparseDense(6, sparsity=sparsity, seed=1, block_shape=(1, 4))
    layer.build((None, 20))
    assert whole(numpy(layer.mask)) == max(1, 30 - round(sparsity * 30))
    np.testing.assert_array_equal(numpy(layer.kernel)[~numpy(layer.mask)], 0)
    again = SparseDense(6, sparsity=sparsity, seed=1, block_shape=(1, 4))
    again.build((None, 20))
    np.testing.assert_array_equal(numpy(again.mask), numpy(layer.mask))


def test_the_layer_is_a_keras_layer(check_layer):
    check_layer(lambda: SparseDense(6, sparsity=0.5, seed=1, block_shape=(2, 4)), draw(5, 8))


def test_without_blocks_masks_are_as_they_were():
    layer = SparseDense(7, sparsity=0.6, seed=1)
    layer.build((None, 6))
    np.testing.assert_array_equal(numpy(layer.mask), random_mask((6, 7), 17, 1))
    assert layer.get_config()["block_shape"] is None


@settings(max_examples=100, deadline=None)
@given(SHAPES, st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_means_and_spreading_are_their_definitions(block_shape, rows, columns, seed):
    values = np.random.default_rng(seed).normal(size=(rows * block_shape[1], columns * block_shape[0]))
    expected = np.abs(blockwise(values, block_shape)).mean(axis=1).reshape(rows, columns)
    np.testing.assert_allclose(block_masks.means(values, block_shape), expected)
    spread = block_masks.spread(expected, block_shape)
    assert spread.shape == values.shape == (rows * block_shape[1], columns * block_shape[0])
    np.testing.assert_array_equal(
        blockwise(spread, block_shape), np.repeat(expected.reshape(-1, 1), np.prod(block_shape), axis=1)
    )


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_models_are_masked_in_blocks_and_made_dense_again(distribution, criterion, tmp_path):
    model = network()
    sparse = sparsify(model, 0.7, distribution, criterion=criterion, block_shape=(1, 4))
    convolution, hidden, head = sparse_layers(sparse)
    assert type(convolution) is SparseConv2D and convolution.block_shape is None
    assert hidden.block_shape == head.block_shape == (1, 4)
    counts = [whole(numpy(layer.mask)) for layer in (hidden, head)]
    total = int(numpy(convolution.mask).sum()) + 4 * sum(counts)
    size = sum(int(np.prod(layer.mask.shape)) for layer in (convolution, hidden, head))
    assert abs(total - 0.3 * size) < 4
    for layer, count in zip((hidden, head), counts):
        old = model.get_layer(layer.name).get_weights()[0]
        mask, magnitudes = numpy(layer.mask), np.abs(blockwise(old)).mean(axis=1)
        np.testing.assert_array_equal(numpy(layer.kernel), old * mask)
        assert layer.sparsity == pytest.approx(1 - mask.mean())
        if criterion == "magnitude" and count < len(magnitudes):
            kept = blockwise(mask).all(axis=1)
            assert magnitudes[kept].min() >= magnitudes[~kept].max()

    x = draw(3, 4, 4, 2)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.block_shape for layer in sparse_layers(loaded)] == [None, (1, 4), (1, 4)]
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(sparse(x)))
    for layer, twin in zip(sparse_layers(sparse), sparse_layers(keras.models.clone_model(sparse))):
        if criterion == "random":  # masks are made again from the layers' seeds
            np.testing.assert_array_equal(numpy(layer.mask), numpy(twin.mask))

    dense = densify(sparse)
    assert [type(layer) for layer in dense.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(numpy(dense(x)), numpy(sparse(x)), rtol=1e-5, atol=1e-6)
    assert sparse_layers(sparsify(sparse, 0.5))[1].block_shape is None  # new masks, without blocks


@pytest.mark.slow
def test_a_classifier_is_trained_in_blocks(images, labels):
    model = sparsify(zoo.build(zoo.methods.Single(), "lenet", 3, (16, 16, 3)), 0.6, block_shape=(1, 4))
    dense = [layer for layer in sparse_layers(model) if layer.block_shape]
    before = [whole(numpy(layer.mask)) for layer in dense]
    model.fit(
        images, labels, batch_size=1, verbose=0,
        callbacks=[TopologyUpdates("rigl", (images, labels), every=2, drop_fraction=0.4)],
    )  # fmt: skip
    assert len(dense) == 3 and [whole(numpy(layer.mask)) for layer in dense] == before
    for layer in dense:
        np.testing.assert_array_equal(numpy(layer.kernel)[~numpy(layer.mask)], 0)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_drop_and_grow_moves_the_blocks_of_the_definition(block_shape, density, fraction, seed):
    rng = np.random.default_rng(seed)
    mask = block_masks.spread(rng.random((5, 6)) < density, block_shape)
    kernel, scores = rng.normal(size=mask.shape) * mask, rng.normal(size=mask.shape)
    new, kept = drop_and_grow(kernel, mask, fraction, scores, block_shape=block_shape)
    weight, score = (np.abs(blockwise(array, block_shape)).mean(axis=1) for array in (kernel, scores))
    active = np.flatnonzero(blockwise(mask, block_shape).all(axis=1))
    count = int(fraction * len(active) + 1e-9)
    stay = active[np.argsort(weight[active])[count:]]
    free = np.setdiff1d(np.arange(30), stay)
    grown = free[np.argsort(-score[free])[:count]]
    assert set(np.flatnonzero(blockwise(kept, block_shape).any(axis=1))) == set(stay)
    assert set(np.flatnonzero(blockwise(new, block_shape).any(axis=1))) == {*stay, *grown}
    assert whole(new, block_shape) == len(active)


@pytest.fixture(scope="module")
def walker():
    return sparsify(network(), 0.6, seed=4, block_shape=(1, 4))


UPDATES = st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 99)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@pytest.mark.jax
@pytest.mark.slow
@given(UPDATES)
def test_no_sequence_of_updates_breaks_a_block_or_changes_their_number(walker, updates):
    found = sparse_layers(walker)
    before = [int(numpy(layer.mask).sum()) for layer in found]
    for by_scores, fraction, seed in updates:
        rng = np.random.default_rng(seed)
        scores = [rng.normal(size=layer.mask.shape) for layer in found] if by_scores else None
        update_topology(walker, fraction, scores, seed=seed)
        for layer in found:  # as training would
            layer.kernel.assign(rng.normal(size=layer.kernel.shape) * numpy(layer.mask))
        assert [int(numpy(layer.mask).sum()) for layer in found] == before
        for layer in found[1:]:
            whole(numpy(layer.mask))


def odd():
    return keras.Sequential([keras.Input((6,)), layers.Dense(4, name="odd")], name="user")


BAD = [
    (lambda: sparsify(odd(), 0.5, block_shape=(1, 4)), "odd has 6 inputs and 4 outputs.*4 inputs x 1"),
    (lambda: sparsify(odd(), 0.5, block_shape=(3, 2)), "odd has 6 inputs and 4 outputs"),
    (lambda: SparseDense(4, block_shape=(1, 4), name="odd").build((None, 6)), "odd has 6 inputs"),
    (lambda: SparseDense(4, block_shape=4), r"block_shape must be.*got 4"),
    (lambda: SparseDense(4, block_shape=(1, 0)), r"got \(1, 0\)"),
    (lambda: sparsify(odd(), 0.5, block_shape=(1, 4, 4)), r"got \(1, 4, 4\)"),
    (lambda: sparsify(odd(), 0.5, block_shape="14"), "got '14'"),
    (
        lambda: drop_and_grow(np.ones((4, 2)), np.arange(8).reshape(4, 2) < 5, 0.5, block_shape=(1, 4)),
        r"not made of whole blocks of \(1, 4\)",
    ),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
