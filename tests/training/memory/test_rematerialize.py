"""Gradient checkpointing: the same training with fewer activations kept.  Runs on every backend."""

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import zoo
from zoo.backbones import BACKBONES, resnet
from zoo.losses import CrossEntropy
from zoo.training.memory import rematerialize as module
from zoo.training.memory.graph_cuts import best_cuts
from zoo.training.memory.rematerialize import Rematerialized, rematerialize

BACKEND = keras.backend.backend()
METHODS = {
    "single": zoo.methods.Single(),
    "packed": zoo.methods.Packed(2),
    "batch_ensemble": zoo.methods.BatchEnsemble(2),
    "mimo": zoo.methods.MIMO(2, batch_repetitions=2),
    "hyper_batch": zoo.methods.HyperBatch(2),
    "masksembles": zoo.methods.Masksembles(2),
    "mc_dropout": zoo.methods.MCDropout(2),
}


def blocks(method, images, stem=None):
    """A residual network of two stages, one block each."""
    return resnet._resnet(method, images, "cifar", resnet._basic, (4, 8), (1, 1))


blocks.stages = 2


@pytest.fixture(autouse=True)
def small_backbone(monkeypatch):
    monkeypatch.setitem(BACKBONES, "blocks", blocks)


def batch(side=8):
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (8, side, side, 3), "uint8"), np.arange(8) % 3


def pair(method, backbone="blocks", side=8):
    """Two models with equal variables, of which the second one's network is rematerialised."""
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        models.append(zoo.build(METHODS.get(method, method), backbone, 3, (side, side, 3)))
    for ours, theirs in zip(models[1].variables, models[0].variables, strict=True):
        ours.assign(ops.convert_to_numpy(theirs))
    network = rematerialize(models[1].network)
    return models[0], zoo.EnsembleClassifier(network, member_loss=models[1].member_loss)


def values(model):
    """(end of the variable's name, its value) of all variables, in order."""
    variables = model.network.variables
    return [(v.path.split("/", 1)[-1], ops.convert_to_numpy(v)) for v in variables]


def train(model, side=8, steps=3, **options):
    """Losses of some steps."""
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
    model.compile(optimizer, CrossEntropy(), **{"jit_compile": BACKEND == "jax", **options})
    return [float(np.ravel(model.train_on_batch(*batch(side)))[0]) for _ in range(steps)]


def assert_equal_values(model, expected):
    for (name, value), (expected_name, wanted) in zip(values(model), values(expected), strict=True):
        assert name == expected_name
        np.testing.assert_allclose(value, wanted, atol=1e-6, rtol=1e-6, err_msg=name)


@pytest.mark.fast("packed-lenet-16-True")
@pytest.mark.parametrize(
    ("method", "backbone", "side", "graph"),
    [*((method, "blocks", 8, False) for method in METHODS), ("batch_ensemble", "resnet20", 8, False),
     ("packed", "lenet", 16, True), ("hyper_batch", "lenet", 16, True)],
)  # fmt: skip
def test_training_is_the_same(method, backbone, side, graph):
    plain, remat = pair(method, backbone, side)
    before = values(plain)
    # TensorFlow takes ten times longer to build a graph than for three steps without one.
    eager = {"run_eagerly": BACKEND == "tensorflow" and not graph}
    np.testing.assert_allclose(train(remat, side, **eager), train(plain, side, **eager), rtol=1e-6)
    assert_equal_values(remat, plain)
    for (name, old), (_, new) in zip(before, values(plain), strict=True):
        assert name not in ("moving_mean", "seed_generator_state") or (old != new).any()


def activations(tensors):
    """Bytes of those tensors that are activations: four axes, the first of them the batch of eight."""
    kept = [x for x in tensors if len(x.shape) == 4 and x.shape[0] == 8]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in kept)


def torch_kept(network, images, monkeypatch):
    """What autograd saves and what checkpoints begin with, storages once."""
    import torch

    kept, checkpoint = {}, module.CHECKPOINTS["torch"]

    def note(value):
        kept[value.untyped_storage().data_ptr()] = value
        return value

    def noting(function, inputs, held):
        return checkpoint(function, keras.tree.map_structure(note, inputs), held)

    monkeypatch.setitem(module.CHECKPOINTS, "torch", noting)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        logits = network(images, training=True)
    del logits
    return activations(kept.values())


def jax_kept(network, images, monkeypatch):
    """What the function holds that takes gradients back."""
    import jax

    state = [ops.copy(variable.value) for variable in network.non_trainable_variables]

    def forward(weights):
        return network.stateless_call(weights, state, images, training=True)

    weights = [variable.value for variable in network.trainable_variables]
    _, back, _ = jax.vjp(forward, weights, has_aux=True)
    return activations({id(leaf): leaf for leaf in jax.tree.leaves(back)}.values())


def tensorflow_kept(network, images, monkeypatch):
    """What operations that `tape.gradient` made read of those that were there before."""
    import tensorflow as tf

    weights, kept = [variable.value for variable in network.trainable_variables], []

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            logits = network(images, training=True)
        before = set(images.graph.get_operations())
        gradients = tape.gradient(logits, weights)
        after = [op for op in images.graph.get_operations() if op not in before]
        read = {x.ref(): x for op in after for x in op.inputs if x.op in before}
        kept.append(activations(map(SizedTensor, read.values())))
        return gradients

    step.get_concrete_function(tf.constant(images))
    return kept[0]


