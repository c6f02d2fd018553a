"""Out-of-distribution detection from a score: out of distribution is the positive class."""

from typing import Any

import keras
import numpy as np

from zoo.metrics.collected import CollectedMetric


class _DetectionMetric(CollectedMetric):
    """A collected metric of scores (B,), higher for images out of distribution, and labels 0 or 1."""

    rank = 1

    def __init__(self, name=None, **kwargs):
        super().__init__(name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: int array (B,) or (B, 1): 1 for out-of-distribution (OOD) images, 0 for others.
            y_pred: float array (B,) or (B, 1), scores, higher for images taken to be OOD.
            sample_weight: weights >= 0, (B,) or a number. Default: None, all 1.

        Raises:
            ValueError: see the class.
        """
        if len(getattr(y_pred, "shape", ())) == 2 and y_pred.shape[1] == 1:
            y_pred = y_pred[:, 0]
        super().update_state(y_true, y_pred, sample_weight)

    def _columns(self, y_true, y_pred, weights):
        labels = y_true.reshape(-1)
        if len(labels) != len(y_pred):
            raise ValueError(
                f"labels must be 0 or 1 for each of {len(y_pred)} scores; got {y_true.shape}"
            )
        counted = slice(None) if weights is None else weights > 0
        wrong = ~np.isin(labels[counted], (0, 1))
        if wrong.any():
            raise ValueError(
                "labels must be 1 (out of distribution) or 0 (in distribution); got "
                f"{labels[counted][wrong][0]}"
            )
        bad = ~np.isfinite(y_pred[counted])
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(bad)} scores are NaN or infinite (first: row {bad.argmax()}); look for "
                "NaN in the images or the weights"
            )
        return y_pred, labels == 1

    def _measure(self, scores, positive, weights):
        if positive.all() or not positive.any():
            return np.nan
        return self._of_both(scores, positive, weights)


@keras.saving.register_keras_serializable(package="zoo")
class OODAUROC(_DetectionMetric):
    """Area under the ROC curve of out-of-distribution (OOD) detection from a score.

    How often an OOD image has the higher score, ties counting half. NaN until both classes have been
    seen. Computed by scikit-learn from all scores.

    Args:
        name: str, the Keras name. Default: "ood_auroc".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state` for labels other than 0 and 1, scores that are not finite, no
            scores, lengths that differ, negative weights; and in compiled code: every score is kept.

    Example:
        >>> metric = zoo.metrics.OODAUROC()
        >>> metric.update_state(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9]))
        >>> float(metric.result())
        0.75
    """

    def __init__(self, name: str = "ood_auroc", **kwargs: Any):
        super().__init__(name, **kwargs)
        self._direction = "up"

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import roc_auc_score

        return roc_auc_score(positive, scores, sample_weight=weights)


@keras.saving.register_keras_serializable(package="zoo")
class OODAUPR(_DetectionMetric):
    """Average precision of OOD detection, sum_t (recall_t - recall_{t-1}) precision_t.

    The area under the precision-recall curve without interpolation, which is too optimistic (Davis and
    Goadrich, The Relationship Between Precision-Recall and ROC Curves, ICML 2006). It depends on the
    share of OOD images. NaN until both classes have been seen.

    Args:
        name: str, the Keras name. Default: "ood_aupr".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: see `OODAUROC`.

    Example:
        >>> metric = zoo.metrics.OODAUPR()
        >>> metric.update_state(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.5, 0.9]))
        >>> float(metric.result())
        1.0
    """

    def __init__(self, name: str = "ood_aupr", **kwargs: Any):
        super().__init__(name, **kwargs)
        self._direction = "up"

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import average_precision_score

        return average_precision_score(positive, scores, sample_weight=weights)


@keras.saving.register_keras_serializable(package="zoo")
class OODFPR95(_DetectionMetric):
    """False positive rate of OOD detection at 95 % recall.

    The share of in-distribution images flagged at the highest threshold whose true positive rate is at
    least `recall`; images at or above the threshold are flagged. NaN until both classes have been seen.

    Args:
        recall: float in (0, 1]. Default: 0.95.
        name: str, the Keras name. Default: "ood_fpr95".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for a recall out of range; else see `OODAUROC`.

    Example:
        >>> metric = zoo.metrics.OODFPR95()
        >>> metric.update_state(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9]))
        >>> float(metric.result())
        0.5
    """

    def __init__(self, recall: float = 0.95, name: str = "ood_fpr95", **kwargs: Any):
        super().__init__(name, **kwargs)
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be in (0, 1], as 0.95 for 95 %; got {recall!r}")
        self.recall = recall

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import roc_curve

        false, true, _ = roc_curve(positive, scores, sample_weight=weights, drop_intermediate=False)
        return false[np.argmax(true >= self.recall)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "recall": self.recall}
