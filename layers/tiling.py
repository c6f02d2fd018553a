"""Members as rows of the batch: for ensembles whose members share weights.

An image becomes M rows, those of a member side by side (member-major), so that shared layers run
once over all of them.  In a batch that was not tiled the rows are shared out among the members.
"""

import keras
from keras import ops

MODES = ("tile", "split")


def check_members(num_members):
    """ValueError for a `num_members` that is no integer >= 1."""
    if not (isinstance(num_members, int) and num_members >= 1):
        raise ValueError(f"num_members must be an integer >= 1; got {num_members!r}")


def check_channels_last(layer):
    """ValueError for a convolution whose channels are not last."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(f'data_format must be "channels_last"; got {layer.data_format!r}')


def members_of_rows(rows, num_members):
    """Which member each of `rows` rows belongs to: floor(row * M / rows), integers (rows,).

    Equal blocks in order where M divides `rows`, else as equal as can be.
    """
    return ops.arange(rows) * num_members // rows


def member_by_member(transform, x, kernels):
    """Rows of `transform(rows of one member, its kernel)` for the rows `x` (N, ...) of all M members."""
    rows, members = ops.shape(x)[0], len(kernels)
    bounds = [(m * rows + members - 1) // members for m in range(members + 1)]
    # Equally many rows for every member, of which those are dropped that are another's: a member may have
    # none, and TensorFlow's convolution of no rows has a wrong shape.
    most, outputs = bounds[1], []
    for kernel, start, stop in zip(kernels, bounds, bounds[1:]):
        outputs.append(transform(x[stop - most : stop], kernel)[start - stop + most :])
    return ops.concatenate(outputs, axis=0)


def assignment(x, num_members):
    """One-hot (N, M) of the member of each row of `x`, in its dtype."""
    return ops.one_hot(members_of_rows(ops.shape(x)[0], num_members), num_members, dtype=x.dtype)


def per_row(values, x, assigned=None):
    """Values (M, C) of each row's member, shaped to broadcast over the positions of `x` (N, ..., C).

    A product with a one-hot matrix, not a gather: its gradient is dense, as optimisers want it.
    """
    assigned = assignment(x, values.shape[0]) if assigned is None else assigned
    rows = ops.matmul(assigned, ops.cast(values, x.dtype))
    return ops.reshape(rows, (-1, *(1,) * (len(x.shape) - 2), values.shape[-1]))


class SavesAllVariables:
    """For subclasses of Keras's layers: Keras saves of those the kernel and the bias alone."""

    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)


@keras.saving.register_keras_serializable(package="zoo")
class TileMembers(keras.layers.Layer):
    """Repeat a batch for every member: (B, ...) to (M * B, ...), member-major.

    Args:
        num_members: M.
        training_mode: "tile", in training as at inference: every member sees every row; or "split":
            in training the batch stays as it is, and following layers share its rows out among the
            members.

    Input shape: (B, ...).
    Output shape: (M * B, ...), or (B, ...) in training with "split".

    Raises:
        ValueError: for another mode or M < 1.
    """

    def __init__(self, num_members=4, training_mode="tile", **kwargs):
        super().__init__(**kwargs)
        check_members(num_members)
        if training_mode not in MODES:
            raise ValueError(f'training_mode must be "tile" or "split"; got {training_mode!r}')
        self.num_members, self.training_mode = num_members, training_mode

    def call(self, inputs, training=None):
        if training and self.training_mode == "split":
            return inputs
        return ops.tile(inputs, (self.num_members, *(1,) * (len(inputs.shape) - 1)))

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[1:])

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor((None, *inputs.shape[1:]), inputs.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "training_mode": self.training_mode,
        }


@keras.saving.register_keras_serializable(package="zoo")
class MemberLogits(TileMembers):
    """Undo `TileMembers` (with the same arguments): rows of logits to a member axis.

    Input shape: (M * B, K), or (B, K) in training with "split".
    Output shape: (B, M, K), or (B, 1, K) in training with "split": each row by its one member.
    """

    def call(self, inputs, training=None):
        if training and self.training_mode == "split":
            return inputs[:, None]
        members = ops.reshape(inputs, (self.num_members, -1, inputs.shape[-1]))
        return ops.transpose(members, (1, 0, 2))

    def compute_output_shape(self, input_shape):
        return (None, self.num_members, input_shape[-1])

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)
