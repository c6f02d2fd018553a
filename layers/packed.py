"""Packed-Ensembles layers (Laurent et al., ICLR 2023, arXiv 2210.09184).

A packed layer is a layer of `num_members` small networks side by side: channels are widened by
`alpha`, then shared out among the members, and again among `gamma` groups inside each.  In a
kernel the first axis is the group; the groups of a member are neighbours.
"""

import keras
from keras import ops

from zoo.layers.grouped_convolution import grouped_convolution
from zoo.layers.member_lists import is_list_of_members, shares

ROLES = {"stem": "stem", "first": "stem", "hidden": "hidden", "shortcut": "hidden",
         "head": "head", "last": "head"}  # fmt: skip


def packed_role(role):
    """`"stem"`, `"hidden"` or `"head"`; ValueError for a role nobody knows."""
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}; got {role!r}")
    return ROLES[role]


def packed_channels(channels, num_members, alpha, role="hidden"):
    """Output channels of all members: int(channels * alpha), in the head channels * num_members."""
    factor = num_members if packed_role(role) == "head" else alpha
    return int(channels * factor)


def packed_groups(inputs, outputs, num_members, gamma=1, role="hidden", minimum_channels=64):
    """How many groups a packed layer has: the published rule.

    The stem has one (every member sees the whole input).  Elsewhere there are
    `gamma * num_members`; gamma falls back by one at a time, not below 1, while the input channels
    do not divide by that or leave fewer than `minimum_channels` a group.

    Args:
        inputs: input channels of all members together.
        outputs: output channels of all members together.
        num_members, gamma, role: as in the layers.
        minimum_channels: 64 in the reference's convolutions; None, as in its dense layers, where
            gamma never falls back.

    Raises:
        ValueError: where the channels do not divide by the groups.
    """
    if packed_role(role) == "stem":
        if outputs % num_members:
            raise ValueError(_indivisible("output", outputs, num_members, "num_members"))
        return 1
    if minimum_channels:
        while gamma > 1 and (
            inputs % (gamma * num_members) or inputs // (gamma * num_members) < minimum_channels
        ):
            gamma -= 1
    groups = gamma * num_members
    for kind, channels in (("input", inputs), ("output", outputs)):
        if channels % groups:
            raise ValueError(
                _indivisible(kind, channels, groups, f"gamma * num_members = {gamma} * {num_members}")
            )
    return groups


def _indivisible(kind, channels, groups, what):
    below, above = channels // groups * groups, -(-channels // groups) * groups
    nearest = f"{below} or {above}" if below else str(above)
    return (
        f"{channels} {kind} channels do not divide by {groups} ({what}); choose alpha or the layer's "
        f"size so that all members together have {nearest}"
    )


def per_group(initializer, shape, dtype):
    """Initialise (G, *shape) group by group: fans of one group, and different draws in each.

    Keras initialisers draw the same numbers at every call, so each group gets its own seed.
    """
    groups, *shape = shape
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return ops.stack([initializer(shape, dtype=dtype) for _ in range(groups)])
    config = initializer.get_config()
    draws = [
        type(initializer).from_config({**config, "seed": (seed + 1_000_003 * group) % 2**31})
        for group in range(groups)
    ]
    return ops.stack([draw(shape, dtype=dtype) for draw in draws])


