"""Out-of-distribution detection from a score: out of distribution is the positive class."""

import keras
import numpy as np

from zoo.metrics.collected import CollectedMetric


class _DetectionMetric(CollectedMetric):
    """A collected metric of scores (B,), higher for images out of distribution, and labels 0 or 1."""

    rank = 1

    def __init__(self, name=None, **kwargs):
        super().__init__(name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Take in a batch.

        Args:
            y_true: (B,) or (B, 1): 1 for images out of distribution, 0 for others.
            y_pred: scores (B,) or (B, 1), higher for images taken to be out of distribution.
            sample_weight: (B,), a number, or None.
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
    """Area under the ROC curve: how often an image out of distribution has the higher score, ties half.

    NaN while only one of the two classes has been seen.  Computed by scikit-learn from all scores.

    Raises:
        ValueError: in `update_state` for labels other than 0 and 1, scores that are not finite, no
            scores, lengths that differ, negative weights; and in compiled code: every score is kept.
    """

    def __init__(self, name="ood_auroc", **kwargs):
        super().__init__(name, **kwargs)
        self._direction = "up"

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import roc_auc_score

        return roc_auc_score(positive, scores, sample_weight=weights)


@keras.saving.register_keras_serializable(package="zoo")
class OODAUPR(_DetectionMetric):
    """Average precision, sum_t (recall_t - recall_{t-1}) precision_t: area under the precision-recall curve.

    Without interpolation, which is too optimistic (Davis and Goadrich, 2006).  It depends on the share of
    images out of distribution.  NaN while only one class has been seen; errors are `OODAUROC`'s.
    """

    def __init__(self, name="ood_aupr", **kwargs):
        super().__init__(name, **kwargs)
        self._direction = "up"

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import average_precision_score

        return average_precision_score(positive, scores, sample_weight=weights)


@keras.saving.register_keras_serializable(package="zoo")
class OODFPR95(_DetectionMetric):
    """Share of images in distribution that are flagged by a threshold which flags 95 % of the others.

    The highest threshold with a true positive rate of at least `recall`; images are flagged from it on.

    Args:
        recall: in (0, 1].

    Raises:
        ValueError: for another recall; and as `OODAUROC`.  NaN while only one class has been seen.
    """

    def __init__(self, recall=0.95, name="ood_fpr95", **kwargs):
        super().__init__(name, **kwargs)
        if not 0 < recall <= 1:
            raise ValueError(f"recall must be in (0, 1], as 0.95 for 95 %; got {recall!r}")
        self.recall = recall

    def _of_both(self, scores, positive, weights):
        from sklearn.metrics import roc_curve

        false, true, _ = roc_curve(positive, scores, sample_weight=weights, drop_intermediate=False)
        return false[np.argmax(true >= self.recall)]

    def get_config(self):
        return {**super().get_config(), "recall": self.recall}
