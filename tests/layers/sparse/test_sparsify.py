"""`sparsify` and `densify`: our models, keras.applications, users' models; weights, names and outputs."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import zoo
from helpers.arrays import draw
from zoo.layers import SparseConv2D, SparseDense, densify, erk_densities, sparse_layers, sparsify
from zoo.layers.nested_layers import all_layers


def numpy(value):
    return ops.convert_to_numpy(value)


def user_model():
    """Functional, with a shared layer, a nested model, a depthwise convolution and names used twice."""
    inner = keras.Sequential(
        [
            layers.Input((6, 6, 8)),
            layers.DepthwiseConv2D(3, name="depth"),
            layers.Conv2D(5, 1, name="conv"),
        ],
        name="inner",
    )
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", name="conv", activation="relu")(x)
    shared = layers.Conv2D(8, 1, name="shared")
    x = layers.BatchNormalization(name="norm")(shared(shared(x)))
    x = layers.Flatten()(inner(x))
    return keras.Model(inputs, layers.Dense(3, name="dense", bias_initializer="normal")(x), name="user")


def models():
    packed = zoo.methods.Packed(2, 2, 2)
    return {
        "single lenet": (lambda: zoo.build(zoo.methods.Single(), "lenet", 10, (28, 28, 1)), 5),
        "single resnet20": (lambda: zoo.build(zoo.methods.Single(), "resnet20", 3, (8, 8, 3)), 22),
        "packed lenet": (lambda: zoo.build(packed, "lenet", 3, (16, 16, 3)), 5),
        "softmax": (lambda: zoo.build(zoo.methods.Single(), "mlp", 3, (4, 4, 1), activation="softmax"), 3),
        "user": (user_model, 4),
        "mobilenet": (
            lambda: keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=3), 36,
        ),
    }  # fmt: skip


@pytest.fixture(params=models())
def case(request):
    make, count = models()[request.param]
    model = make()
    rng = np.random.default_rng(3)  # moving statistics and biases other than their beginnings
    model.set_weights([w + rng.uniform(0, 0.1, w.shape).astype(w.dtype) for w in model.get_weights()])
    x = rng.uniform(0, 1, (4, *model.input_shape[1:])).astype("float32")
    return model, count, x


@pytest.mark.fast("single lenet", "packed lenet", "user")
def test_every_kind_of_model_becomes_sparse_and_dense_again(case):
    model, count, x = case
    answers, names = numpy(model(x)), [layer.name for layer in all_layers(model)]
    before = model.get_weights()

    same = sparsify(model, 0.0)
    assert type(same) is type(model) and same.name == model.name and same.compiled == model.compiled
    assert [layer.name for layer in all_layers(same)] == names
    assert len(sparse_layers(same)) == count
    np.testing.assert_allclose(numpy(same(x)), answers, rtol=1e-5, atol=1e-6)

    sparse = sparsify(model, 0.8)
    masks = [numpy(layer.mask) for layer in sparse_layers(sparse)]
    size, ones = sum(mask.size for mask in masks), sum(int(mask.sum()) for mask in masks)
    assert ones == round(0.2 * size)
    for layer, mask in zip(sparse_layers(sparse), masks):
        np.testing.assert_array_equal(numpy(layer.kernel)[~mask], 0)
        assert layer.sparsity == pytest.approx(1 - mask.mean())
    assert np.abs(numpy(sparse(x)) - answers).max() > 1e-6

    dense = densify(sparse)
    assert [layer.name for layer in all_layers(dense)] == names
    assert [type(x) for x in all_layers(dense)] == [type(x) for x in all_layers(model)]
    np.testing.assert_allclose(numpy(dense(x)), numpy(sparse(x)), rtol=1e-5, atol=1e-6)
    weights = dense.get_weights()
    assert sum(int((w == 0).sum()) for w in weights) >= size - ones
    for w, old in zip(weights, before, strict=True):
        assert ((w == old) | (w == 0)).all()
    for w, old in zip(model.get_weights(), before, strict=True):  # the given model stays
        np.testing.assert_array_equal(w, old)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_sparse_model_is_saved_and_trained_on(tmp_path, images, labels):
    model = sparsify(zoo.build(zoo.methods.Packed(2, 1), "lenet", 3, (16, 16, 3)), 0.7)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(images)), numpy(model(images)))
    for layer, other in zip(sparse_layers(model), sparse_layers(loaded), strict=True):
        np.testing.assert_array_equal(numpy(layer.mask), numpy(other.mask))
        np.testing.assert_array_equal(numpy(layer.kernel)[~numpy(layer.mask)], 0)
    loaded.fit(images, labels, verbose=0)
    clone = keras.models.clone_model(model.network)  # masks are made again from the layers' seeds
    for layer, other in zip(sparse_layers(model), sparse_layers(clone), strict=True):
        np.testing.assert_array_equal(numpy(layer.mask), numpy(other.mask))


def test_densities_are_those_asked_for():
    model = user_model()
    shapes = [(3, 3, 3, 8), (1, 1, 8, 8), (1, 1, 8, 5), (80, 3)]
    for distribution, expected in (("erk", erk_densities(shapes, 0.5)), ("uniform", [0.5] * 4)):
        found = sparse_layers(sparsify(model, 0.5, distribution))
        for layer, shape, density in zip(found, shapes, expected, strict=True):
            assert tuple(layer.kernel.shape) == shape
            assert abs(numpy(layer.mask).sum() - density * math.prod(shape)) <= 1
    depthwise = sparse_layers(sparsify(model, 0.5, depthwise=True))
    assert len(depthwise) == 5 and (3, 3, 8, 1) in [tuple(layer.mask.shape) for layer in depthwise]


def test_skipped_layers_stay_ordinary():
    model = user_model()
    sparse = sparsify(model, 0.5, "uniform", skip=["shared", "dense"])
    assert [layer.name for layer in sparse_layers(sparse)] == ["conv", "conv"]
    assert type(sparse.get_layer("dense")) is layers.Dense
    np.testing.assert_array_equal(
        sparse.get_layer("dense").get_weights()[0], model.get_layer("dense").get_weights()[0]
    )


def test_magnitude_keeps_the_largest_weights_and_prunes_further():
    model = zoo.build(zoo.methods.Single(), "mlp", 3, (4, 4, 1))
    once = sparsify(model, 0.5, "uniform", criterion="magnitude")
    twice = sparsify(once, 0.9, "uniform", criterion="magnitude")
    at_once = sparsify(model, 0.9, "uniform", criterion="magnitude")
    for layer, other in zip(sparse_layers(twice), sparse_layers(at_once), strict=True):
        np.testing.assert_array_equal(numpy(layer.mask), numpy(other.mask))
        kernel = np.abs(model.network.get_layer(layer.name).get_weights()[0])
        mask = numpy(layer.mask)
        assert kernel[mask].min() >= kernel[~mask].max()


def test_masks_repeat_under_their_seed_alone():
    model = zoo.build(zoo.methods.Single(), "mlp", 3, (4, 4, 1))
    masks = [[numpy(x.mask) for x in sparse_layers(sparsify(model, 0.5, seed=s))] for s in (1, 1, 2)]
    for one, same, other in zip(*masks):
        np.testing.assert_array_equal(one, same)
        assert one.all() or (one != other).any()


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


class Halved(layers.Layer):
    """A user's layer that nobody registered."""

    def call(self, x):
        return x / 2


