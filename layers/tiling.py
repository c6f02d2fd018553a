"""Members as rows of the batch: for ensembles whose members share weights.

An image becomes M rows, those of a member side by side (member-major), so that shared layers run
once over all of them.  In a batch that was not tiled the rows are shared out among the members.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import keras
from keras import ops

from zoo.layers.argument_checks import check_count

MODES = ("tile", "split")


def check_members(num_members: int) -> None:
    """Check that `num_members` is an integer >= 1.

    Args:
        num_members: int.

    Raises:
        ValueError: if it is not.
    """
    check_count(num_members, "num_members")


def check_training_mode(training_mode: str) -> None:
    """Check that a training mode is "tile" or "split".

    Args:
        training_mode: str.

    Raises:
        ValueError: if it is neither.
    """
    if training_mode not in MODES:
        raise ValueError(f'training_mode must be "tile" or "split"; got {training_mode!r}')


def check_channels_last(layer: Any) -> None:
    """Check that the channels of a layer come last.

    Args:
        layer: `keras.layers.Layer`, with or without a `data_format`.

    Raises:
        ValueError: if they do not.
    """
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(f'data_format must be "channels_last"; got {layer.data_format!r}')


def members_of_rows(rows: Any, num_members: int) -> Any:
    """Which member each row belongs to: floor(row * M / rows).

    Blocks are equal and in order where M divides `rows`, and otherwise as equal as possible.

    Args:
        rows: int, the number of rows.
        num_members: int, the number of members M.

    Returns:
        Tensor of integers (rows,).
    """
    return ops.arange(rows, dtype="int32") * num_members // rows


def member_by_member(transform: Callable[[Any, Any], Any], x: Any, kernels: list) -> Any:
    """Transform each member's rows with the member's kernel.

    Args:
        transform: function of (rows, kernel) that returns as many rows.
        x: tensor (N, ...), the rows of all members.
        kernels: list of M tensors, one per member.

    Returns:
        Tensor (N, ...).
    """
    rows, members = ops.shape(x)[0], len(kernels)
    bounds = [(m * rows + members - 1) // members for m in range(members + 1)]
    # Every member computes equally many rows, and those of other members are dropped: a member may have
    # none, and TensorFlow's convolution of no rows has a wrong shape.
    most, outputs = bounds[1], []
    for kernel, start, stop in zip(kernels, bounds, bounds[1:]):
        outputs.append(transform(x[stop - most : stop], kernel)[start - stop + most :])
    return ops.concatenate(outputs, axis=0)


def assignment(x: Any, num_members: int) -> Any:
    """One-hot rows that say which member each row of a tensor belongs to.

    Args:
        x: tensor (N, ...).
        num_members: int, the number of members M.

    Returns:
        Tensor (N, M) in the dtype of `x`.
    """
    return ops.one_hot(members_of_rows(ops.shape(x)[0], num_members), num_members, dtype=x.dtype)


def per_row(values: Any, x: Any, assigned: Any = None) -> Any:
    """Each row gets the values of its member, shaped to broadcast over the positions of the row.

    This is a product with a one-hot matrix instead of a gather, so that the gradient is dense, as
    optimisers need it.

    Args:
        values: tensor (M, C), the values of each member.
        x: tensor (N, ..., C).
        assigned: tensor (N, M), `assignment(x, M)`; None computes it. Default: None.

    Returns:
        Tensor (N, 1, ..., 1, C) in the dtype of `x`.
    """
    assigned = assignment(x, values.shape[0]) if assigned is None else assigned
    rows = ops.matmul(assigned, ops.cast(values, x.dtype))
    return ops.reshape(rows, (-1, *(1,) * (len(x.shape) - 2), values.shape[-1]))


class SavesAllVariables:
    """A mix-in for subclasses of Keras's layers that saves all variables of the layer.

    Keras itself would save only the kernel and the bias.
    """

    def save_own_variables(self, store: Any) -> None:
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        keras.layers.Layer.load_own_variables(self, store)


@keras.saving.register_keras_serializable(package="zoo")
class TileMembers(keras.layers.Layer):
    """Repeat a batch for every member: (B, ...) to (M * B, ...), member by member.

    Args:
        num_members: int, the number of members M. Default: 4.
        training_mode: str, "tile" or "split". With "tile" every member sees every row, in training as at
            inference. With "split" the batch stays as it is in training, and the following layers divide
            its rows among the members. Default: "tile".
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (B, ...).
    Output shape: (M * B, ...), or (B, ...) in training with "split".

    Raises:
        ValueError: for an unknown mode or M < 1.

    Example:
        >>> rows = zoo.layers.TileMembers(num_members=2)(np.array([[1.0], [2.0]]))
        >>> keras.ops.convert_to_numpy(rows)[:, 0].tolist()
        [1.0, 2.0, 1.0, 2.0]
    """

    def __init__(self, num_members: int = 4, training_mode: str = "tile", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_members(num_members)
        check_training_mode(training_mode)
        self.num_members, self.training_mode = num_members, training_mode

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and self.training_mode == "split":
            return inputs
        return ops.tile(inputs, (self.num_members, *(1,) * (len(inputs.shape) - 1)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, *input_shape[1:])

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor((None, *inputs.shape[1:]), inputs.dtype)

    def row_factor(self, training: bool) -> Any:
        """How many rows of the batch the layer makes of one.

        Args:
            training: bool, in training or at inference.

        Returns:
            int, or a `fractions.Fraction` where rows become fewer.
        """
        return 1 if training and self.training_mode == "split" else self.num_members

    def litert_layer(self, config: dict) -> keras.layers.Layer:
        """A layer that does the same in a LiteRT file.

        Args:
            config: dict, this layer's configuration in float32.

        Returns:
            A new layer.
        """
        return ConcatenatedMembers.from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "training_mode": self.training_mode,
        }


@keras.saving.register_keras_serializable(package="zoo")
class ConcatenatedMembers(TileMembers):
    """`TileMembers` by concatenation: LiteRT's converter drops a tiling of a free batch before a product.

    Args:
        num_members, training_mode, kwargs: see `TileMembers`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return ops.concatenate([inputs] * self.num_members, axis=0)


@keras.saving.register_keras_serializable(package="zoo")
class MemberLogits(TileMembers):
    """Undo `TileMembers` with the same arguments: turn rows of logits into a member axis.

    Args:
        num_members: int, the number of members M. Default: 4.
        training_mode: str, the same as in `TileMembers`. Default: "tile".
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (M * B, K), or (B, K) in training with "split".
    Output shape: (B, M, K); in training with "split" (B, 1, K), each row answered by one member.

    Raises:
        ValueError: for an unknown mode or M < 1.

    Example:
        >>> tuple(zoo.layers.MemberLogits(num_members=4)(np.ones((8, 10))).shape)
        (2, 4, 10)
    """

    litert_layer: Any = None  # LiteRT runs it as it is

    def row_factor(self, training: bool) -> Any:
        return Fraction(1, super().row_factor(training))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and self.training_mode == "split":
            return inputs[:, None]
        members = ops.reshape(inputs, (self.num_members, -1, inputs.shape[-1]))
        return ops.transpose(members, (1, 0, 2))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, self.num_members, input_shape[-1])

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)
