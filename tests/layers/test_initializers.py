"""The backbones' initialiser: Keras's draws, and none where weights are read from a file."""

import threading

import keras
import numpy as np
import pytest

import zoo
import zoo.weights  # which the fixture takes for granted
from zoo.layers.initializers import HeNormal, undrawn

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
