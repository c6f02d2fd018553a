"""Packed-Ensembles layers (Laurent et al., ICLR 2023, arXiv 2210.09184).

A packed layer is a layer of `num_members` small networks side by side: channels are widened by
`alpha`, then shared out among the members, and again among `gamma` groups inside each.  In a
kernel the first axis is the group; the groups of a member are neighbours.
"""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count
from zoo.layers.member_lists import is_list_of_members, shares
from zoo.layers.packed_rules import (
    check_packed,
    packed_channels,
    packed_groups,
    packed_role,
    per_group,
)


class PackedLayer(keras.layers.Layer):
    """What packed dense layers and packed convolutions (packed_convolutions.py) have in common.

    Args:
        num_members: int, how many networks are packed, M. Default: 4.
        alpha: float > 0, the width of all members together, in single networks. Default: 2.
        gamma: int >= 1, groups inside each member. Default: 1.
        role: str, "stem" (or "first"), a layer over the input that is dense, so that every member sees all of
            it; "hidden"; "shortcut"; or "head" (or "last"), with all outputs for every member, on a separate
            axis. Default: "hidden".
        separate_outputs: bool, in the stem, whether the output is a list with one tensor per member.
            Default: False.
        activation: str or function, as in Keras's layers. Default: None, the identity.
        use_bias: bool. Default: True.
        kernel_initializer: str or `keras.initializers.Initializer`; each group is initialised by itself.
            Default: "glorot_uniform".
        bias_initializer: str or `keras.initializers.Initializer`. Default: "zeros".
        kernel_regularizer: str or `keras.regularizers.Regularizer`. Default: None.
        bias_regularizer: str or `keras.regularizers.Regularizer`. Default: None.
        kwargs: name, dtype and trainable, as in `keras.layers.Layer`.

    Raises:
        ValueError: for an argument out of range.

    References:
        Laurent et al., ICLR 2023, arXiv 2210.09184.
    """

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

    def call(self, inputs: Any) -> Any:
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
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        if "apart" in config:  # the name in files of version 0.1
            config["separate_outputs"] = config.pop("apart")
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
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


@keras.saving.register_keras_serializable(package="zoo")
class PackedDense(PackedLayer):
    """Dense layer of `num_members` packed networks.

    With g = gamma * M groups, y[..., j-th] = x[..., j-th] @ kernel[j] + bias: a block-diagonal matrix of
    which only the blocks are stored. gamma is never lowered here.

    Args:
        units: int, units of the single network that this layer widens.
        num_members: int, how many networks are packed, M. Default: 4.
        alpha: float > 0, the width of all members together, in single networks. Default: 2.
        gamma: int >= 1, groups inside each member. Default: 1.
        kwargs: role, separate_outputs, activation and so on, see `PackedConv2D`.

    Input shape: (B, ..., C), members side by side in C, or a list of M tensors (B, ..., C / M).
        `keras.layers.Flatten` interleaves the members of one tensor: use `PackedFlatten`, or flatten a
        list of them (`PerMember(Flatten())`), or pool.
    Output shape: (B, ..., int(alpha * units)) or a list of M tensors; in the head (B, M, ..., units).

    Raises:
        ValueError: for an argument out of range, and at build if channels are not divisible by groups.

    References:
        Laurent et al., ICLR 2023, arXiv 2210.09184.

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

    def build(self, input_shape: Any) -> None:
        self._build(input_shape, self.units, ())

    def _transform(self, x, kernels):
        if len(kernels) == 1:
            return ops.matmul(x, kernels[0])
        groups = shares(x, len(kernels), axis=-1)
        return ops.concatenate([ops.matmul(part, k) for part, k in zip(groups, kernels)], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        spatial = self._members(input_shape)[0][1:-1]
        return self._output_shape(input_shape, spatial, self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
