"""The one place that decides how the convolutions of a packed network are computed.

`keras.layers.Conv2D(groups=)` runs through an XLA-compiled function on TensorFlow whose gradient is 15
to 80 times slower than a plain convolution of equal FLOPs; `feature_group_count` on JAX's CPU backend is
as slow.  Plain convolutions, one per group, are within a few percent of the ideal there and export
everywhere.  PyTorch's own grouped convolution is the fastest on PyTorch.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from zoo.layers.member_lists import shares

FORMS = ("auto", "list", "split", "native")
_chosen = "auto"

# Measured on CPUs with and without AVX-512, see docs/speed.md: TensorFlow and JAX are fastest as a list, by
# far.  PyTorch is fastest natively for one image and for a ResNet-50; without AVX-512 a list trains a
# ResNet-18 faster, by an eighth.
_FASTEST = {"torch": "native"}


def set_grouped_convolution(form: str) -> contextlib.ExitStack:
    """Choose how packed convolutions are computed, for the whole process.

    Weights are the same in every form, and outputs are equal up to rounding. "list" takes effect when a
    network is built, the others also when a layer is traced, so choose before building.

    Args:
        form: str, one of

            - "auto", the form measured as the fastest on the backend's CPU: "native" on PyTorch,
              otherwise "list" (also on GPUs, where nothing has been measured);
            - "list", one tensor per member throughout a packed network, each with its own plain
              convolution; a layer that is given one tensor for all members splits it;
            - "split", one tensor for all members; a layer splits its channels, convolves and
              concatenates;
            - "native", one tensor and the backend's own grouped convolution: `tf.nn.conv2d` with a
              grouped kernel, `feature_group_count` on JAX, `groups=` on PyTorch. On TensorFlow this has
              a gradient only on CPU with oneDNN in float32 and bfloat16; elsewhere it becomes "split".

    Returns:
        A context manager for use in a `with` statement, which restores the previous form at its end.

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> with zoo.layers.set_grouped_convolution("split"):
        ...     tuple(zoo.layers.PackedConv2D(8, 3, num_members=2)(np.ones((1, 8, 8, 16))).shape)
        (1, 6, 6, 16)
    """
    global _chosen
    if form not in FORMS:
        raise ValueError(f"the form must be one of {', '.join(FORMS)}; got {form!r}")
    undo = contextlib.ExitStack()
    undo.callback(set_grouped_convolution, _chosen)
    _chosen = form
    return undo


def _form():
    return _FASTEST.get(keras.backend.backend(), "list") if _chosen == "auto" else _chosen


def separate_members() -> bool:
    """Whether packed networks are built with one tensor per member instead of one tensor for all.

    Returns:
        bool.
    """
    return _form() == "list"


def grouped_convolution(
    inputs: Any, kernels: list, strides: tuple, padding: str, dilation_rate: tuple
) -> Any:
    """Convolve each group of channels with its own kernel.

    Args:
        inputs: tensor (B, *spatial, G * channels), the channels of a group side by side.
        kernels: list of G tensors (*kernel_size, channels, filters).
        strides: tuple of int, as in `keras.ops.conv`.
        padding: str, "valid" or "same".
        dilation_rate: tuple of int, as in `keras.ops.conv`.

    Returns:
        Tensor (B, *new spatial, G * filters), in the order of the groups.
    """
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    if max(kernels[0].shape[:-2]) == 1 and max(strides) > 1:
        inputs, options["strides"] = _sampled(inputs, strides), (1,) * len(strides)
    if len(kernels) == 1:
        return ops.conv(inputs, kernels[0], data_format="channels_last", **options)
    if _form() == "native" and _runs_natively(inputs, dilation_rate):
        return _NATIVE[keras.backend.backend()](inputs, kernels, **options)
    outputs = [
        ops.conv(x, k, data_format="channels_last", **options)
        for x, k in zip(shares(inputs, len(kernels), axis=-1), kernels)
    ]
    return ops.concatenate(outputs, axis=-1)


def _runs_natively(inputs, dilation_rate):
    if keras.backend.backend() != "tensorflow":
        return True
    return _tensorflow_differentiates(keras.backend.standardize_dtype(inputs.dtype), dilation_rate)


def _sampled(inputs, strides):
    """The places that a kernel of size 1 sees.

    The gradient of such a convolution with strides writes outside its memory in TensorFlow 2.21's oneDNN
    on AVX-512, for fewer than 16 channels and some batch sizes (8, 12 channels, 17 images of 16x16).
    """
    return inputs[(slice(None), *(slice(None, None, stride) for stride in strides))]


def _tensorflow(inputs, kernels, strides, padding, dilation_rate):
    import tensorflow as tf

    # Not ops.conv, which compiles it by XLA.
    return tf.nn.convolution(
        inputs, tf.concat(kernels, axis=-1), strides, padding.upper(), dilations=dilation_rate
    )


@functools.cache
def _tensorflow_differentiates(dtype, dilation_rate):
    """Whether TensorFlow's grouped convolution has a gradient on the device at hand."""
    import tensorflow as tf

    options = {"strides": [1] * 4, "padding": "SAME", "dilations": [1, *(1, *dilation_rate)[-2:], 1]}
    with tf.init_scope():  # at once, even while a graph is being made; it records no gradient
        maps, kernel = tf.ones((1, 5, 5, 4), dtype), tf.ones((3, 3, 2, 4), dtype)
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=maps.shape, filter=kernel, out_backprop=maps, **options
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=maps, filter_sizes=kernel.shape, out_backprop=maps, **options
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _jax(inputs, kernels, **options):
    return ops.conv(inputs, ops.concatenate(kernels, axis=-1), data_format="channels_last", **options)


def _torch(inputs, kernels, strides, padding, dilation_rate):
    import torch

    *size, _, _ = kernels[0].shape
    rank = len(size)
    around = [0] * rank
    if padding == "same":
        before, after = [], []
        for axis in range(rank):
            length, reach = inputs.shape[axis + 1], dilation_rate[axis] * (size[axis] - 1) + 1
            total = max((-(-length // strides[axis]) - 1) * strides[axis] + reach - length, 0)
            before, after = [*before, total // 2], [*after, total - total // 2]
        if before == after:  # the convolution pads; a padded copy costs a fifth of a training step
            around = before
        else:  # torch.nn.functional.pad begins with the last axis
            pairs = [side for pair in zip(reversed(before), reversed(after)) for side in pair]
            inputs = torch.nn.functional.pad(inputs, [0, 0, *pairs])
    kernel = torch.cat([torch.movedim(kernel, (-1, -2), (0, 1)) for kernel in kernels])
    convolve = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[rank]
    inputs = torch.movedim(inputs, -1, 1)
    outputs = convolve(inputs, kernel, None, strides, around, dilation_rate, len(kernels))
    return torch.movedim(outputs, 1, -1)


_NATIVE: dict[str, Callable] = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
