"""Users' networks with layers that keep more than weights, mix softmaxes, or share names."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import zoo
from helpers import runtimes
from zoo.methods import MIMO, BatchEnsemble, DeepEnsemble, Masksembles, Packed

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), "uint8")


def answers(model):
    return zoo.predict(model, IMAGES).probabilities


def softmax(logits):
    return ops.convert_to_numpy(ops.softmax(logits))


def adapted():
    layer = layers.Normalization()
    layer.adapt(IMAGES.astype("float32"))
    return layer


@pytest.fixture(scope="module")
def source():
    """A network with an augmentation, adapted means and variances, and moving ones."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.RandomFlip(), adapted(), layers.Conv2D(4, 3), layers.BatchNormalization(),
         layers.Flatten(), layers.Dense(4)],
        name="source",
    )  # fmt: skip
    model.layers[3].set_weights([np.full(4, value, "float32") for value in (1.5, 0.2, 0.3, 2.0)])
    return model


@pytest.fixture(scope="module")
def expected(source):
    return softmax(source(IMAGES.astype("float32"), training=False))


def test_adapted_values_are_copied(source, expected):
    np.testing.assert_allclose(answers(zoo.ensemble([source, source])), expected, atol=1e-5)
    np.testing.assert_allclose(
        answers(zoo.convert(source, BatchEnsemble(2), spread=0)), expected, atol=1e-5
    )


def test_adapted_preprocessing_is_copied_under_a_name_of_its_own():
    scale = adapted()
    plain = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(0.5, name="preprocess"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    inside = keras.Sequential([keras.Input((8, 8, 3)), layers.Resizing(8, 8), scale], name="preprocess")
    for given in (scale, inside):
        model = zoo.convert(plain, "single", preprocessing=given)
        wanted = softmax(plain(scale(IMAGES.astype("float32"))))
        np.testing.assert_allclose(answers(model), wanted, atol=1e-5)
    model = zoo.convert(plain, "single", preprocessing=layers.Lambda(lambda x: x / 100))
    np.testing.assert_allclose(answers(model), softmax(plain(IMAGES / 100.0)), atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only SavedModels are written on others"
)
@pytest.mark.fast("litert", "onnx")
@pytest.mark.parametrize("format", ["litert", "onnx", "openvino", "savedmodel"])
def test_exports_have_adapted_and_moving_values(source, expected, format, tmp_path):
    model = zoo.convert(source, Masksembles(2, scale=1.0))
    call = runtimes.run(zoo.export(model, tmp_path / "out", format))
    np.testing.assert_allclose(call(IMAGES)["probabilities"], expected, atol=1e-4)


def mixed(kind):
    """A classifier whose answer is a mean of probabilities."""
    if kind == "pooled":
        return keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Rescaling(0.01), layers.Conv2D(4, 1, activation="softmax"),
             layers.GlobalAveragePooling2D()]
        )  # fmt: skip
    images = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(0.01)(images))
    parts = [layers.Dense(4, activation="softmax")(x), layers.Softmax()(layers.Dense(4)(x))]
    return keras.Model(images, layers.Average()(parts))


@pytest.mark.parametrize("kind", ["pooled", "averaged"])
def test_means_of_softmaxes_are_not_taken_for_logits(kind, raises_line):
    model = mixed(kind)
    with raises_line(ValueError, "has layers between the softmax .* pass from_logits=False"):
        zoo.convert(model, "batch_ensemble")
    with raises_line(ValueError, "pass from_logits=False"):
        zoo.ensemble([model])
    wanted = ops.convert_to_numpy(model(IMAGES.astype("float32")))
    np.testing.assert_allclose(answers(zoo.ensemble([model], from_logits=False)), wanted, atol=1e-5)
    assert zoo.convert(model, "single", num_classes=3).num_classes == 3


def test_attention_and_a_reshaped_softmax_are_no_means():
    images = keras.Input((8, 8, 3))
    x = ops.reshape(images / 255, (-1, 64, 3))
    x = ops.sum(x * ops.softmax(layers.Dense(1)(x), axis=1), axis=1)
    x = layers.Reshape((4,))(layers.Dense(4, activation="softmax")(x))
    model = keras.Model(images, x)
    wanted = ops.convert_to_numpy(model(IMAGES.astype("float32")))
    np.testing.assert_allclose(answers(zoo.convert(model, "single")), wanted, atol=1e-5)


@pytest.mark.parametrize("place", ["head", "layer"])
def test_a_log_softmax_gives_logits(place):
    last = [layers.Dense(4, activation="log_softmax")]
    if place == "layer":
        last = [layers.Dense(4), layers.Activation("log_softmax")]
    first = [layers.Rescaling(0.01), layers.Flatten(), layers.Dense(6, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *first, *last])
    wanted = np.exp(ops.convert_to_numpy(model(IMAGES.astype("float32"))))
    for method in (BatchEnsemble(2), DeepEnsemble(2)):
        np.testing.assert_allclose(answers(zoo.convert(model, method, spread=0)), wanted, atol=1e-5)
    with pytest.warns(UserWarning, match="new weights"):
        assert zoo.convert(model, MIMO(2)).num_members == 2
    assert len(zoo.convert(model, "single", num_classes=3).new_weights) == 1


