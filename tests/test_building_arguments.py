"""Arguments of `zoo.build`: numbers that are none, and Keras networks as backbones."""

import json
import math

import keras
import numpy as np
import pytest

import zoo
from zoo.methods import MIMO, BatchEnsemble, DeepEnsemble, Packed, Single


@pytest.mark.parametrize(
    "shape", [(8.5, 8, 1), (8, 8), (8, 8, 0), (8, math.nan, 1), (8, None, 1), (8, "x", 1)]
)
def test_input_shapes_are_whole_numbers(shape, raises_line):
    with raises_line(ValueError, r"input_shape must be \(height, width, channels\), whole numbers; got"):
        zoo.build(zoo.methods.Single(), "mlp", 3, shape)


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean", math.nan), ("std", math.inf), ("std", 1e-45), ("std", 0), ("num_classes", 10**9)],
)
def test_numbers_are_within_bounds(name, value, raises_line):
    with raises_line(ValueError, f"{name} must be .*from .* to .*; got"):
        zoo.build(zoo.methods.Single(), "mlp", input_shape=(8, 8, 1), **{name: value})


@pytest.mark.parametrize("alpha", [math.inf, math.nan, 0, -1])
def test_alpha_is_a_positive_number(alpha, raises_line):
    with raises_line(ValueError, "alpha must be a number > 0"):
        zoo.build(zoo.methods.Packed(2, alpha=alpha), "mlp", 3, (8, 8, 1))


@pytest.mark.filterwarnings("ignore:.*new weights")
def test_integers_of_numpy_are_integers():
    model = zoo.build(Packed(np.int64(2), alpha=np.float32(2)), "mlp", np.int64(3), (8, 8, np.int64(1)))
    assert type(model.num_classes) is int and model.network.output_shape == (None, 2, 3)
    json.dumps(model.spec)
    layer = zoo.layers.PackedConv2D(8, np.array([3, 3]), 2, strides=(np.int64(2), 2))
    assert json.dumps([layer.kernel_size, layer.strides]) == "[[3, 3], [2, 2]]"
    ranges = [[0.1, 1.0]]
    layer = zoo.layers.HyperBatchEnsembleDense(4, 2, ranges=ranges, l2_index=np.int64(0))
    json.dumps(layer.get_config())


@pytest.mark.parametrize("backbone", ["mlp", "user"])
def test_a_method_is_known_by_its_name(backbone):
    options = {"input_shape": (8, 8, 1)} if backbone == "mlp" else {}
    model = zoo.build("packed", user() if backbone == "user" else backbone, 3, **options)
    assert (model.name, model.num_members) == (f"packed_{backbone}", Packed().num_members)


@pytest.mark.parametrize("method", ["pact", None, Packed, 4])
def test_what_is_not_a_method_is_refused(method, raises_line):
    with raises_line(ValueError, "method must be one of zoo.methods, .* or a name: single, .*; got "):
        zoo.build(method, "mlp", 3, (8, 8, 1))


def user(channels=3):
    """A network of features; a classifier's head would give way to a new one."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((12, 12, channels)), layers.Conv2D(8, 3, name="stem"), layers.ReLU(),
         layers.Conv2D(8, 3, name="second"), layers.GlobalAveragePooling2D()],
        name="user",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*new weights")
@pytest.mark.fast("method0")
@pytest.mark.parametrize("method", [Packed(4), BatchEnsemble(3), MIMO(2), DeepEnsemble(2), Single()])
def test_a_keras_network_is_a_backbone(method, tmp_path):
    model = zoo.build(method, user(), num_classes=5, mean=100, std=[50, 60, 70], resize="crop")
    assert (model.name, model.num_classes) == (f"{method.name}_user", 5)
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 15, 3), "uint8")
    model.run_eagerly = method.name == "packed"
    model.fit(images, np.arange(6) % 5, batch_size=3, verbose=0)
    prediction = zoo.predict(model, images)
    assert prediction.members.shape == (6, method.num_members, 5)
    model.save(tmp_path / "model.keras")
    again = zoo.predict(keras.saving.load_model(tmp_path / "model.keras"), images)
    np.testing.assert_allclose(again.members, prediction.members, atol=1e-6)


def test_a_keras_network_sees_normalised_images_and_keeps_its_weights():
    network = user(1)
    model = zoo.build(Single(), network, num_classes=5, mean=100, std=50, activation="softmax")
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 1)).astype("float32")
    head = next(x for x in model.network.layers if isinstance(x, keras.layers.Dense))
    features = keras.Model(model.network.input, head.input)
    np.testing.assert_allclose(
        features.predict(images, verbose=0), network.predict((images - 100) / 50, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stem": "cifar"}, "stem is for this zoo's backbones; got 'cifar' for the model user"),
        ({"input_shape": (32, 32, 3)}, r"input_shape=\(32, 32, 3\) is not that of user, \(12, 12, 3\)"),
        ({"std": 0}, "std must be from 1e-05 to 100000"),
        ({"mean": [1, 2]}, "mean has 2 values for 3 channels"),
        ({"num_classes": 1}, "num_classes"),
        ({"resize": "stretch"}, "resize"),
    ],
)
def test_arguments_that_do_not_fit_a_keras_network(options, said, raises_line):
    with raises_line(ValueError, said):
        zoo.build(Single(), user(), **options)


def test_models_that_are_not_backbones(raises_line):
    with raises_line(ValueError, "single_mlp, a classifier of this zoo, use zoo.convert"):
        zoo.build(Single(), zoo.build(Single(), "mlp", 3, (8, 8, 1)))
    with raises_line(ValueError, "not a built functional or sequential model"):
        zoo.build(Single(), keras.Sequential([keras.layers.Dense(3)]))
