"""Statistics and random numbers over the replicas of a `tf.distribute` strategy.

A strategy runs the training step once per replica, on that replica's rows of the batch, with equal states
of the random generators everywhere.  So layers must exchange statistics of the batch and draw different
numbers; the functions here give what one device would compute.  JAX needs nothing of this: an array that
is spread over devices is one array.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def _context():
    """The replica's context, or None: outside a strategy, or on another backend."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def replicated() -> bool:
    """Whether this code runs on one of several replicas, each of which computes a part of the batch.

    Returns:
        bool.
    """
    return _context() is not None


def mean_over_replicas(value: Any) -> Any:
    """The mean of a tensor over all replicas, differentiable.

    Args:
        value: tensor, which is returned unchanged where there is only one replica.

    Returns:
        Tensor of the same shape.
    """
    context = _context()
    return value if context is None else context.all_reduce("MEAN", value)


def draw_rows(draw: Callable[[Any], Any], rows: Any, members: int = 1) -> Any:
    """Random numbers for a replica's rows of the batch: its share of what one device would draw.

    Args:
        draw: function of the whole batch's number of rows that returns a tensor with as many rows.
        rows: int, this replica's number of rows, member after member; the same on every replica.
        members: int, how many members the rows belong to. Default: 1.

    Returns:
        Tensor (rows, ...).
    """
    context = _context()
    if context is None:
        return draw(rows)
    replicas, index = context.num_replicas_in_sync, context.replica_id_in_sync_group
    drawn = draw(rows * replicas)
    each = rows // members
    shape = ops.shape(drawn)[1:]
    drawn = ops.reshape(drawn, (members, replicas, each, *shape))
    return ops.reshape(drawn[:, index], (rows, *shape))


@keras.saving.register_keras_serializable(package="zoo")
class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A `keras.random.SeedGenerator` whose seeds differ between replicas; the first replica has Keras's own.

    For draws that are too large to be made for the whole batch on each replica, as `draw_rows` does.

    Args:
        args: arguments of `keras.random.SeedGenerator`, by position.
        kwargs: seed and name, as in `keras.random.SeedGenerator`.
    """

    def next(self, ordered: bool = True) -> Any:
        seed, context = super().next(ordered=ordered), _context()
        if context is None:
            return seed
        index = ops.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + index * ops.convert_to_tensor([0x9E3779B1, 0], seed.dtype)  # wraps around
