"""Members' own weights against single networks that compute the same; CKA.  Runs on every backend."""

import keras
import numpy as np
import pytest

import zoo
from zoo import metrics
from zoo.methods import (
    MIMO,
    BatchEnsemble,
    DeepEnsemble,
    HyperBatch,
    Masksembles,
    MCDropout,
    Packed,
    Single,
)

SHAPE = (8, 8, 3)
METHODS = {
    "single": Single(),
    "deep ensemble": DeepEnsemble(3),
    "packed": Packed(2, alpha=2, gamma=2),
    "batch ensemble": BatchEnsemble(3, rank=2),
    "own norms": BatchEnsemble(2, per_member_norm=True),
    "hyper batch": HyperBatch(3),
    "masksembles": Masksembles(3, scale=2.0, tile_at=1),
    "dropout": MCDropout(2),
    "mimo": MIMO(3),
}


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def built(method, backbone="resnet20"):
    """A model with all weights drawn, biases and statistics too."""
    model = zoo.build(method, backbone, 5, SHAPE if backbone == "resnet20" else (16, 16, 3))
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        noise = rng.normal(0, 0.1, variable.shape).astype("float32")
        variable.assign(numpy(variable) + noise)
    return model


def as_single(weights, member, backbone):
    """A single network with the weights of one member."""
    single = zoo.build(Single(), backbone, 5, SHAPE if backbone == "resnet20" else (16, 16, 3))
    left = dict(weights)
    for layer in single.network.layers:
        for variable in layer.trainable_variables:
            variable.assign(left.pop(f"{layer.name}/{variable.name}")[member])
    assert not left
    return single


@pytest.mark.fast("hyper batch-mlp")
@pytest.mark.parametrize("backbone", ["mlp", "resnet20"])
@pytest.mark.parametrize(
    "name", ["single", "deep ensemble", "batch ensemble", "hyper batch", "masksembles"]
)
def test_a_member_alone_computes_what_it_does_in_the_ensemble(name, backbone):
    model = built(METHODS[name], backbone)
    shape = (6, *model.input_shape[1:])
    images = np.random.default_rng(5).integers(0, 256, shape, "uint8")
    logits = numpy(model.network(images.astype("float32")))
    weights = metrics.member_weights(model)
    for member in range(model.num_members):
        single = as_single(weights, member, backbone)
        alone = numpy(single.network(images.astype("float32")))[:, 0]
        np.testing.assert_allclose(alone, logits[:, member], rtol=1e-3, atol=1e-3 * np.abs(logits).max())


