"""Layers of a source network copied, with their weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.converting import graphs
from zoo.layers.keras_internals import inbound_node
from zoo.layers.nested_layers import all_layers
from zoo.layers.repaired import Repaired, accepted


def twin(step: graphs.Step, name: str, changes: dict | None = None) -> Any:
    """Make a new layer or operation with a step's configuration, without weights.

    Args:
        step: a `Step`.
        name: str, the new layer's name.
        changes: dict, other changes of its configuration. Default: None.

    Returns:
        A layer or operation.

    Raises:
        ValueError: for a layer that cannot be made from its configuration.
    """
    operation = step.operation
    try:
        config = {**operation.get_config(), **step.changes, **(changes or {}), "name": name}
        return _made(type(operation), _without_shapes(config))
    except (TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{step.name} cannot be copied, give it a get_config: {reason}") from None
    except ValueError as error:
        if isinstance(operation, keras.layers.Lambda):
            raise ValueError(
                f"{step.name} is a Lambda layer, which no file can hold safely; replace it by Keras layers or a "
                "registered layer of your own, or pass it as preprocessing= if it scales the images"
            ) from None
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{step.name} cannot be copied: {reason}") from None


def _without_shapes(config):
    """A configuration without the input shapes for which layers inside would be built: a wrapper's may change."""
    if isinstance(config, dict):
        return {key: _without_shapes(value) for key, value in config.items() if key != "build_config"}
    return [_without_shapes(value) for value in config] if isinstance(config, list) else config


def _made(kind, config):
    try:
        return kind.from_config(config)
    except (TypeError, ValueError):
        fewer = accepted(kind, config) if issubclass(kind, keras.Layer) else config
        if len(fewer) == len(config) or issubclass(kind, keras.layers.Lambda):
            raise
    return Repaired(kind.from_config(fewer), name=config["name"])


def load(source: Any, copy: Any, noise: Any = None) -> bool:
    """Copy the weights of a layer and of the layers inside it to another, if all shapes match.

    Args:
        source: a layer or operation.
        copy: another one of the same configuration, but for its width.
        noise: function of a shape that returns factors for kernels. Default: None.

    Returns:
        Whether the weights were copied, or there are none.
    """
    if not isinstance(source, keras.Layer):
        return True
    copy = copy.layer if isinstance(copy, Repaired) else copy
    if [weight.shape for weight in source.weights] != [weight.shape for weight in copy.weights]:
        return False
    for part, other in zip(all_layers(source), all_layers(copy), strict=True):
        other.trainable = part.trainable  # the configuration of a layer does not tell it of those inside
        store = {}
        part.save_own_variables(store)
        values = {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}
        if noise is not None:
            values = {key: _noisy(value, noise) for key, value in values.items()}
        other.load_own_variables(values)
    return True


def _noisy(value, noise):
    floats = np.issubdtype(value.dtype, np.floating)
    return value * noise(value.shape).astype(value.dtype) if floats and value.ndim > 1 else value


def share(source: Any, layer: Any, spread: float, rng: np.random.Generator) -> None:
    """Give a layer that members share a plain layer's weights, and draw those that tell members apart.

    Args:
        source: the plain layer; None for a head that starts from new weights.
        layer: its counterpart.
        spread: float, standard deviation of BatchEnsemble's factors around one.
        rng: a `numpy.random.Generator` that draws them.
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


def load_matching(source: Any, layer: Any) -> bool:
    """Copy those weights of a plain layer that match a method's layer in name and shape.

    Args:
        source: the plain layer.
        layer: what the method made in its place.

    Returns:
        A bool, whether all weights that both have by name were copied.
    """
    values = {weight.name: keras.ops.convert_to_numpy(weight) for weight in source.weights}
    fits = True
    for weight in layer.weights:
        value = values.get(weight.name)
        if value is not None and value.shape == tuple(weight.shape)[-value.ndim :]:
            weight.assign(np.broadcast_to(value, weight.shape))
        elif value is not None:
            fits = False
    return fits


def layers_between(outputs: Any, known: set) -> list:
    """The operations that made symbolic tensors, without those that are known, the last first.

    Args:
        outputs: symbolic tensors.
        known: set of ids of operations; the new ones are added.

    Returns:
        A list of layers and operations.
    """
    found, stack = [], list(keras.tree.flatten(outputs))
    while stack:
        node = inbound_node(stack.pop())
        if id(node.operation) not in known:
            known.add(id(node.operation))
            found.append(node.operation)
            stack.extend(node.input_tensors)
    return found
