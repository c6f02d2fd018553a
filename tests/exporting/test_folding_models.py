"""Whole models fold: every method of the zoo, joined ones, users' own; and what cannot be folded is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from helpers.folding import check, norms, numpy, random_weights, tower
from zoo import methods
from zoo.backbones.wide_resnet import _block
from zoo.exporting.folding import folded
from zoo.layers import MIMOExpand, sparse_layers
from zoo.layers.nested_layers import all_layers

RNG = np.random.default_rng(7)


ZOO = {
    "single": (methods.Single(), "resnet20", []),
    "packed": (methods.Packed(2, 1, gamma=2), "resnet20", []),
    "batch_ensemble": (methods.BatchEnsemble(3, rank=2), "resnet20", []),
    "batch_ensemble_norms": (methods.BatchEnsemble(2, per_member_norm=True), "resnet20", []),
    "hyper_batch": (methods.HyperBatch(2), "resnet20", []),
    "masksembles": (methods.Masksembles(2), "resnet20", []),
    "mimo": (methods.MIMO(3), "resnet20", []),
    "mimo_mlp": (methods.MIMO(3), "mlp", []),
    "mc_dropout": (methods.MCDropout(2, rate=0.3), "resnet20", []),
    "restless": (methods.MCDropout(2, rate=0.3, consistent=False), "lenet", []),
    "deep_ensemble": (methods.DeepEnsemble(2), "lenet", []),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_method_folds(name):
    method, backbone, left = ZOO[name]
    model = zoo.build(method, backbone, 3, (16, 16, 3))
    images = RNG.integers(0, 256, (5, 16, 16, 3)).astype("float32")
    if name == "restless":
        copy = folded(random_weights(model.network))
        for count in (1, 5):
            assert copy(images[:count]).shape == (count, 2, 3)
        assert (numpy(copy(images)) != numpy(copy(images))).any()  # it still draws anew
        return
    copy = check(model.network, images, left)
    assert not [layer for layer in all_layers(copy) if isinstance(layer, MIMOExpand)]


@pytest.mark.slow
def test_user_models_fold_inside():
    """A backbone of Keras called with training=False, as in fine-tuning, and a compiled network."""
    base = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
    network = keras.Model(inputs, layers.Reshape((2, 3))(layers.Dense(6)(x)))
    network.compile("sgd", "mse")
    model = zoo.EnsembleClassifier(network)
    check(model.network, RNG.uniform(0, 255, (3, 32, 32, 3)).astype("float32"))


@pytest.mark.slow
def test_ensembles_and_tickets_fold():
    singles = [zoo.build(methods.Single(), "resnet20", 3, (8, 8, 3)) for _ in range(2)]
    images = RNG.uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    for joined in (zoo.ensemble(singles), zoo.fuse(singles)):
        check(joined.network, images)
    tickets = zoo.build(methods.Tickets(2), "resnet20", 3, (8, 8, 3))
    dense = zoo.layers.densify(tickets.network)
    assert not sparse_layers(check(dense, images))


def test_wide_resnets_fold_what_follows_a_convolution():
    """Pre-activation: the second normalisation of each block; the others follow sums."""
    inputs = keras.Input((8, 8, 3))
    factory = methods.Single().layer_factory(3)
    x = y = layers.Conv2D(4, 3, padding="same")(inputs)
    for block in range(2):
        y = _block(factory, y, 4, 1, not block, f"block{block}")
    left = ["block0_1_norm", "block1_1_norm"]
    check(keras.Model(inputs, [x, y]), RNG.normal(size=(2, 8, 8, 3)).astype("float32"), left)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_folds_in_its_own_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = zoo.build(methods.Packed(2, 1), "resnet20", 3, (8, 8, 3))
    images = RNG.uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    copy = folded(random_weights(model.network))
    assert {layer.compute_dtype for layer in copy.layers} == {policy[6:]}
    assert not norms(copy)
    expected, given = numpy(model.network(images)), numpy(copy(images))
    assert np.abs(given - expected).max() < 0.1 * np.abs(expected).max()


class Doubled(layers.Layer):
    """A layer whose copies answer otherwise."""

    factor = 2.0

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"factor": self.factor + 1e-3} if self.factor < 100 else super().get_config()


class Uncopied(Doubled):
    def __init__(self, factor):
        super().__init__(factor)

    def get_config(self):
        return {"other": 1}


def test_copies_that_answer_otherwise_are_refused(raises_line):
    with raises_line(ValueError, "folded answers differently, by .*optimize=False"):
        folded(tower(Doubled()))
    with raises_line(ValueError, "cannot be copied"):
        folded(tower(Uncopied(2.0)))
    nan = tower(layers.Dense(2, bias_initializer=keras.initializers.Constant(np.nan)))
    with raises_line(ValueError, "folded answers differently, by nan"):
        folded(nan)


class Own(keras.Model):
    """A network that is not its graph."""

    def call(self, x):
        return x


def test_networks_without_a_graph_stay():
    network = Own()
    assert folded(network) is network
