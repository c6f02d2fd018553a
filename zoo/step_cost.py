"""Count the work, memory and communication of a training step from a network's layers.

Nothing is measured; `zoo.training.cost.time_model` turns the counts into times.
"""

import dataclasses
import math
from collections.abc import Sequence

import keras

from zoo import kernel_uses
from zoo.converting.graphs import graph_of, rows_of
from zoo.layers import PerMember
from zoo.layers.sparse.layers import Sparse

_ITEM = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "bool": 1, "uint8": 1, "int8": 1}
_ALIASES = (keras.layers.Flatten, keras.layers.Reshape)  # whose outputs are their inputs in memory
_NEED_OUTPUTS = (keras.layers.ReLU, keras.layers.Activation, keras.layers.MaxPooling2D)
_NEED_INPUTS = (keras.layers.MaxPooling2D,)


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The cost of training a network, most of it for one image.

    Args:
        trainable: int, trainable parameters.
        parameters: int, all parameters, moving statistics included.
        weight_bytes: int, bytes of all parameters and masks.
        gradient_bytes: int, bytes of the gradient.
        existing_bytes: int, bytes of the gradient without masked zeros.
        places: int, entries of masked kernels, zeros included.
        tensors: int, trainable variables.
        macs: int, multiply-accumulates of a forward pass over one image in training, masked weights
            included.
        macs_again: int, multiply-accumulates of what gradient checkpointing computes twice.
        activation_bytes: int, bytes kept for the backward pass, for one image.
        statistics: tuple of ints, the floats that each synchronised batch normalisation exchanges in a
            forward pass, and again in a backward pass.
    """

    trainable: int
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    existing_bytes: int
    places: int
    tensors: int
    macs: int
    macs_again: int
    activation_bytes: int
    statistics: tuple

    @property
    def training_flops(self) -> int:
        """FLOPs of a forward and backward pass over one image; a multiply-accumulate is two FLOPs.

        The backward pass takes twice as many as the forward pass.
        """
        return 2 * (3 * self.macs + self.macs_again)

    @property
    def statistics_bytes(self) -> int:
        """Bytes of float32 statistics that synchronised batch normalisations exchange in a step."""
        return 2 * 4 * sum(self.statistics)


def step_cost(network: keras.Model, segments: Sequence[Sequence[str]] = ()) -> StepCost:
    """Count what training a network costs.

    Kept for the backward pass are the inputs of layers with weights and of max poolings, the outputs of
    rectifiers and max poolings, what a layer of fast weights or masks makes in between, and one byte a
    unit for dropout; each in its tensor's dtype, and M times where members are rows of the batch.  Not
    counted are kernels' scratch memory, casts and masked copies of kernels, and gradients of
    activations.

    Args:
        network: functional `keras.Model`, such as `EnsembleClassifier.network`.
        segments: the segments that gradient checkpointing computes twice, but for the last, each the
            names of its layers. Then the activations counted are what enters segments, and all that the
            largest segment keeps. Default: (), none.

    Returns:
        `StepCost`.
    """
    steps = [(s, max(given, made)) for s, given, made in rows_of(graph_of(network), training=True)]
    segment_of = {name: index for index, names in enumerate(segments) for name in names}
    last = max(segment_of.values(), default=0)
    macs = [(step, rows * _macs(step)) for step, rows in steps]
    layers = {id(step.operation): step.operation for step, _ in steps}.values()
    trainable, weights = network.trainable_weights, network.weights
    numbers = [weight for weight in weights if weight.dtype != "bool"]
    sparse = [layer for layer in layers if isinstance(layer, Sparse)]
    gradient = sum(map(_weight_bytes, trainable))
    masked = sum(round(layer.sparsity * math.prod(layer.kernel.shape)) for layer in sparse)
    return StepCost(
        trainable=sum(math.prod(weight.shape) for weight in trainable),
        parameters=sum(math.prod(weight.shape) for weight in numbers),
        weight_bytes=sum(map(_weight_bytes, weights)),
        gradient_bytes=gradient,
        existing_bytes=gradient - 4 * masked,
        places=sum(math.prod(layer.kernel.shape) for layer in sparse),
        tensors=len(trainable),
        macs=int(sum(count for _, count in macs)),
        macs_again=int(sum(count for step, count in macs if segment_of.get(_name(step), last) < last)),
        activation_bytes=int(_kept(steps, segment_of)),
        statistics=tuple(
            2 * math.prod(layer.moving_mean.shape) for layer in layers if hasattr(layer, "moving_mean")
        ),
    )


def _macs(step):
    """Multiply-accumulates of a step's kernels for one row of the batch."""
    inputs = step.inputs[0].shape if step.inputs else ()
    return kernel_uses.macs(step.operation, inputs, step.outputs[0].shape)


def _name(step):
    return step.operation.name


def _kept(steps, segment_of):
    """Bytes an image that a step keeps until the backward pass has used them, at the most."""
    producer, kept, inside = {}, {}, {}  # by tensor: segment and tensor it is; bytes; by segment: bytes
    borders = {}
    for step, rows in steps:
        layer, segment = step.operation, segment_of.get(_name(step))
        entering = [producer.get(id(tensor), (None, tensor)) for tensor in step.inputs]
        for tensor in step.outputs:
            alias = isinstance(_inner(layer), _ALIASES) and len(entering) == 1
            producer[id(tensor)] = entering[0] if alias else (segment, tensor)
        for made_by, tensor in entering:
            if segment is not None and made_by != segment and segment > 0:
                borders[id(tensor)] = rows * _bytes(tensor)
            if _needs(layer, _NEED_INPUTS) or _trains_by_inputs(layer):
                kept[id(tensor)] = (made_by, rows * _bytes(tensor, layer.compute_dtype))
        if _needs(layer, _NEED_OUTPUTS):
            for tensor in step.outputs:
                kept[id(tensor)] = (segment, rows * _bytes(tensor))
        inside[segment] = inside.get(segment, 0) + rows * _made_inside(step)
    for key, (segment, count) in kept.items():
        if key not in borders:
            inside[segment] = inside.get(segment, 0) + count
    always = inside.pop(None, 0) + sum(borders.values())
    return always + max(inside.values(), default=0)


def _needs(layer, kinds):
    return isinstance(_inner(layer), kinds)


def _trains_by_inputs(layer):
    """Whether the gradient of a layer's weights needs its inputs as they come."""
    return bool(getattr(layer, "trainable_weights", ())) and getattr(layer, "keeps_inputs", True)


def _made_inside(step):
    """Bytes that a layer keeps for a row, neither inputs nor outputs."""
    layer = step.operation
    if hasattr(layer, "kept_for_backward"):
        return sum(map(_bytes, layer.kept_for_backward(step.inputs[0], step.outputs[0])))
    if isinstance(layer, keras.layers.Dropout):
        return math.prod(step.outputs[0].shape[1:])
    return 0


def _inner(layer):
    return layer.layer if isinstance(layer, PerMember) else layer


def _bytes(tensor, dtype=None):
    """Of a tensor, for one row of the batch; `dtype` is what a layer casts it to."""
    return math.prod(size or 1 for size in tensor.shape[1:]) * _ITEM.get(dtype or tensor.dtype, 4)


def _weight_bytes(weight):
    return math.prod(weight.shape) * _ITEM.get(weight.dtype, 4)
