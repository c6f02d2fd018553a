"""The Brier score and its decomposition."""

import keras
from keras import ops

from zoo.metrics.base import CompensatedSum, MeanMetric, weighted
from zoo.metrics.calibration import ClasswiseBins


@keras.saving.register_keras_serializable(package="zoo")
class BrierScore(MeanMetric):
    """Mean of sum_k (p_k - y_k)^2, between 0 and 2 (Brier, 1950).

    Args:
        from_logits: whether predictions (B, K) are logits or log-probabilities, not probabilities.

    Raises:
        ValueError: in `update_state` as every metric does.
    """

    def __init__(self, from_logits=True, name="brier", **kwargs):
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
    """How far frequencies are from probabilities: sum_k sum_b |B_kb| / N (probability_kb - frequency_kb)^2.

    It is one of three parts, class by class over equal-width bins of its probability:

        Brier score = reliability - resolution + uncertainty,

    exactly, whatever the bins (Murphy, 1973; with the spread inside bins in the resolution: Stephenson,
    Coelho and Jolliffe, Two extra components in the Brier score decomposition, 2008).

    Args:
        num_bins: n, of bins (0, 1/n], (1/n, 2/n], ... of each class.
        num_classes: K; None takes it from the first batch.  JAX's stateless calls need it.
        from_logits: whether predictions (B, K) are logits or log-probabilities, not probabilities.

    Raises:
        ValueError: for num_bins < 1; in `update_state` as every metric does.
    """

    def __init__(
        self, num_bins=15, num_classes=None, from_logits=True, name="brier_reliability", **kwargs
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)

    def _part(self):
        return self._reliability()


@keras.saving.register_keras_serializable(package="zoo")
class BrierResolution(_BrierPart):
    """How much predictions tell beyond the classes' frequencies: reliability + uncertainty - Brier score.

    That is the spread of the bins' frequencies around the class's, sum_k sum_b |B_kb| / N (frequency_kb -
    frequency_k)^2, less what probabilities vary inside a bin without labels following ("generalised
    resolution", Stephenson et al., 2008).  Arguments and errors are `BrierReliability`'s.
    """

    def __init__(
        self, num_bins=15, num_classes=None, from_logits=True, name="brier_resolution", **kwargs
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)
        self._direction = "up"

    def _part(self):
        return self._reliability() + self._uncertainty() - self._mean(self.errors.value())


@keras.saving.register_keras_serializable(package="zoo")
class BrierUncertainty(_BrierPart):
    """The Brier score of always predicting the classes' frequencies: sum_k frequency_k (1 - frequency_k).

    It depends on labels alone; of soft labels it is their variance.  Arguments and errors are
    `BrierReliability`'s.
    """

    def __init__(
        self, num_bins=15, num_classes=None, from_logits=True, name="brier_uncertainty", **kwargs
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)

    def _part(self):
        return self._uncertainty()
