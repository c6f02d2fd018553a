"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import math
import random
from typing import Any

import keras
from keras import ops

from zoo.layers.replicas import ReplicaSeedGenerator
from zoo.layers.tiling import check_members, members_of_rows


def check_rate(rate: float) -> None:
    """Check that a dropout rate is in [0, 1).

    Args:
        rate: float.

    Raises:
        ValueError: if it is not.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1); got {rate!r}")


@keras.saving.register_keras_serializable(package="zoo")
class MonteCarloDropout(keras.layers.Layer):
    """Dropout that stays active at inference: each member is one draw of the units that are dropped.

    In training this is `keras.layers.Dropout`, or with `filterwise` Keras's SpatialDropout: other units for
    every row. At inference y = x * keep / (1 - rate), where keep (M, ...) is drawn once per member. It is
    fixed by `seed`, so that outputs repeat and do not depend on an image's place in a batch; with
    `consistent=False` it is drawn anew at every call.

    Args:
        rate: float in [0, 1), the share of units that are dropped. Default 0.1.
        num_members: int, the number of members M. Default 4.
        consistent: bool, whether a member drops the same units at every call. Default True.
        seed: int, seed of the draws; None draws one, which the config keeps. The backend's generator decides
            which units a seed drops, so TensorFlow, JAX and PyTorch drop different ones. Default None.
        filterwise: bool, whether a unit is a whole channel (Tompson et al., CVPR 2015, arXiv 1411.4280). The
            positions of a feature map are alike, so single dropped ones can be guessed from their neighbours.
            Needs hardly any random numbers. Default False.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (N, ...), at inference tiled member by member: row i belongs to member floor(i * M / N).
    Output shape: the same.

    Raises:
        ValueError: for a rate outside [0, 1) or M < 1.

    Reference: Gal & Ghahramani, Dropout as a Bayesian Approximation, ICML 2016, arXiv 1506.02142.

    Example:

    >>> layer = zoo.layers.MonteCarloDropout(rate=0.5, num_members=4)
    >>> rows = np.ones((8, 16), "float32")
    >>> first, second = layer(rows), layer(rows)
    >>> tuple(first.shape), bool(keras.ops.all(first == second))
    ((8, 16), True)
    """

    def __init__(
        self, rate: float = 0.1, num_members: int = 4, consistent: bool = True, seed: int | None = None,
        filterwise: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_members(num_members)
        check_rate(rate)
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

    def units(self, inputs: Any, rows: Any) -> tuple:
        """The shape of the units that are kept or dropped.

        Args:
            inputs: tensor (N, ...).
            rows: int, number of rows to draw for.

        Returns:
            Tuple of int that begins with `rows`.
        """
        if self.filterwise:
            return (rows, *(1,) * (len(inputs.shape) - 2), inputs.shape[-1])
        return (rows, *inputs.shape[1:])

    def compute_output_shape(self, input_shape):
        return input_shape

    def kept_for_backward(self, inputs: Any, outputs: Any) -> list:
        """What a training step keeps besides inputs and outputs: which units a row lost.

        Args:
            inputs, outputs: symbolic tensors.

        Returns:
            List of symbolic tensors, of one row.
        """
        return [keras.KerasTensor(self.units(outputs, 1), "bool")]

    def litert_layer(self, config: dict) -> keras.layers.Layer:
        """A layer that does the same in a LiteRT file.

        Args:
            config: dict, this layer's configuration in float32.

        Returns:
            A new layer.

        Raises:
            ValueError: for draws that are new at every call.
        """
        if not self.consistent:
            raise ValueError(
                "MC dropout with consistent=False draws anew at every call, and a LiteRT file cannot; build "
                "the model with consistent=True"
            )
        return DrawnDropout.from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "num_members": self.num_members,
            "consistent": self.consistent,
            "seed": self.seed,
            "filterwise": self.filterwise,
        }


@keras.saving.register_keras_serializable(package="zoo")
class DrawnDropout(MonteCarloDropout):
    """`MonteCarloDropout` at inference, drawn before any graph: LiteRT has no generator of the same numbers.

    Where a network leaves a size open, it is drawn in the first call, which must be an eager one.

    Args:
        rate, num_members, consistent, seed, filterwise, kwargs: see `MonteCarloDropout`.
    """

    drawn = None

    def build(self, input_shape):
        if None not in input_shape[1:]:
            self._draw(keras.KerasTensor(input_shape))

    def _draw(self, inputs):
        shape = self.units(inputs, self.num_members)
        keep = ops.convert_to_numpy(keras.random.uniform(shape, seed=self.seed)) >= self.rate
        self.drawn = keep / (1 - self.rate)

    def call(self, inputs, training=None):
        if self.drawn is None:
            self._draw(inputs)
        members = members_of_rows(ops.shape(inputs)[0], self.num_members)
        return inputs * ops.take(ops.cast(self.drawn, inputs.dtype), members, axis=0)
