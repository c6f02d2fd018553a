"""Methods that make a whole network, entrance and head included, such as MIMO and those of users."""

from __future__ import annotations

from typing import Any

import keras

from zoo import methods
from zoo.converting import copying, graphs
from zoo.layers.member_lists import is_list_of_members

_NORM_OPTIONS = ("name", "trainable", "dtype", "momentum", "epsilon", "center", "scale")
_SIZES = {"conv": ("filters", "kernel_size"), "dense": ("units",), "depthwise_conv": ("kernel_size",)}


class HookBuilder:
    """Build a network by asking a method for each layer, as this zoo's backbones do.

    A layer keeps its weights where their shapes stay, and starts from new ones elsewhere.

    Args:
        graph: a `Graph` that gives logits.
        method: any `Method`.

    Raises:
        ValueError: for a graph that reads its images in several ways, or has no dense head.
    """

    def __init__(self, graph: graphs.Graph, method: methods.Method):
        self.graph, self.method, self.roles = graph, method, graphs.roles(graph)
        self.factory = method.layer_factory(1)
        stems = [step for step, role in self.roles.items() if role == "stem"]
        entrances = {id(x): x for step in stems for x in step.inputs}
        if len(entrances) != 1:
            named = ", ".join(step.name for step in stems[:4]) or "its head"
            raise ValueError(
                f"the images of {graph.name} enter {named}, and {method.name} needs a single first layer "
                "before the head; take deep_ensemble, packed or batch_ensemble"
            )
        (self.entrance,) = entrances.values()
        self._check_head()

    def _check_head(self):
        head = graphs.head_alone(self.graph, self.roles, self.method)
        rank = len(head.inputs[0].shape)
        tail = graphs.tail(self.graph)
        after = self.graph.steps[self.graph.steps.index(head) + 1 :]
        if type(head.operation) is not keras.layers.Dense or rank != 2 or set(after) - set(tail):
            raise ValueError(
                f"{head.name} is not a Dense layer at the end of {self.graph.name}, which {self.method.name} needs; "
                "pass its features and num_classes=, or take deep_ensemble, packed or batch_ensemble"
            )
        self.head = head

    def build(self, preprocess: Any, spread: float, seed: int) -> keras.Model:
        """Build the network.

        Args:
            preprocess: function of symbolic images.
            spread, seed: not used; other builders need them.

        Returns:
            A functional model from images (B, H, W, C) to member logits (B, M, K).
        """
        images = keras.Input(self.graph.images.shape[1:], name="images")
        self.values, self.made, self.known, self.twins = {}, [], set(), {}
        self.values[id(self.graph.images)] = preprocess(images)
        self.entered, self.begun = False, False
        for step in self.graph.steps[: self.graph.steps.index(self.head) + 1]:
            results = self._call(step)
            self.values.update((id(tensor), value) for tensor, value in zip(step.outputs, results))
        logits = self.factory.members(self.values[id(self.head.outputs[0])])
        network = self.method.finish(keras.Model(images, logits, name="network"))
        self.new_weights = []
        for step, layer in self.made:
            same = type(layer) is type(step.operation)
            give = copying.load if same else copying.load_matching
            if step.fresh or not give(step.operation, layer):
                layer.trainable = True  # even where the source is frozen
                self.new_weights += [step.name] * (step.name not in self.new_weights)
        return network

    def _call(self, step):
        role = self.roles.get(step)
        if role == "stem" and not self.entered:
            key, self.entered = id(self.entrance), True
            self.values[key] = self.factory.expand(self.values[key])
            copying.layers_between(self.values[key], self.known)
        if role in ("hidden", "shortcut") and not self.begun:
            self.begun = True
            self._begin(1, step)
        if step is self.head:
            self._begin("head", step)
        args, kwargs = step.filled(self.values)
        results = (
            keras.tree.flatten(args[0]) if step.dropped else self._results(step, role, args, kwargs)
        )
        for layer in copying.layers_between(results, self.known):
            if getattr(layer, "weights", ()):
                self.made.append((step, layer))
        return [results] if len(results) > len(step.outputs) else results

    def _begin(self, stage, step):
        key = id(step.inputs[0])
        self.values[key] = self.factory.begin_stage(stage, self.values[key])

    def _results(self, step, role, args, kwargs):
        hook = self._hook(step, role)
        layer = hook or self._plain(step)
        try:
            outputs = layer(*args, **({} if hook else kwargs))
        except (TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{step.name} cannot be a layer of {self.method.name} ({reason}); take deep_ensemble"
            ) from None
        shape = None if is_list_of_members(outputs) else outputs.shape
        if step is not self.head and shape and shape[1:] != step.outputs[0].shape[1:]:
            raise ValueError(
                f"{step.name} gives {shape} instead of {step.outputs[0].shape} under {self.method.name}; take "
                "deep_ensemble, packed or batch_ensemble"
            )
        return keras.tree.flatten(outputs)

    def _plain(self, step):
        """The step's own layer, for a tensor or for a list with one per member."""
        if step.key not in self.twins:
            layer = copying.twin(step, step.name)
            ours = isinstance(layer, keras.Layer) and not step.weighted
            self.twins[step.key] = self.factory.per_member(layer) if ours else layer
        return self.twins[step.key]

    def _hook(self, step, role):
        """The method's layer in place of the step's; None where the method has no say."""
        operation = step.operation
        if step.key in self.twins:
            return self.twins[step.key]
        config = {}
        if isinstance(operation, keras.Layer):
            graphs.check_merged(step, self.method)
            config = {**operation.get_config(), **step.changes, "name": step.name}
        if isinstance(operation, keras.layers.BatchNormalization):
            made = self.factory.norm(**{key: config[key] for key in _NORM_OPTIONS})
        elif kind := graphs.KERNELS.get(type(operation)):
            size = [config.pop(name) for name in _SIZES[kind]]
            made = getattr(self.factory, kind)(*size, role, **config)
        else:
            return None
        self.twins[step.key] = made
        return made
