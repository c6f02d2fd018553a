"""Methods whose members share kernels: a trunk computed once, then members as rows of the batch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.converting import copying, graphs
from zoo.layers import BatchNormalization, MemberLogits, TileMembers
from zoo.methods.tiled import Tiled

_NORMS = (keras.layers.BatchNormalization, BatchNormalization)
# What a method is asked with; its layer has the rest from its own arguments or from the source's weights.
_NORM_OPTIONS = ("name", "trainable", "dtype", "momentum", "epsilon", "center", "scale")


class Rows:
    """Build a network of members that are rows of the batch.

    A layer that the method has a counterpart for is replaced by it from the cut on. Other layers run on
    the rows as they are, or once for all members as long as nothing before them tells members apart.

    Args:
        graph: a `Graph` that gives logits.
        method: `Tiled` or `HyperBatch`.
        start: int, the index of the first step whose layer may be replaced.

    Raises:
        ValueError: for a layer that the method cannot take, or a network without any that it can.
    """

    def __init__(self, graph: graphs.Graph, method: Any, start: int):
        self.graph, self.method = graph, method
        self.tiled = isinstance(method, Tiled)
        self.factory = method if self.tiled else method.layer_factory(1)
        self.roles = graphs.roles(graph)
        self.twins, self.own, self.drawn = {}, {}, {}  # by the source's layer; the last by step
        self.early = {step.key for step in graph.steps[:start]}
        self.names = {step.name for step in graph.steps}
        for index, step in enumerate(graph.steps):
            if index >= start and (made := self._without_weights(step)) is not None:
                self.drawn[step] = made
            if step.key not in self.own and index >= start and (made := self._made(step)) is not None:
                self.own[step.key] = made
            if not step.dropped:
                self.twins.setdefault(step.key, copying.twin(step, step.name))
        self.start = start
        if not self.own and not self.drawn:
            raise ValueError(
                f"{graph.name} has no layer from {graph.steps[start].name} on that {method.name} changes; "
                "take an earlier tile_at, or deep_ensemble"
            )

    def _made(self, step):
        """The method's counterpart of a step's layer; None where it has none."""
        kind, role = graphs.KERNELS.get(type(step.operation)), self.roles.get(step)
        if getattr(self.method, "per_member_norm", False) and type(step.operation) in _NORMS:
            config = step.operation.get_config()
            if config["axis"] in (-1, len(step.outputs[0].shape) - 1):
                return self.factory.norm(**{key: config[key] for key in _NORM_OPTIONS})
        if kind is None or getattr(step.operation, "quantization_mode", None):
            return None
        graphs.check_merged(step, self.method)
        if role in ("hidden", "head"):
            self.factory.begin_stage("head" if role == "head" else 1, None)
        options = {**step.operation.get_config(), **step.changes, "name": self._name(step)}
        size = [options.pop(name) for name in _SIZES[kind]]
        try:
            made = getattr(self.factory, kind)(*size, role, **options)
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{step.name} cannot be a layer of {self.method.name} ({reason}); take deep_ensemble or single"
            ) from None
        return None if type(made) is type(step.operation) else made

    def _name(self, step):
        """The name of the method's layer, which may be called before the cut as it is, too."""
        return f"{step.name}_members" if step.key in self.early else step.name

    def _without_weights(self, step):
        """What the method makes of a layer without weights, once for each call of it; None for the layer itself."""
        operation = step.operation
        if step.weighted or step.dropped or not isinstance(operation, keras.Layer):
            return None
        calls = sum(step.key == other.key for other in self.drawn)
        name = self._name(step) + (f"_{calls + 1}" if calls else "")
        while calls and name in self.names:
            name += "_"
        self.names.add(name)
        layer = copying.twin(step, name)
        made = self.factory.per_member(layer)
        return None if made is layer else made

    def build(self, preprocess: Any, spread: float, seed: int) -> keras.Model:
        """Build the network.

        Args:
            preprocess: function of symbolic images.
            spread: float, standard deviation of BatchEnsemble's factors around one.
            seed: int, the seed of their draw.

        Returns:
            A functional model from images (B, H, W, C) to member logits (B, M, K).
        """
        images = keras.Input(self.graph.images.shape[1:], name="images")
        self.once, self.rows = {id(self.graph.images): preprocess(images)}, {}
        self.loads, self.expanded, self.known = {}, False, set()
        for index, step in enumerate(self.graph.steps):
            self._call(index, step)
        finish = MemberLogits(self.method.num_members, self._mode(), name="members")
        logits = finish(self._on_rows(self.graph.output))
        network = keras.Model(images, logits, name="network")
        rng = np.random.default_rng(seed)
        self.new_weights = list(dict.fromkeys(s.name for s, _, _ in self.loads.values() if s.fresh))
        for step, layer, is_own in self.loads.values():
            if step.fresh:
                layer.trainable = True  # even where the source is frozen
            if is_own:
                copying.share(None if step.fresh else step.operation, layer, spread, rng)
            elif not step.fresh:
                copying.load(step.operation, layer)
        return network

    def _mode(self):
        return self.method.training_mode if self.tiled else "tile"

    def _on_rows(self, tensor):
        """A tensor with a row for each member and image, tiled if it is not yet."""
        if id(tensor) not in self.rows:
            once = self.once[id(tensor)]
            if not self.tiled and not self.expanded:  # which also makes the hyperparameters
                self.rows[id(tensor)], self.expanded = self.factory.expand(once), True
            else:
                count = sum(1 for key in self.rows if key in self.once)
                name = f"tile_{count}" if count else "tile"
                tile = TileMembers(self.method.num_members, self._mode(), name=name)
                self.rows[id(tensor)] = tile(once)
        return self.rows[id(tensor)]

    def _call(self, index, step):
        own = self.drawn.get(step, self.own.get(step.key) if index >= self.start else None)
        is_own = own is not None
        on_rows = is_own or any(id(tensor) not in self.once for tensor in step.inputs)
        given = {id(x): self._on_rows(x) if on_rows else self.once[id(x)] for x in step.inputs}
        args, kwargs = step.filled(given)
        if step.dropped:
            results = [args[0]]
        elif is_own:
            copying.layers_between(args[0], self.known)
            results = [own(args[0])]
            for layer in copying.layers_between(results, self.known):
                self.loads[id(layer)] = step, layer, True
        else:
            layer = self.twins[step.key]
            results = keras.tree.flatten(layer(*args, **kwargs))
            self.loads[id(layer)] = step, layer, False
        made = self.rows if on_rows else self.once
        made.update((id(tensor), result) for tensor, result in zip(step.outputs, results))


_SIZES = {"conv": ("filters", "kernel_size"), "dense": ("units",), "depthwise_conv": ("kernel_size",)}
