"""The backbones' initialiser: Keras's draws, and none where weights are read from a file."""

import threading

import keras
import numpy as np
import pytest

import zoo
import zoo.weights  # which the fixture takes for granted
from zoo.layers.initializers import HeNormal, PartialIdentity, undrawn

SHAPE = (3, 3, 5, 7)


def _draw(initializer):
    return keras.ops.convert_to_numpy(initializer(SHAPE))


def test_draws_are_kerass():
    expected = _draw(keras.initializers.HeNormal(seed=3))
    np.testing.assert_array_equal(_draw(HeNormal(seed=3)), expected)
    twin = keras.initializers.deserialize(keras.initializers.serialize(HeNormal(seed=3)))
    assert type(twin) is HeNormal
    np.testing.assert_array_equal(_draw(twin), expected)
    assert (_draw(HeNormal()) != _draw(HeNormal())).any()


def test_nothing_is_drawn_within_undrawn_in_this_thread_alone():
    others = []
    with pytest.raises(KeyError), undrawn():
        assert not _draw(HeNormal()).any()
        thread = threading.Thread(target=lambda: others.append(_draw(HeNormal())))
        thread.start()
        thread.join()
        raise KeyError
    assert others[0].any() and _draw(HeNormal()).any()


@pytest.mark.slow
def test_a_model_from_weights_has_them_all_and_others_are_drawn(resnet):
    folder, model = resnet
    loaded = zoo.load("packed_resnet20", weights=str(folder))
    for ours, stored in zip(loaded.network.get_weights(), model.network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, stored, atol=1e-3, rtol=1e-3)
    fresh = zoo.load("packed_resnet20", weights=None, input_shape=(8, 8, 3), num_members=2, alpha=1)
    headed = zoo.load("packed_resnet20", weights=str(folder), num_classes=3)
    for kernel in [w for w in fresh.trainable_weights if len(w.shape) > 2] + [
        w for w in headed.network.get_layer("head").weights if len(w.shape) > 1
    ]:
        assert keras.ops.convert_to_numpy(kernel).std() > 0.01


@pytest.mark.parametrize(("size", "inputs", "filters"), [((3, 3), 4, 9), ((3, 3), 4, 4), ((5,), 2, 9)])
def test_partial_identity_copies_its_inputs(size, inputs, filters):
    kernel = keras.ops.convert_to_numpy(PartialIdentity(seed=1)((*size, inputs, filters)))
    assert kernel.shape == (*size, inputs, filters)
    x = np.random.default_rng(0).normal(size=(2, *(7,) * len(size), inputs)).astype("float32")
    y = keras.ops.convert_to_numpy(keras.ops.conv(x, kernel, padding="same"))
    np.testing.assert_allclose(y[..., :inputs], x, atol=1e-6)
    others = kernel[..., inputs:]
    bound = 1 / np.sqrt(np.prod(size) * inputs)
    assert (np.abs(others) <= bound * (1 + 1e-6)).all()
    if others.size:
        assert np.abs(others).max() > 0.8 * bound and others.min() < 0


def test_partial_identity_with_few_filters_is_random_and_its_config_complete():
    few = keras.ops.convert_to_numpy(PartialIdentity(seed=2)((3, 3, 8, 4)))
    assert np.abs(few).min() > 0 and np.abs(few).max() <= 1 / np.sqrt(72) * (1 + 1e-6)
    twin = keras.initializers.deserialize(keras.initializers.serialize(PartialIdentity(seed=2)))
    assert type(twin) is PartialIdentity
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(twin((3, 3, 8, 4))), few)
    with undrawn():
        assert not keras.ops.convert_to_numpy(PartialIdentity()((3, 3, 2, 4))).any()
