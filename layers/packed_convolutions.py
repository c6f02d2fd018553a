"""Convolutions of Packed-Ensembles; packed.py has what they share with dense layers."""

import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count
from zoo.layers.grouped_convolution import grouped_convolution
from zoo.layers.member_lists import is_list_of_members, shares
from zoo.layers.packed import PackedLayer


class _PackedConv(PackedLayer):
    rank: int  # spatial axes
    minimum_channels = 64

    def __init__(
        self, filters: int, kernel_size: int | tuple[int, ...], num_members: int = 4, alpha: float = 2,
        gamma: int = 1, *, strides: int | tuple[int, ...] = 1, padding: str = "valid",
        dilation_rate: int | tuple[int, ...] = 1, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(num_members, alpha, gamma, **kwargs)
        check_count(filters, "filters")
        self.filters = int(filters)
        self.kernel_size = self._tuple(kernel_size, "kernel_size")
        self.strides = self._tuple(strides, "strides")
        self.dilation_rate = self._tuple(dilation_rate, "dilation_rate")
        self.padding = str(padding).lower()
        if self.padding not in ("valid", "same"):
            raise ValueError(f'padding must be "valid" or "same"; got {padding!r}')

    def _tuple(self, value, name):
        sizes = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * self.rank
        if len(sizes) != self.rank or not all(
            isinstance(size, numbers.Integral) and size >= 1 for size in sizes
        ):
            raise ValueError(f"{name} must be {self.rank} integer(s) >= 1; got {value!r}")
        return tuple(map(int, sizes))

    def build(self, input_shape):
        self._build(input_shape, self.filters, self.kernel_size)

    def _transform(self, x, kernels):
        return grouped_convolution(x, kernels, self.strides, self.padding, self.dilation_rate)

    def compute_output_shape(self, input_shape):
        spatial = []
        for size, kernel, stride, dilation in zip(
            self._members(input_shape)[0][1:-1], self.kernel_size, self.strides, self.dilation_rate
        ):
            if size is not None:
                reach = dilation * (kernel - 1) if self.padding == "valid" else 0
                size = -(-(size - reach) // stride)
            spatial.append(size)
        return self._output_shape(input_shape, spatial, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
        }


@keras.saving.register_keras_serializable(package="zoo")
class PackedConv2D(_PackedConv):
    """2-D convolution of `num_members` packed networks.

    With C input channels of all members together and F = `filters` of the *single* network, there are
    int(alpha * F) outputs in g = gamma * M groups, and

        y[..., j-th F' of them] = conv2d(x[..., j-th C / g of them], kernel[j]),  j = 0 .. g - 1,

    with F' = int(alpha * F) / g. gamma is lowered towards 1 while C is not divisible by g or C / g is
    under 64. So a layer has alpha^2 / (gamma * M) of the single layer's parameters, and an input of one
    member never reaches another.

    Args:
        filters: int, filters of the single network that this layer widens.
        kernel_size: int or pair of int, as in `keras.layers.Conv2D`. Channels come last.
        num_members: int, how many networks are packed, M. Default: 4.
        alpha: float > 0, the width of all members together, in single networks. Default: 2.
        gamma: int >= 1, groups inside each member. Default: 1.
        strides: int or pair of int, as in `keras.layers.Conv2D`. Default: 1.
        padding: str, "valid" or "same". Default: "valid".
        dilation_rate: int or pair of int, as in `keras.layers.Conv2D`. Default: 1.
        kwargs:
            role: str, "stem" (or "first"), a layer over the input that is dense, so that every member
                sees all of it; "hidden"; "shortcut"; or "head" (or "last"), with `filters` for every
                member, on a separate axis. Default: "hidden".
            separate_outputs: bool, in the stem, whether the output is a list with one tensor per member,
                the fast form. Default: False.
            activation, use_bias and the initialisers and regularisers of kernel and bias: see
                `keras.layers.Conv2D`. Kernels are initialised group by group.

    Input shape: (B, H, W, C), members side by side in C; or a list of M tensors (B, H, W, C / M), the
        fast form. In the stem (B, H, W, C) is the image.
    Output shape: (B, H', W', int(alpha * F)); or a list of M tensors where the input is a list or with
        `separate_outputs`; in the head (B, M, H', W', F).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    References:
        Laurent et al., Packed-Ensembles for Efficient Uncertainty Estimation, ICLR 2023, arXiv
        2210.09184, section 4; the minimum of 64 channels is from its reference implementation.

    Example:
        >>> layer = zoo.layers.PackedConv2D(32, 3, num_members=4, alpha=2, padding="same")
        >>> tuple(layer(np.ones((1, 8, 8, 64))).shape)
        (1, 8, 8, 64)
        >>> stem = zoo.layers.PackedConv2D(
        ...     32, 3, num_members=4, alpha=2, role="stem", separate_outputs=True)
        >>> [tuple(y.shape) for y in stem(np.ones((1, 8, 8, 3)))]
        [(1, 6, 6, 16), (1, 6, 6, 16), (1, 6, 6, 16), (1, 6, 6, 16)]
    """

    rank = 2


@keras.saving.register_keras_serializable(package="zoo")
class PackedConv1D(_PackedConv):
    """1-D convolution of `num_members` packed networks: `PackedConv2D` over (B, L, C).

    Args:
        filters: int, filters of the single network that this layer widens.
        kernel_size: int, as in `keras.layers.Conv1D`. Channels come last.
        num_members: int, how many networks are packed, M. Default: 4.
        alpha: float > 0, the width of all members together, in single networks. Default: 2.
        gamma: int >= 1, groups inside each member. Default: 1.
        strides: int, as in `keras.layers.Conv1D`. Default: 1.
        padding: str, "valid" or "same". Default: "valid".
        dilation_rate: int, as in `keras.layers.Conv1D`. Default: 1.
        kwargs: role, separate_outputs, activation and so on, see `PackedConv2D`.

    Input shape: (B, L, C), or a list of M tensors (B, L, C / M).
    Output shape: (B, L', int(alpha * filters)) or a list of M tensors; in the head (B, M, L', filters).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    References:
        Laurent et al., ICLR 2023, arXiv 2210.09184.

    Example:
        >>> layer = zoo.layers.PackedConv1D(32, 5, num_members=4, alpha=2)
        >>> tuple(layer(np.ones((1, 20, 64))).shape)
        (1, 16, 64)
    """

    rank = 1


@keras.saving.register_keras_serializable(package="zoo")
class PackedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution of packed networks: `keras.layers.DepthwiseConv2D`, per member.

    A depthwise kernel never crosses channels, so members are independent already. This class adds the
    form with one tensor per member.

    Args:
        args: arguments of `keras.layers.DepthwiseConv2D`, by position.
        kwargs: kernel_size, strides, padding and so on, as in `keras.layers.DepthwiseConv2D`.

    Input shape: (B, H, W, C), or a list of M tensors (B, H, W, C / M).
    Output shape: (B, H', W', C * depth_multiplier), or a list of M tensors.

    Example:
        >>> members = [np.ones((1, 8, 8, 3)), np.ones((1, 8, 8, 3))]
        >>> [tuple(y.shape) for y in zoo.layers.PackedDepthwiseConv2D(3)(members)]
        [(1, 6, 6, 3), (1, 6, 6, 3)]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.input_spec = None  # Keras's allows no list

    def build(self, input_shape: Any) -> None:
        if is_list_of_members(input_shape):
            input_shape = (*input_shape[0][:-1], sum(shape[-1] for shape in input_shape))
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs: Any) -> Any:
        if not is_list_of_members(inputs):
            return super().call(inputs)
        outputs = super().call(ops.concatenate(inputs, axis=-1))
        return shares(outputs, len(inputs), axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if not is_list_of_members(input_shape):
            return super().compute_output_shape(input_shape)
        return [super(PackedDepthwiseConv2D, self).compute_output_shape(s) for s in input_shape]

    def scaled_outputs(self, weights: dict, factor: np.ndarray) -> dict:
        """The changed weights that multiply the outputs, before the bias, by `factor`.

        Args:
            weights: dict from a weight's name to its value.
            factor: float array, one number per output channel of all members.

        Returns:
            dict of the weights that change.
        """
        kernel = weights["kernel"]
        return {"kernel": kernel * factor.reshape(kernel.shape[-2:])}

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member: its channels.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer, from images to member logits (B, M, K).

        Returns:
            dict from a name to an array (M, ...).
        """
        members = network.output_shape[1]
        axes = {name: -2 if name == "kernel" else -1 for name in values}
        return {n: np.stack(np.split(v, members, axis=axes[n])) for n, v in values.items()}
