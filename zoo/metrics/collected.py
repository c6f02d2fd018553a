"""Metrics that need every score at the end: kept on the host, compactly, and computed exactly."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.array_types import Tensor
from zoo.metrics.base import as_array
from zoo.metrics.checks import (
    check_integers,
    check_predictions,
    check_shapes,
    check_weights,
    concrete,
)


class CollectedMetric(keras.metrics.Metric):
    """Base of metrics that keep a score, a bit and a weight per image: 5 bytes, or 9 with weights.

    Thresholds fixed beforehand would need no memory, but are wrong where scores are close or tied.
    A Keras variable cannot grow, so the columns are NumPy arrays, and such a metric does not run in
    compiled code: update it with predictions, not in `fit` or `evaluate`.

    A subclass implements `_columns(y_true, y_pred, weights)`, the scores and bits of a batch, and
    `_measure(scores, bits, weights)`, of all that has been seen (in float64, weights > 0).

    Before the first batch, and where it is not defined, such a metric is NaN.

    Args:
        name: str, the Keras name. Default: None.
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.
    """

    rank = 2

    def __init__(self, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._direction = "down"
        self._seen = _Columns()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: labels, integer (B,) or (B, 1), or one-hot or soft (B, K).
            y_pred: predictions (B, K), or scores (B,).
            sample_weight: weights >= 0, (B,), (B, 1) or a number. Default: None, all 1.

        Raises:
            ValueError: see `ProbabilityMetric`; also in compiled code, where tensors have no values.
        """
        given = [as_array(values) for values in (y_true, y_pred, sample_weight)]
        values = [concrete(v) for v in given]
        if any(v is None and g is not None for v, g in zip(values, given)):
            raise ValueError(
                f"{type(self).__name__} keeps every score and cannot run inside compiled code such as fit and "
                "evaluate; predict first, then call update_state with labels and predictions"
            )
        y_true, y_pred, sample_weight = values
        check_shapes(y_true, y_pred, sample_weight, self.rank)
        weights = check_weights(sample_weight)
        if weights is not None:
            weights = np.broadcast_to(weights, len(y_pred))
        scores, bits = self._columns(y_true, y_pred, weights)
        self._seen.append(scores, bits, weights)

    def result(self) -> Tensor:
        scores, bits, weights = self._seen.joined()
        value = self._measure(scores, bits, weights) if len(scores) else np.nan
        return ops.convert_to_tensor(value, dtype="float32")

    def reset_state(self) -> None:
        super().reset_state()
        self._seen = _Columns()


class _Columns:
    """Scores float32, bits, and weights float32 or none, in the pieces that they came in."""

    def __init__(self):
        self.pieces = []

    def append(self, scores, bits, weights):
        kept = slice(None) if weights is None else weights > 0
        columns = [np.array(scores[kept], "float32"), np.array(bits[kept], bool)]
        self.pieces.append((*columns, None if weights is None else np.array(weights[kept], "float32")))

    def joined(self):
        """All scores, bits and weights, those in float64."""
        if not self.pieces:
            return np.zeros(0), np.zeros(0, bool), np.zeros(0)
        scores, bits, weights = zip(*self.pieces)
        weights = [np.ones(len(s), "float32") if w is None else w for s, w in zip(scores, weights)]
        scores, weights = (np.concatenate(c).astype("float64") for c in (scores, weights))
        return scores, np.concatenate(bits), weights


class ConfidenceMetric(CollectedMetric):
    """Base of collected metrics of the averaged prediction's confidence, and whether it is right.

    Args:
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: None.
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.
    """

    def __init__(self, from_logits: bool = True, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits

    def _columns(self, y_true, y_pred, weights):
        check_predictions(y_pred, weights, self.from_logits)
        check_integers(y_true, weights, y_pred.shape[-1])
        p = y_pred.astype("float32")
        if self.from_logits:
            p = ops.convert_to_numpy(ops.softmax(p, axis=-1))
        labels = y_true
        if y_true.ndim == 2 and y_true.shape[1] == p.shape[1] > 1:
            labels = y_true.argmax(axis=1)
        return p.max(axis=-1), p.argmax(axis=-1) == labels.reshape(-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}
