"""What a layer must know of the replicas it is computed on, under a strategy of `tf.distribute`.

A strategy runs the training step once a replica, on that replica's rows of the batch, with states of
random generators that are equal everywhere.  So statistics of the batch are to be exchanged, and
draws made to differ: here they are those that one device would make.  On JAX there is nothing to do:
an array that is spread over devices is one array.
"""

import keras
from keras import ops


def _context():
    """The replica's context, or None: outside a strategy, or on another backend."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def replicated():
    """Whether this is one of several replicas, computing a part of the batch."""
    return _context() is not None


def mean_over_replicas(value):
    """The mean of a tensor over all replicas; the tensor where there is one.  Differentiable."""
    context = _context()
    return value if context is None else context.all_reduce("MEAN", value)


def draw_rows(draw, rows, members=1):
    """Random numbers for a replica's rows of the batch: its share of what one device would draw.

    Args:
        draw: a function of the number of rows, of the whole batch, that gives a tensor of as many rows.
        rows: of this replica, the same on each; member after member.
        members: how many members' rows there are.

    Returns:
        A tensor (rows, ...).
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
    """A `keras.random.SeedGenerator` whose seeds differ between replicas, and on the first are Keras's.

    For draws that are too large to be made for the whole batch on each replica (`draw_rows`).
    """

    def next(self, ordered=True):
        seed, context = super().next(ordered=ordered), _context()
        if context is None:
            return seed
        index = ops.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + index * ops.convert_to_tensor([0x9E3779B1, 0], seed.dtype)  # wraps around