def test_users_layers_need_no_registration():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4), Halved(), layers.Lambda(lambda x: x + 1)]
    )
    x = draw(3, 6)
    np.testing.assert_allclose(numpy(sparsify(model, 0.0)(x)), numpy(model(x)), atol=1e-6)


def test_a_compiled_model_comes_back_compiled_as_it_was():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, kernel_regularizer="l2")])
    model.compile(keras.optimizers.SGD(0.25, momentum=0.5), "mse", metrics=["mae"])
    sparse = sparsify(model, 0.5)
    assert float(sparse.optimizer.learning_rate) == 0.25 and sparse.optimizer.momentum == 0.5
    assert sparse.loss == "mse"
    layer = sparse_layers(sparse)[0]
    penalty = 0.01 * (numpy(layer.kernel) ** 2).sum()
    np.testing.assert_allclose(float(sparse.losses[0]), penalty, rtol=1e-5)
    x = draw(8, 6)
    assert set(sparse.evaluate(x, draw(8, 4), verbose=0, return_dict=True)) == {"loss", "mae"}


def test_a_loss_that_keras_cannot_name_leaves_the_model_uncompiled():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    model.compile("sgd", lambda_of_nobody)
    with pytest.warns(UserWarning, match="compile it again"):
        assert not sparsify(model, 0.5).compiled


def lambda_of_nobody(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def bare():
    return keras.Sequential([keras.Input((4,)), layers.BatchNormalization()], name="bare")


def subclassed():
    model = Subclassed()
    model.build((None, 4))
    return model


BAD = [
    (lambda: sparsify(user_model(), 1.0), r"sparsity must be in \[0, 1\).*1.0"),
    (lambda: sparsify(user_model(), -0.5), "sparsity.*-0.5"),
    (lambda: sparsify(user_model(), float("nan")), "sparsity.*nan"),
    (lambda: sparsify(bare(), 0.5), "bare has nothing to mask"),
    (lambda: sparsify(user_model(), 0.5, skip=["conv", "shared", "dense"]), "nothing to mask"),
    (lambda: sparsify(user_model(), 0.5, skip=["convolution"]), "skip.*convolution"),
    (lambda: sparsify(user_model(), 0.5, "random"), "distribution.*'random'"),
    (lambda: sparsify(user_model(), 0.5, criterion="best"), "criterion.*'best'"),
    (lambda: sparsify(subclassed(), 0.5), "configuration"),
    (lambda: sparsify(keras.Sequential([layers.Dense(3)]), 0.5), "no weights yet"),
    (lambda: densify(user_model()), "user has no sparse layers"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()


def test_sparse_layers_are_found_in_a_model_written_with_them():
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), SparseConv2D(4, 3), layers.Flatten(), SparseDense(2, sparsity=0.9)]
    )
    assert [type(layer) for layer in sparse_layers(model)] == [SparseConv2D, SparseDense]
    assert [numpy(x.mask).mean() for x in sparse_layers(sparsify(model, 0.5, "uniform"))] == [0.5, 0.5]
