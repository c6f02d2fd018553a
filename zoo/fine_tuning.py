"""What fine-tuning needs of a classifier: freeze its body, train it again, and use it for features."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo import layers  # its classes when they are used: it may be half imported now
from zoo.layers import keras_internals


class FineTuning:
    """A mix-in of `EnsembleClassifier`: `freeze_body`, `unfreeze` and `backbone`."""

    network: keras.Model

    def __dir__(self):
        # Keras saves what `dir` lists, and would write the body's weights as those of `backbone`.
        return [name for name in super().__dir__() if name != "backbone"]

    def freeze_body(self, learning_rate: float | None = None) -> Any:
        """Train the head alone: the body keeps its weights and its normalisation's statistics.

        A compiled model is compiled again with the same arguments and a fresh optimiser.

        Args:
            learning_rate: float > 0, the optimiser's. Default: None, unchanged.

        Returns:
            The model.

        Raises:
            ValueError: for a network whose last layer with weights cannot be determined.
        """
        heads = {id(layer) for layer in head_layers(self.network)}
        for layer in keras_internals.flatten_layers(self.network):
            if not isinstance(layer, keras.Model):
                layer.trainable = False
        for layer in keras_internals.flatten_layers(self.network):
            if id(layer) in heads:
                layer.trainable = True
        return _compiled_again(self, learning_rate)

    def unfreeze(self, learning_rate: float | None = None) -> Any:
        """Train all of the model again, after `freeze_body`.

        Args:
            learning_rate: float > 0, the optimiser's; a trained body needs a lower one than a new head.
                Default: None, unchanged.

        Returns:
            The model.
        """
        for layer in keras_internals.flatten_layers(self.network):
            layer.trainable = True
        return _compiled_again(self, learning_rate)

    @property
    def backbone(self) -> keras.Model:
        """A model from images (B, H, W, C) to the features (B, M, D) that each member's head sees.

        It shares the classifier's weights. Members of MIMO share their features: M is 1.

        Raises:
            ValueError: for a network whose members have features of different sizes, or none.
        """
        return features(self.network)


def _compiled_again(model, learning_rate):
    if not model.compiled:
        return model
    config = model.get_compile_config()
    model.compile_from_config(config)
    if learning_rate is not None:
        model.optimizer.learning_rate = learning_rate
    return model


def head_layers(network: keras.Model) -> list[keras.Layer]:
    """Return the last layers with weights before a network's logits, one for each network that it joins.

    Args:
        network: a functional `keras.Model`.

    Returns:
        A list of layers.
    """
    return [node.operation for _, node in _heads(network)]


def _heads(network):
    """(tail, node) of each head: its node in the graph, and the operations from there to the logits."""
    found, waiting = [], [(network.outputs[0], [])]
    while waiting:
        tensor, tail = waiting.pop(0)
        node = keras_internals.inbound_node(tensor)
        operation = node.operation
        if isinstance(operation, keras.Model) and operation.weights:
            found += [(inner + tail, head) for inner, head in _heads(operation)]
        elif getattr(operation, "weights", ()):
            found.append((tail, node))
        else:
            waiting += [(parent, [operation, *tail]) for parent in node.input_tensors]
    if not found:
        raise ValueError(f"{network.name} has no layer with weights")
    return found


def features(network: keras.Model, pooling: str | None = "avg", name: str = "backbone") -> keras.Model:
    """Make a model that returns a network's features and shares its weights.

    Args:
        network: a functional `keras.Model` from images to member logits (B, M, K).
        pooling: str, "avg", the features that the head sees, however the backbone pools; "max", the
            largest value of each map; or None, the maps themselves. Default: "avg".
        name: str, the Keras name of the result. Default: "backbone".

    Returns:
        A `keras.Model` from images to (B, M, D), or without pooling (B, M, h, w, D).

    Raises:
        ValueError: for members whose features differ in size, or for "max" or None if the backbone
            does not end in pooled maps.
    """
    if pooling not in ("avg", "max", None):
        raise ValueError(f'pooling must be "avg", "max" or None; got {pooling!r}')
    joined = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if joined:
        images = keras.Input(network.input_shape[1:], name="images")
        parts = [features(layer, pooling, layer.name)(images) for layer in joined]
        if len({part.shape[2:] for part in parts}) > 1:
            raise ValueError(
                "the joined models have features of different sizes; take the backbone of each of them"
            )
        output = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)
        return keras.Model(images, output, name=name)
    heads = _heads(network)
    (tail, node), *_ = heads
    inputs = node.input_tensors
    if len(heads) == network.output_shape[1]:  # members are networks side by side
        inputs = [head.input_tensors[0] for _, head in heads]
    if isinstance(
        node.operation, (layers.MIMOHead, layers.HyperBatchEnsembleDense)
    ):  # first input: features
        inputs = inputs[:1]
    if pooling != "avg":
        inputs = [_maps(tensor, network.name) for tensor in inputs]
    if pooling == "max":
        inputs = [ops.max(maps, axis=(1, 2)) for maps in inputs]
    output = _with_members(inputs, node.operation, tail, network.output_shape[1])
    return keras.Model(network.input, output, name=name)


def _maps(tensor, name):
    """What a feature vector was pooled from, (rows, h, w, D)."""
    while len(tensor.shape) != 4:
        node = keras_internals.inbound_node(tensor)
        if getattr(node.operation, "weights", ()) or not node.input_tensors:
            raise ValueError(f'{name} does not end in pooled maps; pass pooling="avg", its features')
        place = [id(output) for output in node.output_tensors].index(id(tensor))
        tensor = node.input_tensors[place if len(node.output_tensors) > 1 else 0]
    return tensor


def _with_members(inputs, head, tail, members):
    """Features with the member axis, (B, M, ..., D)."""
    if len(inputs) > 1:  # one tensor for each member
        return ops.stack(inputs, axis=1)
    (x,) = inputs
    if any(
        isinstance(operation, layers.MemberLogits) for operation in tail
    ):  # members are rows of the batch
        return ops.swapaxes(ops.reshape(x, (members, -1, *x.shape[1:])), 0, 1)
    if isinstance(head, layers.PackedDense) and members > 1:  # members are side by side in the last axis
        x = ops.reshape(x, (-1, *x.shape[1:-1], members, x.shape[-1] // members))
        return ops.moveaxis(x, -2, 1)
    return ops.expand_dims(x, 1)
