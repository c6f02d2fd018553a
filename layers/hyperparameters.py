"""Hyperparameters that are drawn for every row of a batch (Wenzel et al., NeurIPS 2020, arXiv 2006.13570)."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from zoo.layers.argument_checks import check_number
from zoo.layers.replicas import draw_rows
from zoo.layers.tiling import check_members, per_row


def check_ranges(ranges: Sequence[Sequence[float]]) -> None:
    """Check the ranges of hyperparameters.

    Args:
        ranges: sequence of pairs (low, high), 0 < low < high.

    Raises:
        ValueError: for no ranges, or an invalid one.
    """
    try:
        valid = bool(ranges) and all(0 < low < high for low, high in ranges)
    except (TypeError, ValueError):  # text, or no pairs
        valid = False
    if not valid:
        raise ValueError(f"ranges must be pairs 0 < low < high; got {ranges}")


@keras.saving.register_keras_serializable(package="zoo")
class LogUniformHyperparameters(keras.layers.Layer):
    """Hyperparameters for every row, drawn from each member's own log-uniform distribution.

    Member m's j-th hyperparameter is exp(u) with u uniform in [log_lower[m, j], log_upper[m, j]]. In
    training it is drawn for every row; at inference it is the mean, (upper - lower) / (log upper - log
    lower). The bounds are weights that the network's optimiser does not train:
    `zoo.HyperparameterTuning` moves them on held-out data.

    Args:
        num_members: int, the number of members M.
        ranges: sequence of d pairs of floats (low, high), 0 < low < high, which the bounds never leave.
        initial_width: float in (0, 1). Members start near the mean of the log-uniform distribution over
            the whole range, between 1 - initial_width and 1 + initial_width times that mean. Default:
            0.014.
        label_smoothing: bool, whether the last hyperparameter is a label smoothing, which the
            classifier's loss uses. Default: False.
        seed: int, or None to draw one. Default: None.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (N, ...). Row i belongs to member floor(i * M / N).
    Output shape: (N, d); at inference (M, d), one row per member.

    Raises:
        ValueError: for M < 1, no ranges, an invalid range, or a width outside (0, 1).

    References:
        Wenzel et al., Hyperparameter Ensembles, NeurIPS 2020, arXiv 2006.13570, section 5.

    Example:
        >>> ranges = [(1e-5, 1e-1), (1e-3, 1.0)]
        >>> layer = zoo.layers.LogUniformHyperparameters(num_members=3, ranges=ranges)
        >>> tuple(layer(np.ones((6, 8)), training=True).shape), tuple(layer(np.ones((6, 8))).shape)
        ((6, 2), (3, 2))
    """

    def __init__(
        self, num_members: int, ranges: Sequence[Sequence[float]], initial_width: float = 0.014,
        label_smoothing: bool = False, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_members(num_members)
        check_ranges(ranges)
        self.ranges = [[float(low), float(high)] for low, high in ranges]
        check_number(initial_width, "initial_width", "in (0, 1)", lambda width: 0 < width < 1)
        self.num_members, self.initial_width = num_members, initial_width
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self.drawn = self.given = None

    @contextlib.contextmanager
    def with_values(self, values: Any) -> Iterator[None]:
        """Make calls return given values within a `with` statement.

        Args:
            values: tensor (N, d), returned whatever the input.
        """
        self.given = values
        try:
            yield
        finally:
            self.given = None

    def build(self, input_shape: Any) -> None:
        shape = (self.num_members, len(self.ranges))
        draw = keras.random.normal(shape, dtype="float32", seed=keras.random.SeedGenerator(self.seed))
        # As in the reference, whose centres spread by a tenth of the width.
        centres = ops.log(self._means()) + 0.1 * self.initial_width * draw
        for name, factor in (
            ("log_lower", 1 - self.initial_width),
            ("log_upper", 1 + self.initial_width),
        ):
            start = ops.clip(centres + math.log(factor), *self.limits())
            weight = self.add_weight(
                name=name, shape=shape, trainable=False, autocast=False, dtype="float32",
                initializer=lambda shape, dtype=None, start=start: ops.cast(start, dtype),
            )  # fmt: skip
            setattr(self, name, weight)

    def _means(self):
        means = [(high - low) / math.log(high / low) for low, high in self.ranges]
        return ops.convert_to_tensor(means, dtype="float32")

    def limits(self) -> tuple:
        """The logarithms of the ranges.

        Returns:
            Two tensors (d,), log low and log high.
        """
        logs = [[math.log(low), math.log(high)] for low, high in self.ranges]
        return tuple(ops.convert_to_tensor(side, dtype="float32") for side in zip(*logs))

    def sample(self, log_lower: Any, log_upper: Any, uniform: Any) -> Any:
        """Turn uniform random numbers into hyperparameters.

        Args:
            log_lower: tensor (M, d), the members' lower bounds.
            log_upper: tensor (M, d), their upper bounds.
            uniform: tensor (N, d) of numbers in [0, 1).

        Returns:
            Tensor (N, d).
        """
        lower, upper = per_row(log_lower, uniform), per_row(log_upper, uniform)
        return ops.exp(lower + uniform * (upper - lower))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.given is not None:
            return self.given
        rows = ops.shape(inputs)[0]
        if training:
            uniform = draw_rows(self._uniform, rows, self.num_members)
            self.drawn = self.sample(self.log_lower, self.log_upper, uniform)
            return self.drawn
        lower, upper = ops.exp(self.log_lower), ops.exp(self.log_upper)
        return (upper - lower) / (self.log_upper - self.log_lower)

    def _uniform(self, rows):
        return keras.random.uniform((rows, len(self.ranges)), seed=self.generator, dtype="float32")

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member: none, because hyperparameters are not weights of the network.

        Args:
            values: dict of trainable variables.
            network: the `keras.Model` around the layer.

        Returns:
            An empty dict.
        """
        return {}

    def smoothing(self) -> Any:
        """The label smoothing of the rows of the latest training batch.

        Returns:
            Tensor (B, M), or None without label smoothing or before the first batch.
        """
        if not self.label_smoothing or self.drawn is None:
            return None
        return ops.transpose(ops.reshape(self.drawn[:, -1], (self.num_members, -1)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, len(self.ranges))

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor((None, len(self.ranges)), "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "ranges": self.ranges,
            "initial_width": self.initial_width,
            "label_smoothing": self.label_smoothing,
            "seed": self.seed,
        }
