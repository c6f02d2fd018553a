"""The layers inside a model's layers: found, and copied."""

import keras
from keras import ops

from zoo.layers.keras_internals import child_layers


def all_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A model (or layer) and all layers inside it, each once, in the order of the model.

    Args:
        model: `keras.layers.Layer` or `keras.Model`.

    Returns:
        List of `keras.layers.Layer`, first the model itself.
    """
    found, waiting = {}, [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            waiting.extend(reversed(child_layers(layer)))
    return list(found.values())


def copy_weights(source: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Give a copy of a model the model's weights, and what layers such as `Normalization` compute from them.

    Args:
        source: `keras.layers.Layer` or `keras.Model`.
        copy: another one with the same layers inside.
    """
    for layer, other in zip(all_layers(source), all_layers(copy), strict=True):
        store: dict = {}
        layer.save_own_variables(store)
        other.load_own_variables({key: ops.convert_to_numpy(value) for key, value in store.items()})
