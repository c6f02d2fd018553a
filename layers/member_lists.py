"""Packed networks in list form: layers pass on a list with one tensor per member.

Members in separate tensors need no grouped convolution and no concatenation.  The layers here bring a
tensor into that form and apply Keras's own layers inside it.
"""

import math
from typing import Any, Self

import keras
from keras import ops

from zoo.layers.argument_checks import check_count


def is_list_of_members(value: Any) -> bool:
    """Whether a value has one entry per member, and is not a single tensor or shape.

    Args:
        value: tensor, shape, or a list or tuple of those.

    Returns:
        bool.
    """
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return not (value[0] is None or isinstance(value[0], int))


def shares(value: Any, count: int, axis: int = 0) -> list:
    """Equal slices of a tensor along its first or last axis.

    `ops.split` would be wrong here: TensorFlow's graph optimiser moves a max pooling before the
    activation it follows, and then takes the first output of a split for all of them (seen in TensorFlow
    2.21).

    Args:
        value: tensor whose size along the axis is divisible by `count`.
        count: int, number of slices.
        axis: int, 0 or -1. Default: 0.

    Returns:
        List of `count` tensors.
    """
    size = value.shape[axis] // count
    parts = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [value[part] if axis == 0 else value[..., part] for part in parts]


@keras.saving.register_keras_serializable(package="zoo")
class SplitMembers(keras.layers.Layer):
    """Split packed channels into one tensor per member.

    Args:
        num_members: int, the number of members M.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (B, ..., M * C), the channels of a member side by side.
    Output shape: a list of M tensors (B, ..., C).

    Raises:
        ValueError: at build, if the channels are not divisible by M.

    Example:
        >>> members = zoo.layers.SplitMembers(num_members=3)(np.ones((2, 6)))
        >>> len(members), tuple(members[0].shape)
        (3, (2, 2))
    """

    passes_inputs = True  # so that folding looks for the layer before it

    def __init__(self, num_members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count(num_members, "num_members")
        self.num_members = int(num_members)

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] % self.num_members:
            raise ValueError(
                f"{input_shape[-1]} channels cannot be split among num_members={self.num_members}"
            )

    def call(self, inputs: Any) -> Any:
        return shares(inputs, self.num_members, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        member = (*input_shape[:-1], input_shape[-1] // self.num_members)
        return [member] * self.num_members

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_members": self.num_members}


@keras.saving.register_keras_serializable(package="zoo")
class PackedFlatten(keras.layers.Layer):
    """Flatten a packed tensor so that the values of a member stay side by side.

    `keras.layers.Flatten` would interleave the members of (B, H, W, M * C).

    Args:
        num_members: int, the number of members M.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (B, ..., M * C).
    Output shape: (B, M * values per member), each member's values in the order that
        `keras.layers.Flatten` gives them.

    Example:
        >>> x = np.array([[[0, 10], [1, 11], [2, 12]]])  # channel i is member i's
        >>> flat = zoo.layers.PackedFlatten(num_members=2)(x)
        >>> keras.ops.convert_to_numpy(flat).astype(int).tolist()
        [[0, 1, 2, 10, 11, 12]]
    """

    def __init__(self, num_members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count(num_members, "num_members")
        self.num_members = int(num_members)

    def call(self, inputs: Any) -> Any:
        members = shares(inputs, self.num_members, axis=-1)
        size = self.compute_output_shape(inputs.shape)[-1] // self.num_members
        return ops.concatenate([ops.reshape(x, (-1, size)) for x in members], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], math.prod(input_shape[1:]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_members": self.num_members}


@keras.saving.register_keras_serializable(package="zoo")
class PerMember(keras.layers.Layer):
    """Apply a layer without weights (activation, pooling, Flatten, Add and so on) to every member.

    Args:
        layer: `keras.layers.Layer` without weights.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: a list of M tensors; for merging layers, a list of such lists.
    Output shape: a list of M tensors.

    Raises:
        ValueError: at build, if the layer has weights, because members would share them.

    Example:
        >>> members = [np.ones((1, 2, 2, 4)), np.zeros((1, 2, 2, 4))]
        >>> [tuple(y.shape) for y in zoo.layers.PerMember(keras.layers.Flatten())(members)]
        [(1, 16), (1, 16)]
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        member = self._members(input_shape)[0]
        if not self.layer.built:
            self.layer.build(member)
        if self.layer.weights:
            raise ValueError(f"PerMember takes layers without weights; {self.layer.name} has some")

    def _members(self, inputs):
        """One entry a member; for merging layers that entry is a list."""
        merges = is_list_of_members(inputs[0])
        return [list(member) for member in zip(*inputs)] if merges else list(inputs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        options = {"training": training} if "training" in self.layer.call_signature_parameters else {}
        return [self.layer(member, **options) for member in self._members(inputs)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return [self.layer.compute_output_shape(m) for m in self._members(input_shape)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
