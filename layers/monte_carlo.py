"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import math
import random

import keras
from keras import ops

from zoo.layers.replicas import ReplicaSeedGenerator
from zoo.layers.tiling import check_members, members_of_rows


@keras.saving.register_keras_serializable(package="zoo")
class MonteCarloDropout(keras.layers.Layer):
    """Dropout that goes on at inference: each member is one draw of the units that are dropped.

    In training this is `keras.layers.Dropout`, or with `filterwise` Keras's SpatialDropout: fresh units for
    every row.  At inference y = x * keep / (1 - rate), where keep (M, ...) is drawn once a member: fixed by
    `seed`, so that answers repeat and do not depend on an image's place in a batch, or with
    `consistent=False` drawn anew at every call.

    Args:
        rate: share of units dropped, in [0, 1).
        num_members: M.
        consistent: whether a member drops the same units at every call.
        seed: of the draws, an integer; None draws one, which the config keeps.  Which units it drops
            is decided by the backend's generator: TensorFlow, JAX and PyTorch drop different ones.
        filterwise: whether a unit is a whole channel (Tompson et al., CVPR 2015, arXiv 1411.4280): the
            positions of a feature map are alike, and single ones that are dropped can be seen from
            their neighbours.  Costs hardly any random numbers.

    Input shape: (N, ...), at inference tiled member by member: row i belongs to member
        floor(i * M / N).
    Output shape: as the input.

    Raises:
        ValueError: for a rate outside [0, 1) or M < 1.
    """

    def __init__(self, rate=0.1, num_members=4, consistent=True, seed=None, filterwise=False, **kwargs):
        super().__init__(**kwargs)
        check_members(num_members)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1); got {rate!r}")
        self.rate, self.num_members, self.consistent = rate, num_members, consistent
        self.filterwise = filterwise
        # Drawn now and kept in the config, so that a loaded model drops the same units.
        self.seed = random.randrange(2**31) if seed is None else seed
        self.generator = ReplicaSeedGenerator(self.seed)

    def call(self, inputs, training=None):
        if training and not self.filterwise:
            return keras.random.dropout(inputs, self.rate, seed=self.generator)
        rows = ops.shape(inputs)[0] if training else self.num_members
        seed = self.seed if self.consistent and not training else self.generator
        keep = keras.random.uniform(self.units(inputs, rows), seed=seed) >= self.rate
        scaled = ops.cast(keep, inputs.dtype) / (1 - self.rate)
        if training:
            return inputs * scaled
        if inputs.shape[0] is not None and inputs.shape[0] % self.num_members:
            members = members_of_rows(inputs.shape[0], self.num_members)
            return inputs * ops.take(scaled, members, axis=0)
        # A factor for every row would be a constant of TensorFlow's graph, as large as the activations.
        by_member = ops.reshape(inputs, (self.num_members, -1, math.prod(scaled.shape[1:])))
        outputs = by_member * ops.reshape(scaled, (self.num_members, 1, -1))
        return ops.reshape(outputs, (-1, *inputs.shape[1:]))

    def units(self, inputs, rows):
        """Shape of the units of `rows` rows, which are kept or dropped each."""
        if self.filterwise:
            return (rows, *(1,) * (len(inputs.shape) - 2), inputs.shape[-1])
        return (rows, *inputs.shape[1:])

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "num_members": self.num_members,
            "consistent": self.consistent,
            "seed": self.seed,
            "filterwise": self.filterwise,
        }
