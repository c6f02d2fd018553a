"""NaN and infinite pixels are answered with NaN: by the classifier and by everything that it is exported to."""

import numpy as np
import pytest
from keras import ops

import zoo
from zoo.classifier import nan_where_not_finite

METHODS = {
    "single": zoo.methods.Single(),
    "deep_ensemble": zoo.methods.DeepEnsemble(2),
    "packed": zoo.methods.Packed(4, alpha=2, gamma=2),
    "batch_ensemble": zoo.methods.BatchEnsemble(2),
    "rank_2": zoo.methods.BatchEnsemble(2, rank=2),
    "mimo": zoo.methods.MIMO(2),
    "hyper_batch": zoo.methods.HyperBatch(2),
    "masksembles": zoo.methods.Masksembles(4),
    "mc_dropout": zoo.methods.MCDropout(3),
    "tickets": zoo.methods.Tickets(2),
}
BAD = [False, True, False, True, True]


@pytest.fixture
def pixels(images):
    """Five float images of which three hold NaN or infinite pixels where a ReLU or a pooling meets them."""
    pixels = images.astype("float32")
    pixels[1, 3:8, 3:8] = np.nan
    pixels[3, 0, 0, 0] = np.inf
    pixels[4, 15, 15] = -np.inf
    return pixels


def _all_nan(values):
    values = ops.convert_to_numpy(values)
    rows = values.reshape(len(values), -1)
    assert (np.isnan(rows).any(axis=1) == np.isnan(rows).all(axis=1)).all()
    return np.isnan(rows).all(axis=1).tolist()


@pytest.mark.fast("packed")
@pytest.mark.parametrize("name", METHODS)
def test_image_with_nan_is_answered_with_nan(name, pixels, images, tiny):
    model = tiny(METHODS[name], "lenet")
    expected = model.predict(images.astype("float32"), verbose=0)
    answers = model.predict(pixels, verbose=0)
    assert _all_nan(answers) == BAD
    np.testing.assert_array_equal(answers[[0, 2]], expected[[0, 2]])
    assert _all_nan(model(pixels)) == BAD
    # In training MIMO's members see other images of the batch, too.
    assert np.isnan(ops.convert_to_numpy(model(pixels, training=True))[BAD]).all()


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_pixels_that_resizing_leaves_out_count(resize, tiny):
    pixels = np.zeros((2, 64, 96, 3), "float32")
    pixels[1, 0, 0] = np.nan
    assert _all_nan(tiny(resize=resize)(pixels)) == [False, True]


def test_guard_changes_no_logit_and_no_gradient(images):
    logits = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
    for dtype in ("uint8", "float32", "float16", "float64"):
        same = nan_where_not_finite(ops.array(logits), ops.array(images.astype(dtype)))
        np.testing.assert_array_equal(ops.convert_to_numpy(same), logits)
    huge = np.full((5, 16, 16, 3), 1e30, "float32")
    np.testing.assert_array_equal(nan_where_not_finite(ops.array(logits), ops.array(huge)), logits)


def test_calibrated_and_softmax_answers_are_nan_too(pixels, tiny, images):
    model = tiny(activation="softmax")
    assert _all_nan(model.predict(pixels, verbose=0)) == BAD
    calibrated = zoo.calibrate(tiny(), images, np.array([0, 1, 2, 1, 1]))
    assert _all_nan(calibrated.predict(pixels, verbose=0)) == BAD


def test_loss_of_an_image_with_nan_is_nan(pixels, tiny, labels):
    model = tiny(backbone="lenet")
    loss = model.compute_loss(pixels, ops.array(labels), model(pixels, training=True))
    assert np.isnan(float(loss))


@pytest.mark.slow
def test_saved_model_answers_nan(pixels, tiny, tmp_path):
    """Other methods and files are in exporting/test_runtimes.py."""
    import tensorflow as tf

    zoo.export(tiny(METHODS["rank_2"], "lenet"), tmp_path)
    answers = tf.saved_model.load(tmp_path).signatures["serving_default"](images=tf.constant(pixels))
    assert {key: _all_nan(value) for key, value in answers.items()} == dict.fromkeys(answers, BAD)