class _Packed(keras.layers.Layer):
    """What packed convolutions and packed dense layers have in common."""

    minimum_channels = None

    def __init__(self, num_members=4, alpha=2, gamma=1, *, role="hidden", separate_outputs=False,
                 activation=None, use_bias=True, kernel_initializer="glorot_uniform", bias_initializer="zeros",
                 kernel_regularizer=None, bias_regularizer=None, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if not (isinstance(num_members, int) and num_members >= 1):
            raise ValueError(f"num_members must be an integer >= 1; got {num_members!r}")
        if not alpha > 0:
            raise ValueError(f"alpha must be > 0; got {alpha!r}")
        if not (isinstance(gamma, int) and gamma >= 1):
            raise ValueError(f"gamma must be an integer >= 1; got {gamma!r}")
        self.num_members, self.alpha, self.gamma = num_members, alpha, gamma
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
        if self.separate_outputs:  # every member has filters of its own over the same inputs
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

    def __init__(self, filters, kernel_size, num_members=4, alpha=2, gamma=1, *, strides=1,
                 padding="valid", dilation_rate=1, **kwargs):  # fmt: skip
        super().__init__(num_members, alpha, gamma, **kwargs)
        self.filters = filters
        self.kernel_size = self._tuple(kernel_size, "kernel_size")
        self.strides = self._tuple(strides, "strides")
        self.dilation_rate = self._tuple(dilation_rate, "dilation_rate")
        self.padding = padding.lower()
        if self.padding not in ("valid", "same"):
            raise ValueError(f'padding must be "valid" or "same"; got {padding!r}')

    def _tuple(self, value, name):
        value = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(value) != self.rank or min(value) < 1:
            raise ValueError(f"{name} must be {self.rank} integer(s) >= 1; got {value}")
        return value

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

    With C input channels of all members together and F = `filters` of the *single* network:
    outputs int(alpha * F), groups g = gamma * M, and

        y[..., j-th F' of them] = conv2d(x[..., j-th C / g of them], kernel[j]),  j = 0 .. g - 1,

    with F' = int(alpha * F) / g.  gamma falls back towards 1 while C does not divide by g or C / g
    is under 64.  So a layer has alpha^2 / (gamma * M) of the single layer's parameters, and an input
    of one member never reaches another.

    Args:
        filters: filters of the single network this layer widens.
        kernel_size, strides, padding, dilation_rate: as in `keras.layers.Conv2D`, channels last.
        num_members: M, how many networks are packed.
        alpha: width of all members together, in single networks; a float > 0.
        gamma: groups inside each member; an integer >= 1.
        role: "stem" (or "first": dense over the input, so that every member sees all of it),
            "hidden", "shortcut", or "head" (or "last": `filters` for every member, on an axis of
            their own).
        separate_outputs: in the stem, whether its output is a list with one tensor a member, the fast form.
        activation, use_bias, *_initializer, *_regularizer: as in Keras; kernels are initialised
            group by group.

    Input shape: (B, H, W, C), members side by side in C; or a list of M tensors (B, H, W, C / M), the
        fast form.  In the stem (B, H, W, C) is the image.
    Output shape: (B, H', W', int(alpha * F)) or a list of M tensors, as the input or where `separate_outputs`; in
        the head (B, M, H', W', F).

    Raises:
        ValueError: for an argument out of range, and at build where channels do not divide by groups.

    Reference: Laurent et al., Packed-Ensembles for Efficient Uncertainty Estimation, ICLR 2023,
        arXiv 2210.09184, section 4; the 64-channel floor is its reference implementation's.
    """

    rank = 2


@keras.saving.register_keras_serializable(package="zoo")
class PackedConv1D(_PackedConv):
    """1-D convolution of `num_members` packed networks: `PackedConv2D` over (B, L, C).

    Arguments, groups, errors and reference are `PackedConv2D`'s.

    Input shape: (B, L, C) or a list of M tensors (B, L, C / M).
    Output shape: (B, L', int(alpha * filters)) or such a list; in the head (B, M, L', filters).
    """

    rank = 1


@keras.saving.register_keras_serializable(package="zoo")
class PackedDense(_Packed):
    """Dense layer of `num_members` packed networks.

    With g = gamma * M groups, y[..., j-th] = x[..., j-th] @ kernel[j] + bias: a block-diagonal
    matrix of which only the blocks are stored.  gamma never falls back here.

    Args:
        units: units of the single network this layer widens.
        num_members, alpha, gamma, role, separate_outputs, activation, ...: as in `PackedConv2D`.

    Input shape: (B, ..., C), members side by side in C, or a list of M tensors (B, ..., C / M).
        Keras's Flatten interleaves the members of one tensor: flatten a list of them instead
        (`PerMember(Flatten())`), or pool.
    Output shape: (B, ..., int(alpha * units)) or a list of M tensors; in the head
        (B, M, ..., units).

    Raises:
        ValueError: as `PackedConv2D`.

    Reference: Laurent et al., ICLR 2023, arXiv 2210.09184.
    """

    def __init__(self, units, num_members=4, alpha=2, gamma=1, **kwargs):
        super().__init__(num_members, alpha, gamma, **kwargs)
        self.units = units

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

    A depthwise kernel never crosses channels, so members are independent as they are; this class
    adds the list form.  Arguments are Keras's.

    Input shape: (B, H, W, C), or a list of M tensors (B, H, W, C / M).
    Output shape: (B, H', W', C * depth_multiplier), or a list of M tensors.
    """

    def __init__(self, *args, **kwargs):
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
