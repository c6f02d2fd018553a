"""Compiled graphs give what eager calls give, for members that differ in every weight."""

import numpy as np
import pytest

import zoo


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [1, 2])
@pytest.mark.parametrize("backbone", ["mlp", "lenet", "resnet20"])
def test_predict_agrees_with_an_eager_call(backbone, gamma, images):
    model = zoo.build(zoo.methods.Packed(4, 2, gamma), backbone, 3, (16, 16, 3))
    rng = np.random.default_rng(0)
    # Biases and moving statistics begin alike in all members: a mix-up of members would not show.
    weights = [w + np.abs(rng.normal(0, 0.3, w.shape)) * (w.ndim == 1) for w in model.get_weights()]
    model.set_weights(weights)
    eager = np.asarray(model.network(images.astype("float32")))
    np.testing.assert_allclose(model.network.predict(images, verbose=0), eager, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gamma", [1, 2])
def test_a_single_packed_tensor_agrees_too(gamma, images):
    import keras

    from zoo.layers import PackedConv2D, PackedDense

    x = inputs = keras.Input((16, 16, 3))
    x = PackedConv2D(16, 3, 4, role="stem", bias_initializer="normal", activation="relu")(x)
    for strides in (1, 2):
        x = PackedConv2D(
            16, 3, 4, gamma=gamma, strides=strides, bias_initializer="normal", activation="relu"
        )(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = PackedDense(16, 4, gamma=gamma, bias_initializer="normal", activation="relu")(x)
    model = keras.Model(inputs, PackedDense(3, 4, role="head", bias_initializer="normal")(x))
    images = images.astype("float32") / 255
    np.testing.assert_allclose(model.predict(images, verbose=0), np.asarray(model(images)), atol=1e-5)


@pytest.mark.parametrize("channels", [8, 12])
def test_strided_shortcuts_of_few_channels_train(channels):
    """TensorFlow's own gradient of them corrupts memory with some batch sizes, on AVX-512."""
    import keras

    from zoo.layers import PackedConv2D

    x = keras.Input((16, 16, channels))
    y = PackedConv2D(2 * channels, 1, 1, alpha=1, strides=2, role="shortcut")(x)
    model = keras.Model(x, y)
    model.compile("sgd", "mse")
    given = np.random.default_rng(0).normal(size=(17 * 20, 16, 16, channels))
    model.fit(given, np.zeros((17 * 20, 8, 8, 2 * channels)), batch_size=17, verbose=0)
    assert np.isfinite(model.layers[-1].get_weights()[0]).all()


def test_factors_of_dropout_do_not_grow_with_the_batch():
    """Whatever needs no image is made once and kept: a factor for every row would be gigabytes of constants."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's graphs")
    model = zoo.build(zoo.methods.MCDropout(3), "lenet", 3, (16, 16, 3))
    call = tf.function(lambda images: model(images, training=False))
    graph = call.get_concrete_function(tf.TensorSpec((64, 16, 16, 3), "float32")).graph
    depends = {graph.inputs[0].op}
    sizes = []
    for operation in graph.get_operations():  # in the order in which they were made
        if depends.intersection(x.op for x in operation.inputs):
            depends.add(operation)
        else:
            sizes += [y.shape.num_elements() or 0 for y in operation.outputs if y.dtype == tf.float32]
    assert 3 * 8 * 8 * 6 in sizes  # of the first dropout: members, height, width, channels
    assert max(sizes) < 64 * 3 * 8 * 8 * 6
