"""What flows through a packed network: a list with one tensor a member.

Kept apart, members need no grouped convolution and no concatenation, the fastest form measured
on every backend.  These two layers enter that form and apply Keras's own layers inside it.
"""

import math

import keras
from keras import ops


def is_list_of_members(value):
    """Whether `value` (tensors or shapes) is one entry a member, and not one tensor or shape."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return not (value[0] is None or isinstance(value[0], int))


def shares(value, count, axis=0):
    """`count` equal slices of a tensor along its first or last axis.

    Not `ops.split`: TensorFlow's graph optimiser moves a max pooling before the activation it follows,
    and then takes the first output of a split for all of them (seen in TensorFlow 2.21).
    """
    size = value.shape[axis] // count
    parts = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [value[part] if axis == 0 else value[..., part] for part in parts]


@keras.saving.register_keras_serializable(package="zoo")
class SplitMembers(keras.layers.Layer):
    """Split packed channels into one tensor a member.

    Args:
        num_members: M.

    Input shape: (B, ..., M * C), the channels of a member side by side.
    Output shape: a list of M tensors (B, ..., C).

    Raises:
        ValueError: at build, where the channels do not divide by M.
    """

    def __init__(self, num_members, **kwargs):
        super().__init__(**kwargs)
        self.num_members = num_members

    def build(self, input_shape):
        if input_shape[-1] % self.num_members:
            raise ValueError(
                f"{input_shape[-1]} channels cannot be split among num_members={self.num_members}"
            )

    def call(self, inputs):
        return shares(inputs, self.num_members, axis=-1)

    def compute_output_shape(self, input_shape):
        member = (*input_shape[:-1], input_shape[-1] // self.num_members)
        return [member] * self.num_members

    def get_config(self):
        return {**super().get_config(), "num_members": self.num_members}


@keras.saving.register_keras_serializable(package="zoo")
class PackedFlatten(keras.layers.Layer):
    """Flatten one packed tensor so that the values of a member stay side by side.

    `keras.layers.Flatten` would interleave the members of (B, H, W, M * C).

    Args:
        num_members: M.

    Input shape: (B, ..., M * C).
    Output shape: (B, M * values of a member), each member's in the order that Flatten gives it alone.
    """

    def __init__(self, num_members, **kwargs):
        super().__init__(**kwargs)
        self.num_members = num_members

    def call(self, inputs):
        members = shares(inputs, self.num_members, axis=-1)
        size = self.compute_output_shape(inputs.shape)[-1] // self.num_members
        return ops.concatenate([ops.reshape(x, (-1, size)) for x in members], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], math.prod(input_shape[1:]))

    def get_config(self):
        return {**super().get_config(), "num_members": self.num_members}


@keras.saving.register_keras_serializable(package="zoo")
class PerMember(keras.layers.Layer):
    """Apply a layer without weights (activation, pooling, Flatten, Add, ...) to every member.

    Args:
        layer: the `keras.layers.Layer`.

    Input: a list of M tensors, or for merging layers a list of such lists.
    Output: a list of M tensors.

    Raises:
        ValueError: at build, where the layer has weights: members would share them.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        member = self._members(input_shape)[0]
        if not self.layer.built:
            self.layer.build(member)
        if self.layer.weights:
            raise ValueError(f"PerMember takes layers without weights; {self.layer.name} has some")

    def _members(self, inputs):
        """One entry a member; for merging layers that entry is a list."""
        merges = is_list_of_members(inputs[0])
        return [list(member) for member in zip(*inputs)] if merges else list(inputs)

    def call(self, inputs, training=None):
        options = {"training": training} if self.layer._call_has_training_arg else {}
        return [self.layer(member, **options) for member in self._members(inputs)]

    def compute_output_shape(self, input_shape):
        return [self.layer.compute_output_shape(m) for m in self._members(input_shape)]

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
