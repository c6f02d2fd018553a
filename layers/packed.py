"""Packed-Ensembles layers (Laurent et al., ICLR 2023, arXiv 2210.09184).

A packed layer is a layer of `num_members` small networks side by side: channels are widened by
`alpha`, then shared out among the members, and again among `gamma` groups inside each.  In a
kernel the first axis is the group; the groups of a member are neighbours.
"""

import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count
from zoo.layers.grouped_convolution import grouped_convolution
from zoo.layers.member_lists import is_list_of_members, shares
from zoo.layers.packed_rules import (
    check_packed,
    packed_channels,
    packed_groups,
    packed_role,
    per_group,
)


class _Packed(keras.layers.Layer):
    """What packed convolutions and packed dense layers have in common."""

    minimum_channels = None
    members_side_by_side = True  # so that a plain layer's vectors are those of all members, side by side

    def __init__(
        self, num_members: int = 4, alpha: float = 2, gamma: int = 1, *, role: str = "hidden",
        separate_outputs: bool = False, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_packed(num_members, alpha, gamma)
        self.num_members, self.alpha, self.gamma = int(num_members), alpha, int(gamma)
        self.role = role
        self._role = packed_role(role)
        if separate_outputs and self._role != "stem":
            raise ValueError(f'separate_outputs=True is for role="stem"; got role={role!r}')
        self.separate_outputs = separate_outputs
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    def _build(self, input_shape, units, kernel_size):
        """Make the kernel (G, *kernel_size, inputs / G, outputs / G) and the bias (outputs,)."""
        members = self._members(input_shape)
        inputs = sum(shape[-1] for shape in members)
        outputs = packed_channels(units, self.num_members, self.alpha, self._role)
        self.groups = packed_groups(
            inputs, outputs, self.num_members, self.gamma, self._role, self.minimum_channels
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.groups, *kernel_size, inputs // self.groups, outputs // self.groups),
            initializer=self._initial_kernel,
            regularizer=self.kernel_regularizer,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(outputs,), initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
            )  # fmt: skip

    def _initial_kernel(self, shape, dtype=None):
        """Each group as a layer of its own; in the stem, which is one group, each member."""
        if self._role != "stem":
            return per_group(self.kernel_initializer, shape, dtype)
        members = (self.num_members, *shape[1:-1], shape[-1] // self.num_members)
        kernels = per_group(self.kernel_initializer, members, dtype)
        return ops.concatenate(ops.unstack(kernels), axis=-1)[None]

    def _members(self, inputs):
        """One entry a member, or a single entry where all members are in one tensor."""
        if not is_list_of_members(inputs):
            return [inputs]
        if len(inputs) != self.num_members:
            raise ValueError(f"{self.name}: {len(inputs)} tensors for num_members={self.num_members}")
        return list(inputs)

    def call(self, inputs):
        members = self._members(inputs)
        # Not slices: the gradient of unstacking is one stacking, that of M slices M kernels of zeros.
        kernels = ops.unstack(ops.convert_to_tensor(self.kernel))
        if self.separate_outputs:  # every member has its own filters over the same inputs
            members, kernels = members * self.num_members, shares(kernels[0], self.num_members, axis=-1)
        count = len(kernels) // len(members)
        groups = [kernels[i : i + count] for i in range(0, len(kernels), count)]
        outputs = [self._transform(x, group) for x, group in zip(members, groups)]
        if self.use_bias:
            biases = shares(ops.convert_to_tensor(self.bias), len(members))
            outputs = [y + bias for y, bias in zip(outputs, biases)]
        outputs = [self.activation(y) for y in outputs]
        if self._role == "head":
            return self._stack(outputs)
        return outputs if self.separate_outputs or is_list_of_members(inputs) else outputs[0]

    def _stack(self, outputs):
        """Members on an axis of their own, after the batch: (B, M, ..., units)."""
        if len(outputs) == 1:
            outputs = shares(outputs[0], self.num_members, axis=-1)
        return ops.stack(outputs, axis=1)

    def scaled_outputs(self, weights: dict, factor: np.ndarray) -> dict | None:
        """The changed weights that multiply the outputs, before the bias, by `factor`.

        Args:
            weights: dict from a weight's name to its value.
            factor: float array, one number per output channel of all members.

        Returns:
            dict of the weights that change; None for the head, whose members would share the numbers.
        """
        if self._role == "head":
            return None
        kernel = weights["kernel"]  # (G, ..., outputs / G), the outputs of a group side by side
        shape = (kernel.shape[0], *(1,) * (kernel.ndim - 2), kernel.shape[-1])
        return {"kernel": kernel * factor.reshape(shape)}

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member: its groups of the kernel and its part of the bias.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer.

        Returns:
            dict from a name to an array (M, ...).
        """
        kernel = values["kernel"]
        if len(kernel) == 1 and self.num_members > 1:  # the stem: one group, members side by side
            parts = {"kernel": kernel[0], **{n: v for n, v in values.items() if n != "kernel"}}
            return {n: np.stack(np.split(v, self.num_members, axis=-1)) for n, v in parts.items()}
        kernels = kernel.reshape(self.num_members, -1, *kernel.shape[1:])
        if kernels.shape[1] == 1:  # one group per member: its kernel is like a single network's
            kernels = kernels[:, 0]
        vectors = {n: v.reshape(self.num_members, -1) for n, v in values.items() if n != "kernel"}
        return {"kernel": kernels, **vectors}

    def _output_shape(self, input_shape, spatial, units):
        members = self._members(input_shape)
        batch = members[0][0]
        if self._role == "head":
            return (batch, self.num_members, *spatial, units)
        outputs = packed_channels(units, self.num_members, self.alpha, self._role)
        count = self.num_members if self.separate_outputs else len(members)
        shape = (batch, *spatial, outputs // count)
        return [shape] * count if self.separate_outputs or is_list_of_members(input_shape) else shape

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if "apart" in config:  # the name in files of version 0.1
            config["separate_outputs"] = config.pop("apart")
        return super().from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "alpha": self.alpha,
            "gamma": self.gamma,
            "role": self.role,
            "separate_outputs": self.separate_outputs,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
        }


class _PackedConv(_Packed):
    rank = None
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
        num_members: int, how many networks are packed, M. Default 4.
        alpha: float > 0, the width of all members together, in single networks. Default 2.
        gamma: int >= 1, groups inside each member. Default 1.
        strides: int or pair of int, as in `keras.layers.Conv2D`. Default 1.
        padding: str, "valid" or "same". Default "valid".
        dilation_rate: int or pair of int, as in `keras.layers.Conv2D`. Default 1.
        kwargs:
            role: str, "stem" (or "first"), a layer over the input that is dense, so that every member
                sees all of it; "hidden"; "shortcut"; or "head" (or "last"), with `filters` for every
                member, on a separate axis. Default "hidden".
            separate_outputs: bool, in the stem, whether the output is a list with one tensor per member,
                the fast form. Default False.
            activation, use_bias and the initialisers and regularisers of kernel and bias: see
                `keras.layers.Conv2D`. Kernels are initialised group by group.

    Input shape: (B, H, W, C), members side by side in C; or a list of M tensors (B, H, W, C / M), the
        fast form. In the stem (B, H, W, C) is the image.
    Output shape: (B, H', W', int(alpha * F)); or a list of M tensors where the input is a list or with
        `separate_outputs`; in the head (B, M, H', W', F).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    Reference: Laurent et al., Packed-Ensembles for Efficient Uncertainty Estimation, ICLR 2023,
        arXiv 2210.09184, section 4; the minimum of 64 channels is from its reference implementation.

    Example:

    >>> layer = zoo.layers.PackedConv2D(32, 3, num_members=4, alpha=2, padding="same")
    >>> tuple(layer(np.ones((1, 8, 8, 64))).shape)
    (1, 8, 8, 64)
    >>> stem = zoo.layers.PackedConv2D(32, 3, num_members=4, alpha=2, role="stem", separate_outputs=True)
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
        num_members: int, how many networks are packed, M. Default 4.
        alpha: float > 0, the width of all members together, in single networks. Default 2.
        gamma: int >= 1, groups inside each member. Default 1.
        strides: int, as in `keras.layers.Conv1D`. Default 1.
        padding: str, "valid" or "same". Default "valid".
        dilation_rate: int, as in `keras.layers.Conv1D`. Default 1.
        kwargs: role, separate_outputs, activation and so on, see `PackedConv2D`.

    Input shape: (B, L, C), or a list of M tensors (B, L, C / M).
    Output shape: (B, L', int(alpha * filters)) or a list of M tensors; in the head (B, M, L', filters).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    Reference: Laurent et al., ICLR 2023, arXiv 2210.09184.

    Example:

    >>> layer = zoo.layers.PackedConv1D(32, 5, num_members=4, alpha=2)
    >>> tuple(layer(np.ones((1, 20, 64))).shape)
    (1, 16, 64)
    """

    rank = 1


@keras.saving.register_keras_serializable(package="zoo")
class PackedDense(_Packed):
    """Dense layer of `num_members` packed networks.

    With g = gamma * M groups, y[..., j-th] = x[..., j-th] @ kernel[j] + bias: a block-diagonal matrix of
    which only the blocks are stored. gamma is never lowered here.

    Args:
        units: int, units of the single network that this layer widens.
        num_members: int, how many networks are packed, M. Default 4.
        alpha: float > 0, the width of all members together, in single networks. Default 2.
        gamma: int >= 1, groups inside each member. Default 1.
        kwargs: role, separate_outputs, activation and so on, see `PackedConv2D`.

    Input shape: (B, ..., C), members side by side in C, or a list of M tensors (B, ..., C / M).
        `keras.layers.Flatten` interleaves the members of one tensor: use `PackedFlatten`, or flatten a
        list of them (`PerMember(Flatten())`), or pool.
    Output shape: (B, ..., int(alpha * units)) or a list of M tensors; in the head (B, M, ..., units).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    Reference: Laurent et al., ICLR 2023, arXiv 2210.09184.

    Example:

    >>> hidden = zoo.layers.PackedDense(32, num_members=4, alpha=2)(np.ones((1, 64)))
    >>> tuple(hidden.shape)
    (1, 64)
    >>> tuple(zoo.layers.PackedDense(10, num_members=4, alpha=2, role="head")(hidden).shape)
    (1, 4, 10)
    """

    def __init__(
        self, units: int, num_members: int = 4, alpha: float = 2, gamma: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(num_members, alpha, gamma, **kwargs)
        check_count(units, "units")
        self.units = int(units)

    def build(self, input_shape):
        self._build(input_shape, self.units, ())

    def _transform(self, x, kernels):
        if len(kernels) == 1:
            return ops.matmul(x, kernels[0])
        groups = shares(x, len(kernels), axis=-1)
        return ops.concatenate([ops.matmul(part, k) for part, k in zip(groups, kernels)], axis=-1)

    def compute_output_shape(self, input_shape):
        spatial = self._members(input_shape)[0][1:-1]
        return self._output_shape(input_shape, spatial, self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


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

    def build(self, input_shape):
        if is_list_of_members(input_shape):
            input_shape = (*input_shape[0][:-1], sum(shape[-1] for shape in input_shape))
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs):
        if not is_list_of_members(inputs):
            return super().call(inputs)
        outputs = super().call(ops.concatenate(inputs, axis=-1))
        return shares(outputs, len(inputs), axis=-1)

    def compute_output_shape(self, input_shape):
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
