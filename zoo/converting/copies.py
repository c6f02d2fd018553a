"""Methods whose members are networks of their own: a trunk computed once, then M copies of the rest."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.converting import copying, graphs


class Copies:
    """Build a network of M copies of another, which may share its first layers.

    Args:
        graph: a `Graph` that gives logits.
        num_members: int >= 1, M.
        start: int, the index of the first step that is copied for each member.

    Raises:
        ValueError: for a layer that cannot be copied.
    """

    def __init__(self, graph: graphs.Graph, num_members: int, start: int):
        self.graph, self.num_members, self.start = graph, num_members, start
        for step in graph.steps:
            copying.twin(step, step.name)  # its checks are ours
        if num_members > 1 and not any(step.weighted for step in graph.steps[start:]):
            raise ValueError(
                f"{graph.name} has no weights from {graph.steps[start].name} on; take an earlier tile_at"
            )

    def build(self, preprocess: Any, spread: float, seed: int) -> keras.Model:
        """Build the network.

        Args:
            preprocess: function of symbolic images.
            spread: float, standard deviation of the factors of members' kernels around one.
            seed: int, the seed of their draw.

        Returns:
            A functional model from images (B, H, W, C) to member logits (B, M, K).
        """
        images = keras.Input(self.graph.images.shape[1:], name="images")
        self.values, self.layers = {id(self.graph.images): preprocess(images)}, {}
        for index, step in enumerate(self.graph.steps):
            self._call(index, step)
        logits = self._each(self.values[id(self.graph.output)])
        names = ["members"] if len(logits) == 1 else [f"member{m + 1}" for m in range(len(logits))]
        logits = [keras.layers.Reshape((1, x.shape[-1]), name=n)(x) for x, n in zip(logits, names)]
        if len(logits) > 1:
            logits = [keras.layers.Concatenate(axis=1, name="members")(logits)]
        network = keras.Model(images, logits[0], name="network")
        rng = np.random.default_rng(seed)
        self.new_weights = []
        for (_, member), (step, layer) in self.layers.items():
            noise = None if member is None or not spread else lambda size: rng.normal(1, spread, size)
            kept = not step.fresh and copying.load(step.operation, layer, noise)
            if not kept:
                layer.trainable = True  # even where the source is frozen
                self.new_weights += [step.name] * (step.name not in self.new_weights)
        return network

    def _each(self, value):
        """A list with one tensor per member."""
        return value if isinstance(value, list) else [value] * self.num_members

    def _call(self, index, step):
        given = {id(x): self.values[id(x)] for x in step.inputs}
        apart = any(isinstance(value, list) for value in given.values())
        if not apart and not (index >= self.start and step.weighted and self.num_members > 1):
            results = self._results(step, given, None)
        else:
            members = []
            for m in range(self.num_members):
                mine = {key: self._each(value)[m] for key, value in given.items()}
                members.append(self._results(step, mine, m))
            results = [list(outputs) for outputs in zip(*members)]
        self.values.update((id(tensor), result) for tensor, result in zip(step.outputs, results))

    def _results(self, step, given, member):
        args, kwargs = step.filled(given)
        if step.dropped:
            return [args[0]]
        key = step.key, member
        if key not in self.layers:
            name = step.name if member is None else f"member{member + 1}_{step.name}"
            tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
            self.layers[key] = step, self._twin(step, name, member, tensors)
        return keras.tree.flatten(self._run(step, self.layers[key][1], args, kwargs, member))

    def _twin(self, step, name, member, inputs):
        return copying.twin(step, name)

    def _run(self, step, layer, args, kwargs, member):
        return layer(*args, **kwargs)
