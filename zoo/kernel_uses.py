"""How often an image makes a network use the weights of its kernels, from layers and shapes."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from zoo.layers import keras_internals


def kernel_uses(layer: Any, input_shape: tuple, output_shape: tuple) -> Iterator[tuple[Any, int]]:
    """Yield each kernel of a layer, and how often one row of the batch uses each of its weights.

    A layer that applies its kernel several times per position declares `kernel_passes`. One with kernels
    that this function does not know has a method `kernel_uses(input_shape, output_shape)` that does the
    same. Layers inside a layer count with the shapes that they were built for.

    Args:
        layer: a `keras.Layer`, or an operation without weights.
        input_shape: tuple, the shape of its (first) input, the batch first.
        output_shape: tuple, the shape of its (first) output.
    """
    if hasattr(layer, "kernel_uses"):
        yield from layer.kernel_uses(input_shape, output_shape)
        return
    passes = getattr(layer, "kernel_passes", 1)
    names = ("kernel", "depthwise_kernel", "pointwise_kernel")
    kernels = [kernel for name in names if (kernel := getattr(layer, name, None)) is not None]
    for kernel in kernels:
        yield kernel, passes * _positions(layer, kernel, input_shape, output_shape)
    if not kernels and isinstance(layer, keras.Layer):
        for inner in keras_internals.child_layers(layer):
            shape = inner.get_build_config().get("input_shape") if inner.weights else None
            if isinstance(shape, (tuple, list)) and shape and not isinstance(shape[0], (tuple, list)):
                # Of sizes that the layer leaves open, such as the number of tokens, those of its input.
                known = [*input_shape[:-1], *[None] * len(shape)]
                shape = tuple(size or other for size, other in zip(shape, known))
                yield from kernel_uses(inner, shape, _output_shape(inner, shape))


def macs(layer: Any, input_shape: tuple, output_shape: tuple) -> int:
    """Count the multiply-accumulates of a layer's kernels for one row of the batch.

    Args:
        layer, input_shape, output_shape: see `kernel_uses`.

    Returns:
        An int.
    """
    uses = kernel_uses(layer, input_shape, output_shape)
    return sum(count * math.prod(kernel.shape) for kernel, count in uses)


def _output_shape(layer, input_shape):
    try:
        return layer.compute_output_shape(input_shape)
    except (NotImplementedError, TypeError):  # a layer of layers, which count by their own shapes
        return input_shape


def _positions(layer, kernel, input_shape, output_shape):
    """How many positions a kernel is applied to."""
    if isinstance(layer, keras.layers.EinsumDense):
        return _of_einsum(layer.equation, kernel.shape, input_shape)
    rank = getattr(layer, "rank", None)
    if rank is None:  # dense: at each pixel or token of its input
        return math.prod(size or 1 for size in input_shape[1:-1])
    shape = input_shape if type(layer).__name__.endswith("Transpose") else output_shape
    first = getattr(layer, "data_format", None) == "channels_first"
    spatial = shape[-rank:] if first else shape[-1 - rank : -1]
    return math.prod(size or 1 for size in spatial)


def _of_einsum(equation, kernel_shape, input_shape):
    """Positions of an `EinsumDense`: all entries of an input over those that the kernel sums over."""
    inputs, kernel = equation.split("->")[0].split(",")
    summed = [size for label, size in zip(kernel, kernel_shape) if label in inputs]
    return math.prod(size or 1 for size in input_shape[1:]) // math.prod(summed)
