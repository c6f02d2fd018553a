"""`zoo.convert`: a trained single network as the start of an ensemble that shares its weights."""

import keras
import numpy as np
import pytest

import zoo
from zoo.methods import (
    BatchEnsemble,
    HyperBatch,
    Masksembles,
    MCDropout,
    Packed,
    Single,
)


@pytest.fixture(scope="module")
def trained():
    """A single ResNet-20 whose weights, moving statistics included, are none that it began with."""
    keras.utils.set_random_seed(0)
    model = zoo.build(Single(), "resnet20", 3, (8, 8, 3))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:  # small enough that no probability saturates
            weight.assign(rng.uniform(0.25, 0.75, weight.shape))
    return model


@pytest.fixture(scope="module")
def pictures():
    """Five images 8x8x3."""
    return np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), "uint8")


UNCHANGED = [
    BatchEnsemble(3),
    BatchEnsemble(2, rank=3, per_member_norm=True),
    BatchEnsemble(2, tile_at="head"),
    MCDropout(2, rate=0.0),
    Masksembles(2, scale=1.0),
    HyperBatch(2),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", UNCHANGED, ids=lambda m: f"{m.name}-{getattr(m, 'tile_at', 0)}")
def test_members_answer_as_the_original_where_nothing_sets_them_apart(trained, pictures, method):
    original = zoo.predict(trained, pictures).members
    converted = zoo.convert(trained, method, spread=0)
    assert converted.name == f"{method.name}_resnet20"
    assert converted.spec["method"]["num_members"] == method.num_members
    members = zoo.predict(converted, pictures).members
    assert members.shape == (5, method.num_members, 3)
    np.testing.assert_allclose(
        members, np.broadcast_to(original, members.shape), atol=1e-5 + 1e-3 * original.std()
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", [BatchEnsemble(3), MCDropout(3), Masksembles(3)])
def test_members_differ_and_kernels_stay(trained, pictures, method):
    converted = zoo.convert(trained, method)
    members = zoo.predict(converted, pictures).members
    assert np.abs(members - members[:, :1]).max(axis=(0, 2))[1:].min() > 1e-6
    sources = {layer.name: layer for layer in trained.network.layers}
    kernels = [layer for layer in converted.network.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 22
    for layer in kernels:
        kernel = layer.get_weights()[0]
        np.testing.assert_array_equal(kernel, sources[layer.name].get_weights()[0])


@pytest.mark.jax
@pytest.mark.slow
def test_fast_weights_spread_around_one(trained):
    converted = zoo.convert(trained, BatchEnsemble(4, rank=2), spread=0.1, seed=3)
    layers = [layer for layer in converted.network.layers if hasattr(layer, "fast_weights")]
    fast = [dict(zip((w.name for w in layer.weights), layer.get_weights())) for layer in layers]
    r = np.concatenate([weights["r"].ravel() for weights in fast])
    first, second = (np.concatenate([weights["s"][j].ravel() for weights in fast]) for j in (0, 1))
    for values, mean in ((r, 1), (first, 1), (second, 0)):
        np.testing.assert_allclose([values.mean(), values.std()], [mean, 0.1], atol=0.01)
    again = zoo.convert(trained, BatchEnsemble(4, rank=2), spread=0.1, seed=3)
    for one, other in zip(converted.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_name_takes_the_methods_defaults_and_the_activation_is_kept(pictures):
    single = zoo.build(Single(), "mlp", 3, (8, 8, 3), activation="softmax")
    converted = zoo.convert(single, "mc_dropout")
    assert converted.spec["method"] == zoo.methods.serialize(MCDropout())
    np.testing.assert_allclose(converted.predict(pictures, verbose=0).sum(-1), 1, rtol=1e-5)


def test_what_cannot_be_converted_says_why(trained, raises_line):
    for method in ("nonsense", None, Packed):
        with raises_line(ValueError, "method must be one of zoo.methods"):
            zoo.convert(trained, method)
    with raises_line(ValueError, "spread must be >= 0"):
        zoo.convert(trained, BatchEnsemble(2), spread=-1)
    packed = zoo.build(Packed(2), "mlp", 3, (8, 8, 3))
    for model in (packed, zoo.ensemble([packed]), "single_resnet20"):
        with raises_line(ValueError, "takes a single model"):
            zoo.convert(model, BatchEnsemble(2))


@pytest.mark.jax
@pytest.mark.slow
def test_sparse_models_are_not_taken_for_dense(trained, raises_line):
    sparse = zoo.layers.sparsify(trained, 0.5)
    with raises_line(ValueError, "densify"):
        zoo.convert(sparse, BatchEnsemble(2))
    with raises_line(ValueError, "densify"):
        zoo.fuse([sparse, sparse])
    assert zoo.convert(zoo.layers.densify(sparse), BatchEnsemble(2)).num_members == 2
