"""`EnsembleClassifier` and `zoo.predict` with TensorFlow's own data sets and tensors."""

import numpy as np
import pytest
import tensorflow as tf

import zoo


def test_fit_evaluate_and_predict_take_tf_data(tiny, images, labels):
    model = tiny()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    expected = model.evaluate(images, labels, batch_size=2, verbose=0)
    assert model.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-5)
    given = model.predict(data.map(lambda x, y: x), verbose=0)
    np.testing.assert_allclose(given, model.predict(images, verbose=0), atol=1e-6)
    history = model.fit(
        data.repeat(), epochs=2, steps_per_epoch=3, validation_data=data, verbose=0
    ).history
    assert np.isfinite(history["val_loss"]).all() and len(history["loss"]) == 2


def test_predictions_of_tf_data(tiny, images):
    model = tiny()
    data = tf.data.Dataset.from_tensor_slices(images).batch(2)
    np.testing.assert_allclose(
        zoo.predict(model, data).members, zoo.predict(model, images).members, atol=1e-6
    )


def test_tensors_are_arrays(tiny, images, labels, raises_line):
    model = tiny()
    expected = model.evaluate(images, labels, verbose=0)
    tensors = tf.constant(images), tf.constant(labels)
    assert model.evaluate(*tensors, verbose=0) == pytest.approx(expected, rel=1e-5)
    given = zoo.predict(model, tensors[0]).members
    np.testing.assert_allclose(given, zoo.predict(model, images).members, atol=1e-6)
    with raises_line(ValueError, "0 to 3.*3 classes"):
        model.fit(tensors[0], tf.constant([0, 1, 2, 3, 0]))
