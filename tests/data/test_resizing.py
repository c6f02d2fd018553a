"""Images of any size at a model's own: the same pixels on every way into a model.  Runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.data.resizing import resized


def photograph(height, width, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (2, height, width, channels), "uint8")


SIZES = [(40, 60), (61, 33), (16, 16), (7, 5), (1, 9), (12, 200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_arrays_and_tensors_get_the_pixels_of_keras(size, resize):
    images = photograph(*size)
    layer = keras.layers.Resizing(16, 12, crop_to_aspect_ratio=resize == "crop")
    expected = ops.convert_to_numpy(layer(ops.convert_to_tensor(images, "float32")))
    given = resized(images, (16, 12), resize)
    assert isinstance(given, np.ndarray) and given.dtype == "float32"
    np.testing.assert_allclose(given, expected, atol=1e-3)
    tensor = resized(ops.convert_to_tensor(images), (16, 12), resize)
    np.testing.assert_allclose(ops.convert_to_numpy(tensor), expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_fit_evaluate_and_predict_resize_alike(resize, tiny, labels):
    model = tiny(resize=resize)
    images = np.repeat(photograph(20, 30), 3, axis=0)[:5]
    small = resized(images, (16, 16), resize)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.predict(small, verbose=0), atol=1e-4
    )
    expected = model.evaluate(small, labels, verbose=0)
    assert model.evaluate(images, labels, verbose=0) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(
        zoo.predict(model, images).members, zoo.predict(model, small).members, atol=1e-5
    )
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for each, pixels in ((model, images), (twin, small)):
        each.compile(keras.optimizers.SGD(1e-3), zoo.losses.CrossEntropy())
        each.fit(pixels, labels, verbose=0)
    for weight, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)


def test_the_way_of_resizing_is_part_of_a_saved_model(tiny, tmp_path):
    tiny(resize="squash").save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.resize == "squash"
    images = photograph(20, 30)
    assert loaded.predict(images, verbose=0).shape == (2, 3)


def test_loaded_models_crop_unless_told_otherwise():
    options = dict(weights=None, input_shape=(16, 16, 3))
    assert zoo.load("single_mlp", **options).resize == "crop"
    assert zoo.load("single_mlp", **options, resize="squash").resize == "squash"
    assert zoo.load("single_mlp", **options, resize=None).resize is None
    assert zoo.load("single_lenet", "fashion_mnist").resize == "crop"
    assert zoo.load("single_lenet", "fashion_mnist", num_classes=3).resize == "crop"


@pytest.mark.slow
def test_joined_and_calibrated_models_keep_it(tiny, images, labels, raises_line):
    from zoo.methods import Single

    models = [tiny(Single(), resize="crop") for _ in range(2)]
    for model in models:
        model.class_names = ["a", "b", "c"]
    joined = [zoo.ensemble(models), zoo.fuse(models), zoo.calibrate(models[0], images, labels)]
    joined += [
        zoo.convert(models[0], "mc_dropout"),
        zoo.convert(models[0], "batch_ensemble", tile_at="head"),
    ]
    for model in joined:
        assert model.resize == "crop" and model.class_names == ["a", "b", "c"]
    models[1].resize = "squash"
    with raises_line(ValueError, "differ in resize"):
        zoo.ensemble(models)


@pytest.mark.parametrize("way", ["fit", "evaluate", "predict"])
def test_other_sizes_are_refused_without_it(way, tiny, raises_line):
    model, images = tiny(), photograph(20, 30)
    arguments = (images,) if way == "predict" else (images, np.array([0, 1]))
    with raises_line(
        ValueError, 'images are 20x30, and this model takes 16x16; load it with resize="crop"'
    ):
        getattr(model, way)(*arguments, verbose=0)


def test_an_unknown_way_is_refused(tiny, raises_line):
    with raises_line(ValueError, 'resize must be "crop", "squash" or None; got \'pad\''):
        tiny(resize="pad")
    with raises_line(ValueError, "got 'pad'"):
        zoo.load("single_mlp", weights=None, resize="pad")
