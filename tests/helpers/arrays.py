"""Random arrays, and convolutions in plain NumPy, for the tests of layers."""

import math

import numpy as np
from keras import ops


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def convolve(x, kernel, stride, dilation, padding):
    """One convolution (B, *S, C) with (*K, C, F) as a sum over the kernel's positions."""
    rank = x.ndim - 2
    sizes = []
    for axis in range(rank):
        reach = dilation * (kernel.shape[axis] - 1)
        size = x.shape[axis + 1]
        if padding == "same":
            count = math.ceil(size / stride)
            border = max((count - 1) * stride + reach + 1 - size, 0)
            widths = [(0, 0)] * x.ndim
            widths[axis + 1] = (border // 2, border - border // 2)
            x = np.pad(x, widths)
        else:
            count = (size - reach - 1) // stride + 1
        sizes.append(count)
    y = 0
    for position in np.ndindex(*kernel.shape[:rank]):
        window = [slice(None)]
        for p, count in zip(position, sizes, strict=True):
            window.append(slice(p * dilation, p * dilation + stride * (count - 1) + 1, stride))
        y = y + x[tuple(window)].astype("float64") @ kernel[position]
    return y


def by_group(transform, x, kernel):
    """`transform` of every group's channels with its own kernel, side by side."""
    parts = np.split(x, len(kernel), axis=-1)
    return np.concatenate([transform(p, k) for p, k in zip(parts, kernel, strict=True)], axis=-1)


def numpy(value):
    return ops.convert_to_numpy(value)
