"""Proper scores and calibration of probabilistic classifiers."""

import keras
from keras import ops

from zoo.losses import label_distribution


class _ProbabilityMetric(keras.metrics.Metric):
    """A metric of labels (integer, one-hot or soft) and predictions (B, K).

    Args:
        from_logits: whether predictions are logits or log-probabilities (an `EnsembleClassifier`'s
            default), not probabilities.
    """

    def __init__(self, from_logits=True, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._direction = "down"
        self.from_logits = from_logits

    def _log_probabilities(self, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        return ops.log_softmax(y_pred, axis=-1) if self.from_logits else ops.log(y_pred)

    def _weights(self, sample_weight, rows):
        if sample_weight is None:
            return ops.ones((rows,), "float32")
        return ops.broadcast_to(ops.cast(ops.reshape(sample_weight, (-1,)), "float32"), (rows,))

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="zoo")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Share of images whose most probable class is the label's.

    Keras's own "accuracy" settles for integer or one-hot labels with the first batch it sees; this
    one takes any labels at any time: integer (B,) or (B, 1), one-hot or soft (B, K).
    """

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(_matches, name=name, **kwargs)
        self._direction = "up"  # for callbacks that monitor it

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = label_distribution(y_true, y_pred.shape[-1])
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _matches(y_true, y_pred):
    return ops.cast(ops.argmax(y_pred, axis=-1) == ops.argmax(y_true, axis=-1), "float32")


@keras.saving.register_keras_serializable(package="zoo")
class NegativeLogLikelihood(_ProbabilityMetric):
    """Mean of -log p(label): cross-entropy in nats, without clipping (p = 0 gives infinity)."""

    def __init__(self, from_logits=True, name="nll", **kwargs):
        super().__init__(from_logits, name, **kwargs)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = label_distribution(y_true, y_pred.shape[-1])
        log_p = self._log_probabilities(y_pred)
        scores = -ops.sum(ops.where(y_true > 0, y_true * log_p, 0.0), axis=-1)
        weights = self._weights(sample_weight, ops.shape(scores)[0])
        self.total.assign_add(ops.sum(ops.where(weights > 0, weights * scores, 0.0)))
        self.count.assign_add(ops.sum(weights))

    def result(self):
        return ops.divide_no_nan(self.total, self.count)


@keras.saving.register_keras_serializable(package="zoo")
class ExpectedCalibrationError(_ProbabilityMetric):
    """Top-label ECE over equal-width bins: sum_b |B_b| / N * |accuracy_b - confidence_b|.

    Bins are (0, 1/n], (1/n, 2/n], ..., as in Naeini et al. (2015) and Guo et al. (2017).

    Args:
        num_bins: n; 15 is the field's standard.
    """

    def __init__(self, num_bins=15, from_logits=True, name="ece", **kwargs):
        super().__init__(from_logits, name, **kwargs)
        self.num_bins = num_bins
        self.gaps = self.add_variable((num_bins,), "zeros", name="gaps")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = label_distribution(y_true, y_pred.shape[-1])
        p = ops.exp(self._log_probabilities(y_pred))
        confidence = ops.max(p, axis=-1)
        right = ops.cast(ops.argmax(p, axis=-1) == ops.argmax(y_true, axis=-1), "float32")
        weights = self._weights(sample_weight, ops.shape(confidence)[0])
        bins = ops.cast(ops.ceil(confidence * self.num_bins), "int32") - 1
        bins = ops.one_hot(ops.clip(bins, 0, self.num_bins - 1), self.num_bins, dtype="float32")
        self.gaps.assign_add(ops.matmul(weights * (right - confidence), bins))
        self.count.assign_add(ops.sum(weights))

    def result(self):
        return ops.divide_no_nan(ops.sum(ops.abs(self.gaps)), self.count)

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}
