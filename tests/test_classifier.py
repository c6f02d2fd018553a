"""A classifier as a Keras model: types, saving, building, refusals.  Runs on every backend."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.losses import CrossEntropy
from zoo.methods import Packed, Single


def test_mean_of_softmaxes_is_stable():
    images = keras.Input((1, 1, 2))
    logits = keras.layers.Reshape((2, 3))(keras.layers.Dense(6, kernel_initializer="ones")(images))
    logits = keras.layers.Rescaling([1e4, 0.0, -1e4])(logits)
    model = zoo.EnsembleClassifier(keras.Model(images, logits))
    given = ops.convert_to_numpy(model(np.ones((1, 1, 1, 2), "float32")))
    np.testing.assert_allclose(given, [[0, -2e4, -4e4]], atol=1e-3)


@pytest.mark.fast("uint8", "float64")
@pytest.mark.parametrize("images_dtype", ["uint8", "int64", "float32", "float64"])
def test_image_types_answer_alike(images_dtype, tiny, images):
    model = tiny()
    expected = ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(
        model.predict(images.astype(images_dtype), verbose=0), expected, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_precision_and_compilation(policy, jit_compile, images, labels):
    keras.config.set_dtype_policy(policy)
    backbone = "mlp" if jit_compile else "lenet"  # XLA takes long over half-precision convolutions
    model = zoo.build(Packed(2, 1), backbone, 3, (16, 16, 3))
    model.compile("adam", CrossEntropy(), metrics=["accuracy"], jit_compile=jit_compile)
    history = model.fit(images, labels, epochs=2, batch_size=5, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    given = model.predict(images, verbose=0)
    assert given.dtype == np.float32
    np.testing.assert_allclose(np.exp(given).sum(axis=-1), 1, atol=1e-5)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.network.get_layer("dense2").compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.fast("method0-lenet")
@pytest.mark.parametrize("backbone", ["lenet", "resnet20"])
@pytest.mark.parametrize("method", [Single(), Packed(2, 1)])
def test_keras_file_round_trip(method, backbone, tiny, images, tmp_path):
    model = tiny(method, backbone, activation="softmax")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is zoo.EnsembleClassifier
    assert loaded.spec == model.spec and loaded.activation == "softmax"
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(images)), ops.convert_to_numpy(model(images))
    )


def test_loaded_model_trains_on_with_its_optimizer(tiny, images, labels, tmp_path):
    model = tiny()
    model.fit(images, labels, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 2
    results = [m.train_on_batch(images, labels, return_dict=True) for m in (model, loaded)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    np.testing.assert_allclose(*[m.predict(images, verbose=0) for m in (model, loaded)], atol=1e-5)


LOAD = """
import sys
import numpy as np
{imports}
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
assert type(model) is zoo.EnsembleClassifier, type(model)
assert type(model.loss) is zoo.losses.CrossEntropy, type(model.loss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports", ["import zoo, keras", "import keras, zoo", "import zoo.losses, keras, zoo"]
)
def test_keras_file_loads_in_a_fresh_process(imports, tiny, images, tmp_path, python):
    model = tiny(backbone="lenet")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    paths = [tmp_path / name for name in ("model.keras", "images.npy", "answers.npy")]
    python("-c", LOAD.format(imports=imports), *paths)
    np.testing.assert_allclose(np.load(paths[-1]), model.predict(images, verbose=0), atol=1e-6)


def test_weights_alone_round_trip(tiny, images, tmp_path):
    model, other = tiny(backbone="lenet"), tiny(backbone="lenet")
    model.save_weights(tmp_path / "model.weights.h5")
    assert not np.allclose(model(images), other(images))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(other(images)), ops.convert_to_numpy(model(images))
    )