def test_packed_members_own_all_weights_between_them():
    model = built(METHODS["packed"])
    weights = metrics.member_weights(model)
    assert sum(v.size for v in weights.values()) == model.count_params() - sum(
        np.prod(v.shape) for v in model.non_trainable_variables
    )
    mine = np.concatenate([v.ravel() for v in weights.values()])
    theirs = np.concatenate([numpy(v).ravel() for v in model.trainable_variables])
    np.testing.assert_array_equal(np.sort(mine), np.sort(theirs))
    # Moving member 1's weights moves its logits alone: the slices are its own.
    images = np.random.default_rng(5).integers(0, 256, (2, *SHAPE), "uint8").astype("float32")
    before = numpy(model.network(images))
    head = model.network.get_layer("head")
    kernel = numpy(head.kernel).copy()
    rows = [np.array_equal(g, weights["head/kernel"][1]) for g in kernel]
    kernel[rows] += 1
    head.kernel.assign(kernel)
    moved = np.abs(numpy(model.network(images)) - before).max(axis=(0, 2))
    assert moved[0] == 0 and moved[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_cosine_and_distance_are_those_of_the_vectors(name):
    model = built(METHODS[name], "lenet")
    weights = metrics.member_weights(model)
    count = model.num_members
    vectors = np.concatenate([v.reshape(count, -1) for v in weights.values()], axis=1).astype("float64")
    cosine, distance = metrics.weight_cosine(model), metrics.weight_distance(model)
    for i in range(count):
        for j in range(count):
            norms = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
            assert cosine[i, j] == pytest.approx(vectors[i] @ vectors[j] / norms, abs=1e-9)
            assert distance[i, j] == pytest.approx(np.linalg.norm(vectors[i] - vectors[j]), rel=1e-6)
    assert (np.diag(distance) == 0).all()
    if name == "dropout":
        assert (distance == 0).all() and cosine == pytest.approx(1)
    elif count > 1:
        assert distance[0, 1] > 0.1


@pytest.mark.parametrize("backbone", ["mlp", "resnet20"])
def test_mimo_members_differ_in_the_first_and_last_layer_alone(backbone):
    model = built(METHODS["mimo"], backbone)
    weights = metrics.member_weights(model)
    names = list(weights)
    differing = [name for name, v in weights.items() if (v[0] != v[1]).any()]
    assert differing == [names[0], "head/kernel", "head/bias"]
    head = numpy(model.network.get_layer("head").kernel)
    np.testing.assert_array_equal(weights["head/kernel"][1], head[:, 5:10])
    stem = numpy(model.network.get_layer(names[0].split("/")[0]).kernel)
    # Image of zeros but for member 1's: only its slice answers.
    x = np.random.default_rng(5).normal(size=stem.shape[:-1])
    mine = (x * stem.transpose(stem.ndim - 1, *range(stem.ndim - 1))).reshape(len(stem.T), -1, 3)[..., 1]
    own = (x[..., 1::3, None] * weights[names[0]][1]).sum(tuple(range(stem.ndim - 1)))
    np.testing.assert_allclose(mine.sum(1), own, rtol=1e-4, atol=1e-4)


def test_joined_networks():
    parts = [built(Single(), "mlp"), built(METHODS["deep ensemble"], "mlp")]
    with pytest.raises(ValueError, match="different"):
        metrics.member_weights(zoo.ensemble([built(Single(), "mlp"), built(Single(), "lenet")]))
    distance = metrics.weight_distance(zoo.ensemble(parts))
    assert distance.shape == (4, 4)
    np.testing.assert_allclose(distance[1:, 1:], metrics.weight_distance(parts[1]), rtol=1e-6)


def hsic(x, y):
    """tr(K H L H) of linear kernels, as the paper writes it."""
    n = len(x)
    h = np.eye(n) - 1 / n
    return np.trace(x @ x.T @ h @ y @ y.T @ h)


@pytest.mark.parametrize(("images", "p", "q"), [(40, 5, 7), (10, 30, 20), (12, 3, 40), (2, 1, 1)])
def test_linear_cka(images, p, q):
    rng = np.random.default_rng(p)
    x, y = rng.normal(size=(images, p)) + 3, rng.normal(size=(images, q))
    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert metrics.linear_cka(x, y) == pytest.approx(expected, abs=1e-9)
    assert metrics.linear_cka(y, x) == pytest.approx(expected, abs=1e-9)
    rotation = np.linalg.qr(rng.normal(size=(p, p)))[0]
    assert metrics.linear_cka(x, 1e200 * x @ rotation - 5) == pytest.approx(1)
    assert metrics.linear_cka(x.astype("float32").reshape(images, p, 1), x) == pytest.approx(1)


@pytest.mark.slow
def test_features_of_members():
    images = np.random.default_rng(5).integers(0, 256, (6, 16, 16, 3), "uint8")
    for name in ("single", "deep ensemble", "batch ensemble", "hyper batch", "mimo"):
        model = built(METHODS[name], "mlp")
        features = metrics.member_features(model, images, batch_size=3)
        assert features.shape[:2] == (6, model.num_members)
        weights = metrics.member_weights(model)
        logits = numpy(model.network(images.astype("float32")))
        given = np.einsum("nmp,mpk->nmk", features, weights["head/kernel"]) + weights["head/bias"]
        np.testing.assert_allclose(given, logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    cka = metrics.member_cka(metrics.member_features(built(METHODS["deep ensemble"], "mlp"), images))
    assert cka.shape == (3, 3) and (cka == cka.T).all() and (np.diag(cka) == 1).all()
    assert 0 < cka[0, 1] < 0.999


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.eye(3), np.eye(4), "3 and 4"),
        (np.ones((1, 2)), np.ones((1, 2)), "at least 2.*1"),
        (np.eye(3), [[1.0], [np.nan], [2.0]], "1 of 3.*row 1"),
        (np.eye(3), np.ones((3, 2)), "all 3 images are the same"),
    ],
)
def test_bad_features_are_refused(x, y, match, raises_line):
    with raises_line(ValueError, match):
        metrics.linear_cka(x, y)
    with raises_line(ValueError, "no layer 'nowhere'"):
        metrics.member_features(built(Single(), "mlp"), np.zeros((1, 16, 16, 3)), layer="nowhere")


def test_copies_of_a_converted_network_are_each_members_own():
    stack = [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3, name="trunk"), keras.layers.Flatten()]
    model = keras.Sequential([*stack, keras.layers.Dense(3, name="logits")])
    converted = zoo.convert(model, DeepEnsemble(2), tile_at="head")
    weights = metrics.member_weights(converted)
    assert list(weights) == ["trunk/kernel", "trunk/bias", "logits/kernel", "logits/bias"]
    for member in (0, 1):
        kernel = converted.network.get_layer(f"member{member + 1}_logits").kernel
        np.testing.assert_array_equal(weights["logits/kernel"][member], numpy(kernel))
        np.testing.assert_array_equal(
            weights["trunk/kernel"][member], numpy(model.get_layer("trunk").kernel)
        )
    assert metrics.weight_cosine(converted)[0, 1] < 1
