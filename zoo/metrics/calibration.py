"""Accuracy, likelihood and calibration of probabilistic classifiers."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.array_types import Tensor
from zoo.losses import label_distribution
from zoo.metrics.base import CompensatedSum, MeanMetric, ProbabilityMetric, as_array, weighted
from zoo.metrics.checks import check_integers, check_predictions, check_shapes, check_weights


@keras.saving.register_keras_serializable(package="zoo")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Accuracy: the share of images whose most probable class is the label's.

    Keras's own "accuracy" decides for integer or one-hot labels with the first batch it sees; this
    one takes any labels at any time: integer (B,) or (B, 1), one-hot or soft (B, K).

    Args:
        name: str, the Keras name. Default: "accuracy".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, for predictions that are not (B, K), none, lengths that differ,
            and in NumPy arrays labels out of range or NaN. Training goes on where a tensor has those:
            the loss turns NaN.

    Example:
        >>> metric = zoo.metrics.Accuracy()
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.6, 0.4]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any):
        super().__init__(_matches, name=name, **kwargs)
        self._direction = "up"  # for callbacks that monitor it

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        y_true, y_pred, sample_weight = map(as_array, (y_true, y_pred, sample_weight))
        check_shapes(y_true, y_pred, sample_weight, 2)
        if isinstance(y_pred, np.ndarray):
            weights = check_weights(sample_weight)
            check_predictions(y_pred, weights, from_logits=True)
            check_integers(y_true, weights, y_pred.shape[-1])
        y_true = label_distribution(y_true, y_pred.shape[-1])
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}


def _matches(y_true, y_pred):
    return ops.cast(ops.argmax(y_pred, axis=-1) == ops.argmax(y_true, axis=-1), "float32")


@keras.saving.register_keras_serializable(package="zoo")
class TopKAccuracy(MeanMetric):
    """Top-k accuracy: the share of images whose label is among the k most probable classes.

    Of equally probable classes the one with the lower index comes first, as in `argmax`: k = 1 is
    `Accuracy`.

    Args:
        k: int in [1, K]. Default: 5.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "top_k_accuracy".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for k < 1; in `update_state` for fewer than k classes, else see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.TopKAccuracy(k=2)
        >>> metric.update_state([1, 2], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self, k: int = 5, from_logits: bool = True, name: str = "top_k_accuracy", **kwargs: Any
    ):
        super().__init__(from_logits, name, **kwargs)
        self._direction = "up"
        if not (isinstance(k, int) and k >= 1):
            raise ValueError(f"k must be an integer >= 1; got {k!r}")
        self.k = k

    def _scores(self, labels, y_pred):
        classes = y_pred.shape[-1]
        if self.k > classes:
            raise ValueError(f"k={self.k} is more than the {classes} classes; choose k <= {classes}")
        label = ops.cast(ops.argmax(labels, axis=-1), "int32")[:, None]
        own = ops.take_along_axis(y_pred, label, axis=-1)
        earlier = ops.arange(classes, dtype="int32")[None] < label
        before = (y_pred > own) | ((y_pred == own) & earlier)
        return ops.cast(ops.sum(ops.cast(before, "int32"), axis=-1) < self.k, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


@keras.saving.register_keras_serializable(package="zoo")
class NegativeLogLikelihood(MeanMetric):
    """Negative log-likelihood: mean of -log p(label), in nats, without clipping (p = 0 gives infinity).

    Args:
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "nll".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.NegativeLogLikelihood(from_logits=False)
        >>> metric.update_state([0, 1], [[0.5, 0.5], [0.75, 0.25]])
        >>> round(float(metric.result()), 3)
        1.04
    """

    def __init__(self, from_logits: bool = True, name: str = "nll", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        log_p = self._log_probabilities(y_pred)
        return -ops.sum(ops.where(labels > 0, labels * log_p, 0.0), axis=-1)


def check_bins(num_bins: int) -> None:
    """Check a number of bins.

    Args:
        num_bins: int >= 1.

    Raises:
        ValueError: for anything else.
    """
    if not (isinstance(num_bins, int) and num_bins >= 1):
        raise ValueError(f"num_bins must be an integer >= 1; got {num_bins!r}")


def equal_width_bin(probabilities: Tensor, num_bins: int) -> Tensor:
    """Return the index of each probability's bin (0, 1/n], (1/n, 2/n], ...; 0 is in the first.

    Args:
        probabilities: tensor of any shape.
        num_bins: int >= 1, n.

    Returns:
        An int32 tensor of the same shape.
    """
    bins = ops.cast(ops.ceil(probabilities * num_bins), "int32") - 1
    return ops.clip(bins, 0, num_bins - 1)


class _TopLabelBins(ProbabilityMetric):
    """What metrics of the top label over equal-width bins share: gaps and masses of the bins."""

    def __init__(self, num_bins=15, from_logits=True, name=None, **kwargs):
        super().__init__(from_logits, name, **kwargs)
        check_bins(num_bins)
        self.num_bins = num_bins
        self.gaps = CompensatedSum(self, "gaps", (num_bins,))
        self.masses = CompensatedSum(self, "masses", (num_bins,))

    def _add(self, labels, y_pred, weights):
        p = self._probabilities(y_pred)
        confidence = ops.max(p, axis=-1)
        right = ops.cast(ops.argmax(p, axis=-1) == ops.argmax(labels, axis=-1), "float32")
        bins = equal_width_bin(confidence, self.num_bins)
        for state, values in (
            (self.gaps, weighted(weights, right - confidence)),
            (self.masses, weights),
        ):
            state.add(ops.segment_sum(values, bins, num_segments=self.num_bins))

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable(package="zoo")
class ExpectedCalibrationError(_TopLabelBins):
    """Expected calibration error of the top label: sum_b |B_b| / N * |accuracy_b - confidence_b|.

    Bins are (0, 1/n], (1/n, 2/n], ..., as in Naeini et al. (AAAI 2015) and Guo et al. (ICML 2017, arXiv
    1706.04599).

    Args:
        num_bins: int >= 1, n; 15 is the field's standard. Default: 15.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "ece".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.ExpectedCalibrationError(from_logits=False)
        >>> metric.update_state([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        >>> float(metric.result())
        0.25
    """

    def __init__(self, num_bins: int = 15, from_logits: bool = True, name: str = "ece", **kwargs: Any):
        super().__init__(num_bins, from_logits, name, **kwargs)

    def result(self) -> Tensor:
        return ops.divide_no_nan(ops.sum(ops.abs(self.gaps.value())), ops.sum(self.masses.value()))


@keras.saving.register_keras_serializable(package="zoo")
class MaximumCalibrationError(_TopLabelBins):
    """Maximum calibration error of the top label: the largest |accuracy_b - confidence_b| of a bin.

    Empty bins do not count.

    Naeini et al. (AAAI 2015), Guo et al. (ICML 2017, arXiv 1706.04599).

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... Default: 15.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "mce".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.MaximumCalibrationError(from_logits=False)
        >>> metric.update_state([0, 1, 0], [[0.75, 0.25], [0.75, 0.25], [1.0, 0.0]])
        >>> float(metric.result())
        0.25
    """

    def __init__(self, num_bins: int = 15, from_logits: bool = True, name: str = "mce", **kwargs: Any):
        super().__init__(num_bins, from_logits, name, **kwargs)

    def result(self) -> Tensor:
        return ops.max(ops.divide_no_nan(ops.abs(self.gaps.value()), self.masses.value()))


class ClasswiseBins(ProbabilityMetric):
    """Base of metrics that bin every class's probability by itself; their state is (K, num_bins).

    A subclass names its sums in `sums` and gives by `_terms(p, labels)` a tensor (rows, K) for each.

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of each class. Default: 15.
        num_classes: int, K, which JAX's stateless calls need. Default: None, taken from the first batch.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: None.
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.
    """

    sums: tuple[str, ...] = ()

    def __init__(
        self,
        num_bins: int = 15,
        num_classes: int | None = None,
        from_logits: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(from_logits, name, **kwargs)
        check_bins(num_bins)
        self.num_bins, self.num_classes = num_bins, num_classes
        self._size = None
        self.count = CompensatedSum(self, "count")
        if num_classes is not None:
            self._make_state(num_classes)

    def _make_state(self, classes):
        self._size = classes
        for name in self.sums:
            setattr(self, name, CompensatedSum(self, name, (classes, self.num_bins)))

    def _add(self, labels, y_pred, weights):
        classes = y_pred.shape[-1]
        if self._size is None:
            self._make_state(classes)
        if self._size != classes:
            raise ValueError(f"{self.name} has seen {self._size} classes; this batch has {classes}")
        p = self._probabilities(y_pred)
        segments = (
            equal_width_bin(p, self.num_bins) + self.num_bins * ops.arange(classes, dtype="int32")[None]
        )
        segments, cells = ops.reshape(segments, (-1,)), classes * self.num_bins
        for name, values in zip(self.sums, self._terms(p, labels)):
            flat = ops.reshape(weighted(weights, values), (-1,))
            sums = ops.segment_sum(flat, segments, num_segments=cells)
            getattr(self, name).add(ops.reshape(sums, (classes, self.num_bins)))
        self.count.add(ops.sum(weights))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bins": self.num_bins, "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="zoo")
class ClasswiseCalibrationError(ClasswiseBins):
    """Class-wise ECE: mean over classes k of sum_b |B_kb| / N * |frequency_kb - probability_kb|.

    Bins of class k are those of its own probability over all images (Kull et al., Beyond temperature
    scaling, NeurIPS 2019, arXiv 1910.12656; the static calibration error of Nixon et al., 2019, arXiv
    1904.01685).

    Args:
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of each class. Default: 15.
        num_classes: int, K, which JAX's stateless calls need. Default: None, taken from the first batch.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "classwise_ece".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.ClasswiseCalibrationError(from_logits=False)
        >>> metric.update_state([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        >>> float(metric.result())
        0.25
    """

    sums = ("gaps",)

    def __init__(
        self,
        num_bins: int = 15,
        num_classes: int | None = None,
        from_logits: bool = True,
        name: str = "classwise_ece",
        **kwargs: Any,
    ):
        super().__init__(num_bins, num_classes, from_logits, name, **kwargs)

    def _terms(self, p, labels):
        return [labels - p]

    def result(self) -> Tensor:
        if self._size is None:
            return ops.zeros(())
        total = ops.sum(ops.abs(self.gaps.value())) / self._size
        return ops.divide_no_nan(total, self.count.value())
