"""Every method on cheap backbones: shapes, training, saving, independence of the batch, graphs."""

import functools
import itertools
import json

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo import methods
from zoo.methods import (
    MIMO,
    BatchEnsemble,
    DeepEnsemble,
    HyperDeep,
    Masksembles,
    MCDropout,
    Packed,
    SequentialTickets,
    Single,
    Tickets,
)

SIZES = {"mlp": (4, 4, 3), "lenet": (12, 12, 3), "resnet20": (8, 8, 3)}
# Each with arguments that are not the defaults; all of them train on batches of any size.
METHODS = {
    "single": Single(),
    "deep ensemble": DeepEnsemble(2),
    "hyper deep": HyperDeep(3),
    "packed": Packed(2, 3, 1),
    "batch ensemble": BatchEnsemble(3, 2, random_sign_init=0.5, per_member_norm=True),
    "batch ensemble split": BatchEnsemble(3, tile_at=1, training_mode="split"),
    "batch ensemble head": BatchEnsemble(2, tile_at="head"),
    "mimo": MIMO(3, 2, 0.5, seed=1),
    "masksembles": Masksembles(3, 1.5, seed=2),
    "masksembles tile": Masksembles(2, tile_at=0, training_mode="tile"),
    "mc dropout": MCDropout(3, 0.3, seed=4),
    "mc dropout of channels": MCDropout(2, filterwise=True),
    "mc dropout anew": MCDropout(2, tile_at="head", consistent=False),
    "dst tickets": Tickets(2, 0.7),
    "edst tickets": SequentialTickets(3, 0.5),
}
IN_TRAINING = {
    "batch ensemble split": 1,
    "masksembles": 1,
    "mc dropout": 1,
    "mc dropout of channels": 1,
    "mc dropout anew": 1,
    "mimo": 6,
}


def numpy(value):
    return ops.convert_to_numpy(value)


@functools.cache
def images_of(backbone):
    """Five images."""
    return np.random.default_rng(0).integers(0, 256, (5, *SIZES[backbone])).astype("float32")


def build(name, backbone):
    return zoo.build(METHODS[name], backbone, 3, SIZES[backbone])


built = functools.cache(build)  # for tests that leave a model as it is
CHEAP = [(name, "mlp") for name in METHODS]
CHEAP += [
    (name, "lenet") for name in ("batch ensemble", "mimo", "masksembles", "mc dropout of channels")
]
# One case of each method; the others are slow.
EACH = [name for name in METHODS if name.replace(" ", "_") in zoo.methods.METHODS]
EACH_CHEAP = [f"{name}-mlp" for name in EACH]
# Packed networks, deep ensembles among them, have their own tests.
RESIDUAL = [(name, "resnet20") for name in ("batch ensemble", "mimo", "masksembles", "mc dropout")]


def test_every_method_is_here():
    kinds = {type(method) for method in METHODS.values()}
    others = {methods.METHODS["hyper_batch"]} if "hyper_batch" in methods.METHODS else set()
    assert kinds | others == set(methods.METHODS.values())
    assert {cls.name: cls for cls in kinds | others} == methods.METHODS


@pytest.mark.fast(*EACH_CHEAP)
@pytest.mark.parametrize(("name", "backbone"), CHEAP + RESIDUAL)
def test_answers_are_members_and_do_not_depend_on_the_batch(name, backbone):
    network, images = built(name, backbone).network, images_of(backbone)
    members = METHODS[name].num_members
    assert built(name, backbone).num_members == members and network.output_shape == (None, members, 3)
    whole = numpy(network(images))
    assert whole.shape == (5, members, 3) and np.isfinite(whole).all()
    for one, other in itertools.combinations(range(members), 2):
        assert np.abs(whole[:, one] - whole[:, other]).max() > 1e-4
    if name != "mc dropout anew":
        for order in ([3],) if backbone == "resnet20" else ([3], [4, 2], [1, 1, 0, 3]):
            given = numpy(network(images[order]))
            np.testing.assert_allclose(given, whole[order], rtol=1e-4, atol=1e-5 * np.abs(whole).max())


