"""Layers whose configuration has entries that they do not take are copied and saved by the others."""

import keras
import numpy as np

import zoo
from zoo.layers.repaired import Repaired, accepted


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """A layer that tells more than it takes, as KerasHub's `ViTPatchingAndEmbedding` does."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.shift = self.add_weight(name="shift", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor + self.shift

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "computed": 2 * self.factor}


def test_a_layer_that_tells_too_much_is_converted_and_saved(tmp_path):
    images = keras.Input((4, 4, 3))
    x = Scaled(0.01, name="scaled")(images)
    head = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(images, head)
    converted = zoo.convert(model, zoo.methods.BatchEnsemble(2), spread=0)
    assert isinstance(converted.network.get_layer("scaled"), Repaired)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")
    members = keras.ops.softmax(converted.network(pixels))
    np.testing.assert_allclose(members[:, 1], model(pixels), atol=1e-6)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.network(pixels), converted.network(pixels))


def test_only_entries_with_an_argument_are_accepted():
    config = Scaled(0.5, name="scaled").get_config()
    kept = accepted(Scaled, config)
    assert set(config) - set(kept) == {"computed"} and kept["name"] == "scaled"