@pytest.mark.parametrize("wrap", [list, dict])
def test_inputs_and_outputs_may_have_names(wrap):
    images = keras.Input((8, 8, 3), name="picture")
    logits = layers.Dense(4, name="classes")(layers.Flatten()(layers.Rescaling(0.01)(images)))
    named = [{"picture": images}, {"classes": logits}] if wrap is dict else [[images], [logits]]
    model = keras.Model(*named)
    wanted = softmax(keras.Model(images, logits)(IMAGES.astype("float32")))
    for made in (zoo.convert(model, BatchEnsemble(2), spread=0), zoo.ensemble([model])):
        np.testing.assert_allclose(answers(made), wanted, atol=1e-5)


def test_a_head_that_is_called_before_the_end_keeps_its_width(raises_line):
    images = keras.Input((8, 8, 3))
    shared = layers.Dense(4, name="shared")
    x = layers.Dense(4)(layers.Flatten()(layers.Rescaling(0.01)(images)))
    model = keras.Model(images, shared(layers.ReLU()(shared(x))), name="tied")
    wanted = softmax(model(IMAGES.astype("float32")))
    np.testing.assert_allclose(
        answers(zoo.convert(model, BatchEnsemble(2), spread=0)), wanted, atol=1e-5
    )
    for method in (MIMO(2), Packed(2, alpha=1)):
        with raises_line(ValueError, "shared is the head of tied and is called before .*deep_ensemble"):
            zoo.convert(model, method)


def test_names_inside_models_may_be_the_same():
    images, inside = keras.Input((8, 8, 3)), keras.Input((None, None, 4))
    inner = keras.Model(inside, layers.Conv2D(4, 3, name="conv")(inside), name="inner")
    x = inner(layers.Conv2D(4, 3, name="conv")(images))
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    with pytest.warns(UserWarning, match="new weights"):
        model = zoo.convert(keras.Model(images, x), MIMO(2))
    assert model.num_members == 2


def test_low_rank_updates_are_refused_where_kernels_are_taken_over(raises_line):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5, name="mid"), layers.Dense(4)]
    )
    model.get_layer("mid").enable_lora(2)
    for method in ("batch_ensemble", "mimo"):
        with raises_line(ValueError, "mid has LoRA enabled"):
            zoo.convert(model, method)
    assert zoo.convert(model, "deep_ensemble").num_members == 4


def test_a_converted_single_is_converted_on(source, expected, raises_line):
    single = zoo.convert(source, "single")
    on = zoo.convert(single, BatchEnsemble(2), spread=0)
    assert on.name == "batch_ensemble_source"
    np.testing.assert_allclose(answers(on), expected, atol=1e-5)
    with raises_line(ValueError, "takes a single model"):
        zoo.convert(on, "single")


class Unregistered(layers.Layer):
    def call(self, x):
        return x / 100


def test_layers_that_keras_does_not_know_are_joined():
    model = keras.Sequential([keras.Input((8, 8, 3)), Unregistered(), layers.Flatten(), layers.Dense(4)])
    wanted = softmax(model(IMAGES.astype("float32")))
    np.testing.assert_allclose(answers(zoo.ensemble([model, model])), wanted, atol=1e-5)


def test_features_of_networks_side_by_side(source):
    joined = zoo.ensemble([source, zoo.convert(source, "single")])
    assert joined.backbone.output_shape == (None, 2, 144)
    for method in (DeepEnsemble(3), Packed(3, alpha=3)):
        model = zoo.convert(source, method)
        assert model.backbone.output_shape == (None, 3, 144)


def test_an_operation_with_the_name_of_a_layer_is_joined():
    images = keras.Input((8, 8, 3))
    x = layers.Flatten()(images)
    logits = layers.Dense(4)(layers.Add()([x, x]) + 3.0)
    model = keras.Model(images, logits)
    joined = zoo.ensemble([model, model], from_logits=True)
    expected = softmax(model(IMAGES.astype("float32")))
    np.testing.assert_allclose(answers(joined), expected, atol=1e-5)


def test_a_tail_whose_steps_are_used_twice_is_looked_through_once(monkeypatch):
    x = layers.GlobalAveragePooling2D()(images := keras.Input((8, 8, 3)))
    for _ in range(60):  # 2 ** 60 ways back
        x = layers.Average()([x, x])
    converted = zoo.convert(keras.Model(images, x), BatchEnsemble(2), num_classes=4)
    assert converted.num_classes == 4