@pytest.mark.fast(*EACH_CHEAP)
@pytest.mark.parametrize(("name", "backbone"), CHEAP)
def test_fit_takes_plain_labels_and_any_batch(name, backbone):
    """Batches of four and of one: fewer than members, and not a multiple of them."""
    model, images, labels = build(name, backbone), images_of(backbone), np.array([0, 1, 2, 1, 1])
    trained = model.network(images, training=True)
    assert trained.shape == (5, IN_TRAINING.get(name, METHODS[name].num_members), 3)
    model.compile("adam", model.loss, metrics=[zoo.metrics.Accuracy()], run_eagerly=True)
    history = model.fit(images, labels, batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and "accuracy" in history.history


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch ensemble split", "mimo"])
def test_every_member_learns(name):
    """Four images by heart, in a compiled graph, with rows shared out or shuffled."""
    model, images, labels = build(name, "mlp"), images_of("mlp")[:4], np.array([0, 1, 2, 0])
    before = [numpy(v).copy() for v in model.trainable_variables]
    model.compile(keras.optimizers.Adam(3e-3), model.loss)
    model.fit(np.repeat(images, 9, axis=0), np.repeat(labels, 9), batch_size=18, epochs=15, verbose=0)
    members = zoo.predict(model, images).members
    assert (members.argmax(axis=-1) == labels[:, None]).mean() > 0.9
    for v, old in zip(model.trainable_variables, before):
        assert (numpy(v) != old).any(), v.path


@pytest.mark.fast(*EACH_CHEAP)
@pytest.mark.parametrize(("name", "backbone"), CHEAP + RESIDUAL)
def test_spec_tells_the_method(name, backbone):
    method, model = METHODS[name], built(name, backbone)
    assert methods.deserialize(json.loads(json.dumps(methods.serialize(method)))) == method
    assert methods.deserialize(model.spec["method"]) == method
    if backbone == "mlp":
        twin = zoo.composing.build_from_spec(json.loads(json.dumps(model.spec)))
        for ours, theirs in zip(model.network.layers, twin.network.layers, strict=True):
            assert ours.name == theirs.name
            assert [v.shape for v in ours.weights] == [v.shape for v in theirs.weights]


@pytest.mark.fast(*EACH)
@pytest.mark.parametrize("name", METHODS)
def test_keras_files_come_back(name, tmp_path):
    model, images = build(name, "mlp"), images_of("mlp")
    model.save(tmp_path / "model.keras")
    expected = numpy(model(images))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.spec == model.spec and loaded.member_loss == model.member_loss
    np.testing.assert_allclose(numpy(loaded(images)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["batch ensemble", "mimo", "mc dropout", "masksembles"])
def test_graphs_agree_with_eager_calls(name):
    """Members differ in every weight of their own, so that a mix-up shows (see test_graph.py)."""
    network, images = build(name, "lenet").network, images_of("lenet")
    rng = np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(numpy(weight) + np.abs(rng.normal(0, 0.1, weight.shape)))
    eager = numpy(network(images))
    assert np.abs(eager[:, 0] - eager[:, 1]).max() > 1e-3
    scale = np.abs(eager).max()
    np.testing.assert_allclose(network.predict(images, verbose=0) / scale, eager / scale, atol=1e-5)


@pytest.mark.parametrize("kind", [DeepEnsemble, HyperDeep])
def test_deep_ensemble_is_networks_that_share_nothing(kind):
    """A step of training moves each member as it would move alone."""
    model = zoo.build(kind(2), "mlp", 3, SIZES["mlp"])
    singles = [build("single", "mlp") for _ in range(2)]
    joined = zoo.fuse(singles)
    assert [v.shape for v in joined.network.weights] == [v.shape for v in model.network.weights]
    model.set_weights(joined.get_weights())
    images, labels = images_of("mlp"), np.array([0, 1, 2, 1, 1])
    for network in (model, *singles):
        network.compile(keras.optimizers.SGD(0.01), network.loss, run_eagerly=True)
        network.train_on_batch(images, labels)
    given = numpy(model.network(images))
    for m, single in enumerate(singles):
        np.testing.assert_allclose(given[:, m], numpy(single.network(images))[:, 0], atol=1e-4)
    assert methods.serialize(kind(2)) == {"name": kind.name, "num_members": 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Tickets, SequentialTickets])
def test_tickets_are_sparse_networks_that_share_nothing(kind, raises_line):
    singles = [zoo.layers.sparsify(build("single", "lenet"), 0.7, seed=seed) for seed in (1, 2)]
    joined, images = zoo.fuse(singles, kind(2, 0.7)), images_of("lenet")
    given = numpy(joined.network(images))
    for m, single in enumerate(singles):
        np.testing.assert_allclose(given[:, m], numpy(single.network(images))[:, 0], atol=1e-4)
    one = zoo.ensemble(singles)
    np.testing.assert_allclose(numpy(one(images)), numpy(joined(images)), atol=1e-4)
    existing = [numpy(layer.mask) for layer in zoo.layers.sparse_layers(joined)]
    assert sum(mask.sum() for mask in existing) == pytest.approx(
        0.3 * sum(mask.size for mask in existing), abs=2
    )
    joined.fit(images, np.array([0, 1, 2, 1, 1]), epochs=2, verbose=0)
    for layer, mask in zip(zoo.layers.sparse_layers(joined), existing, strict=True):
        assert not numpy(layer.kernel)[~mask].any()
    with raises_line(ValueError, "sparse models"):
        zoo.fuse([build("single", "lenet")] * 2, kind(2, 0.7))
    with raises_line(ValueError, "method must be"):
        zoo.fuse(singles, kind(3))


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, "most", float("nan")])
def test_the_sparsity_of_tickets_is_a_share(sparsity, raises_line):
    with raises_line(ValueError, "sparsity"):
        Tickets(2, sparsity)


@pytest.mark.parametrize("kind", [DeepEnsemble, HyperDeep, Tickets])
@pytest.mark.parametrize("value", [0, -1, 2.5, "four"])
def test_members_of_a_deep_ensemble_are_counted(kind, value, raises_line):
    with raises_line(ValueError, f"num_members.*{value}"):
        kind(value)
