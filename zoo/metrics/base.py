"""What all metrics share: exact sums, weights, and batches of any size."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.array_types import Tensor
from zoo.losses import label_distribution
from zoo.metrics.checks import check_integers, check_predictions, check_shapes, check_weights

TINY = 2.0**-126  # the least normal float32: what is smaller is 0 to some operations and not to others
ROWS = 1024  # at once: bounds both the memory of a huge batch and the rounding of its float32 sums


class CompensatedSum:
    """A running sum in two float32 variables, the second of which holds what the first lost by rounding.

    A plain float32 total drifts over many batches; this one (Knuth's two-sum) does not depend on how a
    stream was cut, to 1e-6 of its size. Infinite sums stay infinite.

    Args:
        metric: the `keras.metrics.Metric` that owns the variables.
        name: str, of the total; the other variable is called `<name>_lost`.
        shape: tuple of ints, the shape of the sum. Default: (), a number.
    """

    def __init__(self, metric: keras.metrics.Metric, name: str, shape: tuple[int, ...] = ()):
        self.total = metric.add_variable(shape, "zeros", dtype="float32", name=name)
        self.lost = metric.add_variable(shape, "zeros", dtype="float32", name=f"{name}_lost")

    def add(self, values: Tensor) -> None:
        """Add values.

        Args:
            values: tensor of the sum's shape.
        """
        values = ops.cast(values, "float32")
        before = ops.convert_to_tensor(self.total)
        after = before + values
        added = after - before
        lost = (before - (after - added)) + (values - added)
        self.total.assign(after)
        self.lost.assign_add(ops.where(ops.isfinite(lost), lost, 0.0))

    def value(self) -> Tensor:
        """Return the sum so far, a float32 tensor."""
        return self.total + self.lost


def weighted(weights: Tensor, values: Tensor) -> Tensor:
    """Multiply values by weights, where anything times a weight of 0 is 0; a NaN weight stays NaN.

    Args:
        weights: tensor (rows,).
        values: tensor (rows, ...).

    Returns:
        A tensor of the values' shape.
    """
    weights = ops.reshape(weights, (-1, *(1,) * (len(values.shape) - 1)))
    return ops.where(weights == 0, 0.0, weights * values)


class ProbabilityMetric(keras.metrics.Metric):
    """Base of metrics of labels and predictions (B, K), or (B, M, K) of members.

    A subclass implements `_add(labels, y_pred, weights)` for at most `ROWS` rows where their number is
    known: labels float32 (rows, K), or None with `takes_labels = False`; weights float32 (rows,), NaN
    where a label is out of range that could not be looked at beforehand.

    Args:
        from_logits: bool, whether predictions are logits or log-probabilities (an `EnsembleClassifier`'s
            default) instead of probabilities. Default: True.
        name: str, the Keras name. Default: None.
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, for predictions of another shape, no predictions, or lengths that
            differ; and where values are known (not inside compiled code) for labels out of range,
            NaN, probabilities that do not sum to one, negative weights. Rows of weight 0 may hold
            anything.
    """

    rank = 2
    takes_labels = True

    def __init__(self, from_logits: bool = True, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._direction: str | None = "down"  # for callbacks that monitor it
        self.from_logits = from_logits

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: labels, integer (B,) or (B, 1), or one-hot or soft (B, K).
            y_pred: predictions (B, K), or (B, M, K) for metrics of members.
            sample_weight: weights >= 0, (B,), (B, 1) or a number. Default: None, all 1.

        Raises:
            ValueError: see the class.
        """
        y_true = as_array(y_true) if self.takes_labels else None
        y_pred, sample_weight = as_array(y_pred), as_array(sample_weight)
        check_shapes(y_true, y_pred, sample_weight, self.rank)
        known = check_weights(sample_weight)
        check_predictions(y_pred, known, self.from_logits)
        if self.takes_labels:
            check_integers(y_true, known, y_pred.shape[-1])
        for rows in blocks(y_pred.shape[0]):
            predictions = ops.cast(y_pred[rows], "float32")
            weights = self._weights(share(sample_weight, rows), ops.shape(predictions)[0])
            labels = None
            if self.takes_labels:
                labels = label_distribution(y_true[rows], y_pred.shape[-1])
                valid = (ops.sum(labels, axis=-1) > 0) | (weights == 0)
                weights = ops.where(valid, weights, float("nan"))
            self._add(labels, predictions, weights)

    def _log_probabilities(self, y_pred):
        if self.from_logits:
            return ops.log_softmax(y_pred, axis=-1)
        return ops.log(self._probabilities(y_pred))

    def _probabilities(self, y_pred):
        p = ops.softmax(y_pred, axis=-1) if self.from_logits else y_pred
        return ops.where(p >= TINY, p, 0.0)

    def _weights(self, sample_weight, rows):
        if sample_weight is None:
            return ops.ones((rows,), "float32")
        return ops.broadcast_to(ops.cast(ops.reshape(sample_weight, (-1,)), "float32"), (rows,))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


class MeanMetric(ProbabilityMetric):
    """Base of metrics that are a weighted mean of one number per image.

    A subclass implements `_scores(labels, y_pred)`. As Keras's own metrics it is 0 before the first
    batch.

    Args:
        from_logits: bool, whether predictions are logits or log-probabilities instead of probabilities.
            Default: True.
        name: str, the Keras name. Default: None.
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.
    """

    def __init__(self, from_logits: bool = True, name: str | None = None, **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)
        self.total = CompensatedSum(self, "total")
        self.count = CompensatedSum(self, "count")

    def _add(self, labels, y_pred, weights):
        self.total.add(ops.sum(weighted(weights, self._scores(labels, y_pred))))
        self.count.add(ops.sum(weights))

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.total.value(), self.count.value())


def as_array(values: Any) -> Any:
    """Turn lists and numbers into NumPy arrays; arrays, tensors and None stay as they are.

    Args:
        values: anything array-like, a tensor, or None.

    Returns:
        An array, a tensor, or None.
    """
    return values if values is None or hasattr(values, "shape") else np.asarray(values)


def blocks(rows: int | None) -> list[slice]:
    """Split rows into blocks of at most `ROWS`.

    Args:
        rows: int, or None where the number is not known.

    Returns:
        A list of slices that cover all rows; a single one if the number is not known.
    """
    if rows is None:
        return [slice(None)]
    return [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]


def share(sample_weight: Any, rows: slice) -> Any:
    """Return the weights of a slice of the batch; a single weight belongs to all rows.

    Args:
        sample_weight: tensor (B,), (B, 1) or (), or None.
        rows: slice of the batch.

    Returns:
        A tensor, or None.
    """
    if sample_weight is None or not len(sample_weight.shape) or sample_weight.shape[0] == 1:
        return sample_weight
    return sample_weight[rows]
