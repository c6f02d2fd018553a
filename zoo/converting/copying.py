"""Layers of a source network copied, with their weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.converting import graphs
from zoo.layers.sparse.layers import all_layers


def twin(step: graphs.Step, name: str) -> Any:
    """A new layer or operation of a step's configuration, without weights.

    Args:
        step: a `Step`.
        name: str, the new layer's name.

    Returns:
        A layer or operation.

    Raises:
        ValueError: for a layer that cannot be made from its configuration.
    """
    operation = step.operation
    try:
        return type(operation).from_config({**operation.get_config(), **step.changes, "name": name})
    except (TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{step.name} cannot be copied, give it a get_config: {reason}") from None


def load(source: Any, copy: Any, noise: Any = None) -> None:
    """Copy the weights of a layer and of the layers inside it.

    Args:
        source: a layer or operation.
        copy: another one of the same configuration.
        noise: function of a shape that returns factors for kernels. Default: None.
    """
    if not isinstance(source, keras.Layer):
        return
    for part, other in zip(all_layers(source), all_layers(copy), strict=True):
        store = {}
        part.save_own_variables(store)
        values = {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}
        if noise is not None:
            values = {key: _noisy(value, noise) for key, value in values.items()}
        other.load_own_variables(values)


def _noisy(value, noise):
    floats = np.issubdtype(value.dtype, np.floating)
    return value * noise(value.shape).astype(value.dtype) if floats and value.ndim > 1 else value


def share(source: Any, layer: Any, spread: float, rng: np.random.Generator) -> None:
    """Give a layer that members share a plain layer's weights, and draw those that tell members apart.

    Args:
        source: the plain layer; None for a head that starts from new weights.
        layer: its counterpart.
        spread: float, standard deviation of BatchEnsemble's factors around one.
        rng: what draws them.
    """
    weights = [] if source is None else source.weights
    values = {weight.name: keras.ops.convert_to_numpy(weight) for weight in weights}
    fast = {id(weight) for weight in getattr(layer, "fast_weights", ())}
    for weight in layer.weights:
        if id(weight) in fast:
            drawn = rng.normal(1.0, spread, weight.shape)
            if weight is layer.s:
                drawn[1:] -= 1  # of a sum of terms only the first is the network's
            weight.assign(drawn)
        elif weight.name == "e_kernel":  # a hyper-batch ensemble begins without an effect of its numbers
            weight.assign(np.zeros(weight.shape))
        elif weight.name in values:  # one for all, or the same for each member
            weight.assign(np.broadcast_to(values[weight.name], weight.shape))
