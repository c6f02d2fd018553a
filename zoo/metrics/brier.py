"""The Brier score and its decomposition."""

from typing import Any

import keras
from keras import ops

from zoo.metrics.base import CompensatedSum, MeanMetric, weighted
from zoo.metrics.calibration import ClasswiseBins


@keras.saving.register_keras_serializable(package="zoo")
class BrierScore(MeanMetric):
    """Brier score: mean of sum_k (p_k - y_k)^2, between 0 and 2.

    Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review, 1950.

    Args:
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "brier".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.BrierScore(from_logits=False)
        >>> metric.update_state([0, 1], [[0.5, 0.5], [0.0, 1.0]])
        >>> round(float(metric.result()), 4)
        0.25
    """

    def __init__(self, from_logits: bool = True, name: str = "brier", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        return ops.sum(ops.square(self._probabilities(y_pred) - labels), axis=-1)


class _BrierPart(ClasswiseBins):
    """Sums that the parts are made of: mass, probability and frequency of every class and bin."""

    sums = ("masses", "probabilities", "frequencies")

    def __init__(self, num_bins=15, num_classes=None, from_logits=True, name=None, **kwargs):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)
        self.squares = CompensatedSum(self, "squares")  # of the labels
        self.errors = CompensatedSum(self, "errors")  # squared

    def _terms(self, p, labels):
        return [ops.ones_like(p), p, labels]

    def _add(self, labels, y_pred, weights):
        super()._add(labels, y_pred, weights)
        error = ops.square(self._probabilities(y_pred) - labels)
        for state, values in ((self.squares, ops.square(labels)), (self.errors, error)):
            state.add(ops.sum(weighted(weights, ops.sum(values, axis=-1))))

    def _reliability(self):
        gap = self.probabilities.value() - self.frequencies.value()
        return self._mean(ops.sum(ops.divide_no_nan(ops.square(gap), self.masses.value())))

    def _uncertainty(self):
        frequency = self._mean(ops.sum(self.frequencies.value(), axis=-1))
        return self._mean(self.squares.value()) - ops.sum(ops.square(frequency))

    def _mean(self, total):
        return ops.divide_no_nan(total, self.count.value())

    def result(self):
        return ops.zeros(()) if self._size is None else self._part()


@keras.saving.register_keras_serializable(package="zoo")
class BrierReliability(_BrierPart):
    """Reliability part of the Brier score: sum_k sum_b |B_kb| / N (probability_kb - frequency_kb)^2.

    It is one of three parts, class by class over equal-width bins of its probability:

        Brier score = reliability - resolution + uncertainty,

    exactly, whatever the bins (Murphy, 1973; with the spread inside bins in the resolution: Stephenson,
    Coelho and Jolliffe, Two extra components in the Brier score decomposition, 2008).

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of each class. Default: 15.
        num_classes: int, K, which JAX's stateless calls need. Default: None, taken from the first batch.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "brier_reliability".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.BrierReliability(num_bins=10, from_logits=False)
        >>> metric.update_state([0, 1], [[0.75, 0.25], [0.75, 0.25]])  # right half of the time
        >>> round(float(metric.result()), 4)
        0.125
    """

    def __init__(
        self,
        num_bins: int = 15,
        num_classes: int | None = None,
        from_logits: bool = True,
        name: str = "brier_reliability",
        **kwargs: Any,
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)

    def _part(self):
        return self._reliability()


@keras.saving.register_keras_serializable(package="zoo")
class BrierResolution(_BrierPart):
    """Resolution part of the Brier score: reliability + uncertainty - Brier score.

    How much predictions tell beyond the classes' frequencies: the spread of the bins' frequencies around
    the class's, sum_k sum_b |B_kb| / N (frequency_kb - frequency_k)^2, less the variation of
    probabilities inside a bin that labels do not follow ("generalised resolution", Stephenson et al.,
    2008).

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of each class. Default: 15.
        num_classes: int, K, which JAX's stateless calls need. Default: None, taken from the first batch.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "brier_resolution".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.BrierResolution(from_logits=False)
        >>> metric.update_state([0, 1], [[1.0, 0.0], [0.0, 1.0]])  # perfect: all uncertainty resolved
        >>> round(float(metric.result()), 4)
        0.5
    """

    def __init__(
        self,
        num_bins: int = 15,
        num_classes: int | None = None,
        from_logits: bool = True,
        name: str = "brier_resolution",
        **kwargs: Any,
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)
        self._direction = "up"

    def _part(self):
        return self._reliability() + self._uncertainty() - self._mean(self.errors.value())


@keras.saving.register_keras_serializable(package="zoo")
class BrierUncertainty(_BrierPart):
    """Uncertainty part of the Brier score: sum_k frequency_k (1 - frequency_k).

    The Brier score of always predicting the classes' frequencies. It depends on labels alone; for soft
    labels it is their variance.

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of each class. Default: 15.
        num_classes: int, K, which JAX's stateless calls need. Default: None, taken from the first batch.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "brier_uncertainty".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.BrierUncertainty(from_logits=False)
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.6, 0.4]])
        >>> round(float(metric.result()), 4)
        0.5
    """

    def __init__(
        self,
        num_bins: int = 15,
        num_classes: int | None = None,
        from_logits: bool = True,
        name: str = "brier_uncertainty",
        **kwargs: Any,
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)

    def _part(self):
        return self._uncertainty()
