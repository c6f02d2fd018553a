"""Packed-Ensembles of any network: M copies, each alpha / M times as wide, with `gamma` groups."""

from __future__ import annotations

import math

import keras

from zoo import methods
from zoo.converting import copying, graphs
from zoo.converting.copies import Copies

_CHANNELS_A_GROUP = 64  # the least, as in `zoo.layers.PackedConv2D`


class Narrow(Copies):
    """Build a network of M copies of another whose layers have other widths.

    A layer keeps its weights where all their shapes stay, and starts from new ones elsewhere.

    Args:
        graph: a `Graph` that gives logits.
        method: `Packed`.
        start: int, the index of the first step that is copied for each member.

    Raises:
        ValueError: for a layer that cannot be copied; when built, also for one of a fixed width.
    """

    def __init__(self, graph: graphs.Graph, method: methods.Packed, start: int):
        super().__init__(graph, method.num_members, start)
        self.method, self.roles = method, graphs.roles(graph)
        if method.alpha != method.num_members:
            graphs.head_alone(graph, self.roles, method)
        for step in graph.steps[start:] if method.alpha != method.num_members else []:
            self._check_width(step)

    def _check_width(self, step):
        kind = type(step.operation)
        if not step.kernel or self.roles.get(step) == "head":
            return
        inside = isinstance(step.operation, (keras.layers.Wrapper, keras.layers.RNN))
        if kind.__module__.startswith("keras.") and not inside:
            return
        if not {"filters", "units"} & set(_inner(step.operation.get_config())):
            raise ValueError(
                f"{step.name} ({kind.__name__}) cannot have another width, as packed needs; take deep_ensemble, packed "
                "with alpha = num_members and gamma = 1, or a later tile_at"
            )

    def _twin(self, step, name, member, inputs):
        if member is None:
            return super()._twin(step, name, member, inputs)
        return copying.twin(step, name, self._changes(step, inputs))

    def _run(self, step, layer, args, kwargs, member):
        if member is None:
            return layer(*args, **kwargs)
        try:
            return layer(*args, **kwargs)
        except (TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{step.name} cannot have another width, as packed needs ({reason}); take an earlier or later "
                "tile_at, deep_ensemble, or packed with alpha = num_members and gamma = 1"
            ) from None

    def _wide(self, size):
        return max(1, round(size * self.method.alpha / self.method.num_members))

    def _changes(self, step, inputs):
        """What a member's layer differs in from the source's."""
        operation = step.operation
        if isinstance(operation, keras.layers.Reshape):
            return {"target_shape": _reshaped(operation.target_shape, inputs[0].shape[1:])}
        if hasattr(operation, "newshape"):  # keras.ops.reshape
            batch, *target = operation.newshape
            return {"newshape": (batch, *_reshaped(tuple(target), inputs[0].shape[1:]))}
        if self.roles.get(step) == "head" or not isinstance(operation, keras.Layer):
            return {}
        config = operation.get_config()
        inner = _inner(config)
        changes = {key: self._wide(inner[key]) for key in ("filters", "units") if key in inner}
        if inner is not config:  # of a wrapper
            held = {key: config[key] for key in ("layer", "backward_layer") if config.get(key)}
            return {
                key: {**layer, "config": {**layer["config"], **changes}} for key, layer in held.items()
            }
        if isinstance(operation, keras.layers.MultiHeadAttention):
            changes = {key: self._wide(config[key]) for key in ("key_dim", "value_dim")}
        elif isinstance(operation, keras.layers.EinsumDense):
            *others, last = config["output_shape"]
            changes = {"output_shape": (*others, self._wide(last))}
        groups = config.get("groups", 1)
        if groups > 1 and "filters" in changes:
            changes["filters"] = max(1, round(changes["filters"] / groups)) * groups
        elif "filters" in changes and self.roles.get(step) != "stem":
            changes["groups"] = self._groups(inputs[0].shape[-1], changes["filters"])
        return changes if "groups" in config else {k: v for k, v in changes.items() if k != "groups"}

    def _groups(self, inputs, outputs):
        groups = self.method.gamma
        while groups > 1 and (
            inputs % groups or outputs % groups or inputs // groups < _CHANNELS_A_GROUP
        ):
            groups -= 1
        return groups


def _inner(config):
    """The configuration of the layer that a wrapper holds; any other layer's own."""
    layer = config.get("layer")
    return layer["config"] if isinstance(layer, dict) and "config" in layer else config


def _reshaped(target: tuple, given: tuple) -> tuple:
    """A target shape with as many channels, the last axis, as are given."""
    if -1 in target[-1:] or None in given:
        return target
    rest = math.prod(size for size in target[:-1] if size != -1)
    return (*target[:-1], math.prod(given) // rest if -1 not in target else given[-1])