BAD_LABELS = {
    "too high": ([0, 1, 2, 3, 1], "0 to 3.*3 classes.*num_classes=4"),
    "negative": ([0, 1, -1, 2, 1], "-1 to 2.*3 classes"),
    "empty": ([], "empty"),
    "fractions": ([0.5, 1, 2, 1, 1], "fractions"),
    "nan": ([math.nan, 1, 2, 1, 1], "NaN"),
    "too wide": (np.eye(4)[[0, 1, 2, 3, 1]], r"\(5, 4\).*3 classes"),
    "too deep": (np.zeros((5, 1, 1)), r"\(5, 1, 1\).*3 classes"),
    "negative soft": (-np.eye(3)[[0, 1, 2, 1, 1]], "soft labels"),
    "nan soft": (np.full((5, 3), math.nan), "soft labels"),
    "words": (["cat", "dog", "dog", "cat", "cat"], "integer"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_refused_in_one_line(kind, tiny, images, raises_line):
    labels, pattern = BAD_LABELS[kind]
    model = tiny()
    before = model.get_weights()
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with raises_line(ValueError, pattern):
            call(images, np.asarray(labels))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"activation": "sigmoid"}, "softmax.*'sigmoid'"),
        ({"member_loss": "max"}, "mean.*'max'"),
        ({"spec": [1]}, r"spec.*\[1\]"),
        ({"spec": {"method": "x"}}, "spec.*'x'"),
        ({"calibration": 5}, "calibration.*5"),
        ({"calibration": keras.layers.Dense(4)}, r"calibration.*\(B, 3\).*\(None, 4\)"),
        ({"class_names": ["cat", "dog", "\x1b[31mred"]}, r"class_names.*x1b"),
    ],
)
def test_classifier_arguments_out_of_range(options, pattern, tiny, raises_line):
    network = tiny().network
    with raises_line(ValueError, pattern):
        zoo.EnsembleClassifier(network, **options)


def test_a_layer_of_ones_own_calibrates(tiny, images):
    class Halved(keras.layers.Layer):
        def call(self, log_probabilities):
            return ops.log_softmax(log_probabilities / 2)

    network = tiny().network
    plain = zoo.EnsembleClassifier(network)
    halved = zoo.EnsembleClassifier(network, calibration=Halved())
    expected = ops.log_softmax(plain(images) / 2)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (halved(images), expected)), atol=1e-6)


def test_classifier_needs_a_member_axis(raises_line):
    inputs = keras.Input((4, 4, 3))
    with raises_line(ValueError, r"\(B, M, K\)"):
        zoo.EnsembleClassifier(keras.Model(inputs, keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"backbone": "vgg"}, "vgg.*resnet20"),
        ({"num_classes": 1}, "num_classes.*1"),
        ({"num_classes": 2.0}, "num_classes.*2.0"),
        ({"input_shape": (16, 16)}, "input_shape"),
        ({"input_shape": (0, 16, 3)}, "input_shape"),
        ({"stem": "large"}, "stem.*large"),
        ({"mean": (1, 2)}, "mean.*2.*3"),
        ({"std": 0}, "std"),
    ],
)
def test_build_arguments_out_of_range(options, pattern, raises_line):
    options = {"backbone": "mlp", "input_shape": (16, 16, 3), **options}
    with raises_line(ValueError, pattern):
        zoo.build(Single(), **options)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet20", "lenet"])
def test_images_too_small_for_a_backbone_or_not(backbone, raises_line):
    if backbone == "lenet":
        with raises_line(ValueError, "input_shape"):
            zoo.build(Single(), backbone, 3, (8, 8, 3))
    else:
        assert zoo.build(Single(), backbone, 3, (8, 8, 3)).network.output_shape == (None, 1, 3)


def test_normalisation_is_inside_the_model(images):
    plain = zoo.build(Single(), "mlp", 3, (16, 16, 3), mean=0, std=1)
    scaled = zoo.build(Single(), "mlp", 3, (16, 16, 3), mean=(10, 20, 30), std=(2, 4, 8))
    scaled.set_weights(plain.get_weights())
    given = ops.convert_to_numpy(scaled(images))
    expected = ops.convert_to_numpy(plain((images - np.float32([10, 20, 30])) / np.float32([2, 4, 8])))
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_stem_follows_the_image_size():
    sizes = {}
    for size in (96, 112):
        network = zoo.build(Single(), "resnet20", 3, (size, size, 3)).network
        sizes[size] = network.get_layer("stem_conv").kernel.shape[:2]
    assert sizes == {96: (3, 3), 112: (7, 7)}