class SizedTensor:
    """A symbolic tensor of TensorFlow, with sizes as an array has them."""

    def __init__(self, tensor):
        self.shape = tuple(tensor.shape) if tensor.shape.rank is not None else ()
        self.dtype = np.dtype(tensor.dtype.as_numpy_dtype)


KEPT = {"torch": torch_kept, "jax": jax_kept, "tensorflow": tensorflow_kept}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["single", "packed"])
def test_what_is_inside_segments_is_not_kept(method, monkeypatch):
    plain, remat = pair(method, "resnet20")
    images = ops.convert_to_tensor(batch()[0], dtype="float32")
    kept, less = (KEPT[BACKEND](m.network, images, monkeypatch) for m in (plain, remat))
    assert 0 < less < 0.6 * kept


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    plain, remat = pair("batch_ensemble")
    np.testing.assert_allclose(train(remat), train(plain), rtol=2e-2)
    for (name, value), (_, wanted) in zip(values(remat), values(plain), strict=True):
        assert value.dtype == wanted.dtype
        if "moving" in name:  # updated in float32, as without
            np.testing.assert_allclose(value, wanted, rtol=1e-2, atol=1e-2)


def test_inference_is_the_networks():
    plain, remat = pair("mc_dropout")
    given, wanted = (ops.convert_to_numpy(model(batch()[0])) for model in (remat, plain))
    np.testing.assert_array_equal(given, wanted)


@pytest.mark.slow
def test_weights_files_and_configs_are_interchangeable(tmp_path):
    plain, remat = pair("packed")
    train(remat, steps=1)
    remat.network.save_weights(tmp_path / "remat.weights.h5")
    plain.network.load_weights(tmp_path / "remat.weights.h5")
    assert_equal_values(remat, plain)
    remat.save(tmp_path / "remat.keras")
    loaded = keras.saving.load_model(tmp_path / "remat.keras")
    assert isinstance(loaded.network, Rematerialized)
    assert loaded.network.segments == remat.network.segments
    assert_equal_values(loaded, remat)


class Noise(keras.layers.Layer):
    """Adds a loss and drops units, in a layer that does not take `training` itself."""

    def __init__(self):
        super().__init__(name="noise")
        self.dropout = keras.layers.Dropout(0.5, seed=1)

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return self.dropout(x)


def chain(make, **options):
    """A network of small dense layers on a wide image, `make` in the middle, and its rematerialisation."""
    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        x = images = keras.Input((8, 8, 3))
        x = keras.layers.Flatten()(x)
        for index in range(6):
            x = keras.layers.Dense(16, "tanh", **(options if index == 1 else {}))(x)
            x = make()(x) if index == 2 else x
        x = keras.layers.Reshape((1, 3))(keras.layers.Dense(3)(x))
        networks.append(keras.Model(images, x))
    networks[1].set_weights(networks[0].get_weights())
    return [zoo.EnsembleClassifier(n) for n in (networks[0], rematerialize(networks[1]))]


@pytest.mark.slow
def test_added_losses_count_once():
    l2 = keras.regularizers.L2(0.1)
    plain, remat = chain(Noise, activity_regularizer=l2, kernel_regularizer=l2)
    assert any("noise" in segment for segment in remat.network.segments[:-1])
    np.testing.assert_allclose(train(remat), train(plain), rtol=1e-6)
    assert_equal_values(remat, plain)


def test_a_variable_that_is_not_the_layers_own_is_refused():
    count = keras.Variable(0.0, trainable=False)

    class Counts(keras.layers.Layer):
        def call(self, x):
            count.assign(count + 1)
            return x

    with pytest.raises(ValueError, match="assigns to a variable that is not its own"):
        chain(Counts)[1].network(batch()[0], training=True)


def test_what_cannot_be_cut_is_refused(raises_line):
    class Subclassed(keras.Model):
        pass

    with raises_line(ValueError, "only functional models can be cut; mine is a Subclassed"):
        rematerialize(Subclassed(name="mine"))
    images = keras.Input((4,))
    with raises_line(ValueError, "small has no place to cut it"):
        rematerialize(keras.Model(images, keras.layers.Dense(2)(images), name="small"))


def memory(cuts, sizes, crossing):
    inside = [sum(sizes[start:end]) for start, end in itertools.pairwise(cuts)]
    return sum(crossing[cut] for cut in cuts[1:-1]) + max(inside)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8))
def test_cuts_are_the_best_of_all(pairs):
    sizes, crossing = [list(column) for column in zip(*pairs)]
    crossing.append(0)
    cuts = best_cuts(sizes, crossing)
    assert cuts[0] == 0 and cuts[-1] == len(sizes) and cuts == sorted(set(cuts))
    inner = range(1, len(sizes))
    every = (c for count in range(len(sizes)) for c in itertools.combinations(inner, count))
    best = min(memory([0, *some, len(sizes)], sizes, crossing) for some in every)
    assert memory(cuts, sizes, crossing) == best


@pytest.mark.slow
def test_residual_networks_are_cut_between_blocks():
    segments = pair("mimo", "resnet20")[1].network.segments
    ends = [segment[-1] for segment in segments[:-1]]
    assert len(ends) >= 4 and all(end.endswith("_relu") and "_1_" not in end for end in ends)
