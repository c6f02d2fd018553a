"""The one place that decides how a convolution with groups is computed.

`keras.layers.Conv2D(groups=)` runs through an XLA-compiled function on TensorFlow whose
gradient is 15 to 80 times slower than a plain convolution of equal FLOPs; `feature_group_count`
on JAX's CPU backend is as slow.  Plain convolutions, one a group, are within a few percent of
the ideal there and export everywhere.  PyTorch's own grouped convolution is the fastest on PyTorch.
"""

import keras
from keras import ops

from zoo.layers.members import shares


def members_apart():
    """Whether packed networks are fastest with one tensor a member (else: one tensor for all).

    Measured on CPU, a training step of a packed ResNet: TensorFlow and JAX 1.07 to 1.12 of the
    single network apart and 1.2 or more together; PyTorch in channels-last the other way round.
    """
    return keras.backend.backend() != "torch"


def grouped_convolution(inputs, kernel, strides, padding, dilation_rate):
    """Convolve each group of channels with its own kernel.

    Args:
        inputs: (B, *spatial, G * channels), the channels of a group side by side.
        kernel: (G, *kernel_size, channels, filters).
        strides, padding, dilation_rate: as in `keras.ops.conv`; tuples.

    Returns:
        (B, *new spatial, G * filters), in the order of the groups.
    """
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    groups = kernel.shape[0]
    if max(kernel.shape[1:-2]) == 1 and max(strides) > 1:
        inputs, options["strides"] = _sampled(inputs, strides), (1,) * len(strides)
    if groups == 1:
        return ops.conv(inputs, kernel[0], data_format="channels_last", **options)
    if keras.backend.backend() == "torch":
        return _torch(inputs, kernel, **options)
    outputs = [
        ops.conv(x, k, data_format="channels_last", **options)
        for x, k in zip(shares(inputs, groups, axis=-1), ops.unstack(kernel, axis=0))
    ]
    return ops.concatenate(outputs, axis=-1)


def _sampled(inputs, strides):
    """The places that a kernel of size 1 sees.

    The gradient of such a convolution with strides writes outside its memory in TensorFlow 2.21's oneDNN
    on AVX-512, for fewer than 16 channels and some batch sizes (8, 12 channels, 17 images of 16x16).
    """
    return inputs[(slice(None), *(slice(None, None, stride) for stride in strides))]


def _torch(inputs, kernel, strides, padding, dilation_rate):
    import torch

    groups, *size, channels, filters = kernel.shape
    rank = len(size)
    if padding == "same":
        border = []  # torch.nn.functional.pad begins with the last axis
        for axis in reversed(range(rank)):
            length, reach = inputs.shape[axis + 1], dilation_rate[axis] * (size[axis] - 1) + 1
            total = max((-(-length // strides[axis]) - 1) * strides[axis] + reach - length, 0)
            border += [total // 2, total - total // 2]
        inputs = torch.nn.functional.pad(inputs, [0, 0, *border]) if any(border) else inputs
    kernel = torch.movedim(kernel, (-1, -2), (1, 2)).reshape(groups * filters, channels, *size)
    convolve = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[rank]
    outputs = convolve(torch.movedim(inputs, -1, 1), kernel, None, strides, 0, dilation_rate, groups)
    return torch.movedim(outputs, 1, -1)
