"""Layers whose `get_config` has entries that their class does not take, such as KerasHub's patches of a ViT."""

from __future__ import annotations

import inspect
from typing import Any

import keras

_ALWAYS = ("name", "trainable", "dtype")


def accepted(layer_class: Any, config: dict) -> dict:
    """The entries of a configuration that a class has arguments for.

    Args:
        layer_class: class of a layer.
        config: dict, its `get_config`.

    Returns:
        dict.
    """
    names = inspect.signature(layer_class.__init__).parameters
    return {key: value for key, value in config.items() if key in names or key in _ALWAYS}


@keras.saving.register_keras_serializable(package="zoo")
class Repaired(keras.layers.Layer):
    """A layer that is saved with only those entries of its configuration that its class takes.

    Args:
        layer: a `keras.Layer`.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        return self.layer(inputs, **kwargs)

    def compute_output_spec(self, inputs: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(inputs, **kwargs)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        layer["config"] = accepted(type(self.layer), layer["config"])
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Repaired:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
