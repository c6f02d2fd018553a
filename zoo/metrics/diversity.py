"""Diversity of members in function space, from their predictions (B, M, K)."""

import math
from typing import Any

import keras
from keras import ops

from zoo.array_types import Tensor
from zoo.metrics.base import CompensatedSum, MeanMetric, ProbabilityMetric, weighted


class _MemberMetric(MeanMetric):
    """The mean over images of a number computed from members' predictions (B, M, K), without labels."""

    rank = 3
    takes_labels = False

    def __init__(self, from_logits=True, name=None, **kwargs):
        super().__init__(from_logits, name, **kwargs)
        self._direction = None  # more of it is neither better nor worse


def log_of_mean(log_p: Tensor) -> Tensor:
    """Return log mean_m p_m of members' log-probabilities, also where all are -inf.

    Args:
        log_p: tensor (B, M, ...).

    Returns:
        A tensor (B, ...).
    """
    highest = ops.max(log_p, axis=1, keepdims=True)
    highest = ops.where(highest > -math.inf, highest, 0.0)
    mean = ops.mean(ops.exp(log_p - highest), axis=1)
    return ops.log(mean) + ops.squeeze(highest, axis=1)


def disagreement(y_pred: Tensor) -> Tensor:
    """Return the share of pairs of members that choose different classes, 0 for one member.

    Args:
        y_pred: tensor (B, M, K), logits or probabilities.

    Returns:
        A tensor (B,).
    """
    members, classes = y_pred.shape[1:]
    if members == 1:
        return ops.zeros_like(y_pred[:, 0, 0])
    choices = ops.one_hot(ops.argmax(y_pred, axis=-1), classes, dtype="float32")
    votes = ops.sum(choices, axis=1)
    agreeing = ops.sum(votes * (votes - 1), axis=-1)
    return 1 - agreeing / (members * (members - 1))


@keras.saving.register_keras_serializable(package="zoo")
class MutualInformation(_MemberMetric):
    """Mutual information: entropy of the mean less mean entropy of the members, in nats.

    The same as mean_m KL(p_m || mean p): what members disagree about, the epistemic part of the
    uncertainty (Depeweg et al., ICML 2018, arXiv 1710.07283). 0 for one member.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "mutual_information".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.MutualInformation(from_logits=False)
        >>> metric.update_state(None, [[[1.0, 0.0], [0.0, 1.0]]])  # one image, two certain members
        >>> round(float(metric.result()), 3)
        0.693
    """

    def __init__(self, from_logits: bool = True, name: str = "mutual_information", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        p, log_p = self._probabilities(y_pred), self._log_probabilities(y_pred)
        mean = ops.expand_dims(
            log_of_mean(log_p), axis=1
        )  # the mean of p may be too small for a float32
        terms = ops.where(p > 0, p * (log_p - mean), 0.0)
        return ops.maximum(ops.mean(ops.sum(terms, axis=-1), axis=1), 0.0)


@keras.saving.register_keras_serializable(package="zoo")
class Disagreement(_MemberMetric):
    """Disagreement: the share of pairs of members that choose different classes, 0 for one member.

    Fort, Hu and Lakshminarayanan, Deep Ensembles: A Loss Landscape Perspective, 2019, arXiv 1912.02757.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "disagreement".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.Disagreement(from_logits=False)
        >>> metric.update_state(None, [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4]]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, from_logits: bool = True, name: str = "disagreement", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        return disagreement(y_pred)


@keras.saving.register_keras_serializable(package="zoo")
class NormalizedDisagreement(ProbabilityMetric):
    """Disagreement divided by the error of the averaged prediction, over all images.

    A worse ensemble disagrees more without being more diverse, which the division takes out (Fort et
    al., 2019, arXiv 1912.02757, divide by the error of a member; uncertainty-baselines and this class by
    the ensemble's). Infinite where members disagree and the average is never wrong; NaN where neither.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "normalized_disagreement".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.NormalizedDisagreement(from_logits=False)
        >>> metric.update_state([0, 1], [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4]]])
        >>> float(metric.result())  # 1 of 2 images disputed, 1 of 2 wrong
        1.0
    """

    rank = 3

    def __init__(self, from_logits: bool = True, name: str = "normalized_disagreement", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)
        self._direction = None
        self.disagreements = CompensatedSum(self, "disagreements")
        self.errors = CompensatedSum(self, "errors")

    def _add(self, labels, y_pred, weights):
        answer = ops.argmax(ops.mean(self._probabilities(y_pred), axis=1), axis=-1)
        wrong = ops.cast(answer != ops.argmax(labels, axis=-1), "float32")
        self.disagreements.add(ops.sum(weighted(weights, disagreement(y_pred))))
        self.errors.add(ops.sum(weighted(weights, wrong)))

    def result(self) -> Tensor:
        return self.disagreements.value() / self.errors.value()


@keras.saving.register_keras_serializable(package="zoo")
class PairwiseKL(_MemberMetric):
    """Mean of KL(p_i || p_j) over ordered pairs of members i != j, so both ways; in nats.

    Infinite where one member excludes what another holds possible; 0 for one member.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "pairwise_kl".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.PairwiseKL(from_logits=False)
        >>> metric.update_state(None, [[[0.75, 0.25], [0.25, 0.75]]])
        >>> round(float(metric.result()), 3)  # 0.5 * log 3
        0.549
    """

    def __init__(self, from_logits: bool = True, name: str = "pairwise_kl", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        members = y_pred.shape[1]
        p, log_p = self._probabilities(y_pred), self._log_probabilities(y_pred)
        others = ops.mean(log_p, axis=1, keepdims=True)
        terms = ops.where(p > 0, p * (log_p - others), 0.0)  # sum_j log p_i - log p_j is M times this
        pairs = ops.sum(terms, axis=(1, 2)) / max(members - 1, 1)
        return ops.maximum(pairs, 0.0)


@keras.saving.register_keras_serializable(package="zoo")
class MemberCosine(_MemberMetric):
    """Mean cosine of two members' probability vectors over pairs.

    1 where all members are equal, and for one member.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "member_cosine".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.MemberCosine(from_logits=False)
        >>> metric.update_state(None, [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
        >>> round(float(metric.result()), 3)
        0.5
    """

    def __init__(self, from_logits: bool = True, name: str = "member_cosine", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        members = y_pred.shape[1]
        if members == 1:
            return ops.ones_like(y_pred[:, 0, 0])
        p = self._probabilities(y_pred)
        unit = p / ops.sqrt(ops.sum(ops.square(p), axis=-1, keepdims=True))
        # |sum_m u_m|^2 is the sum over all ordered pairs, of which M are a member with itself.
        both = ops.sum(ops.square(ops.sum(unit, axis=1)), axis=-1)
        return (both - members) / (members * (members - 1))


@keras.saving.register_keras_serializable(package="zoo")
class JensenGap(_MemberMetric):
    """Jensen gap: mean of the members' NLLs less the NLL of their average, in nats, >= 0.

    That is mean_m -log p_m(label) + log mean_m p_m(label): what averaging gains over a member drawn at
    random (Jensen's inequality), the diversity that shows in likelihood (Abe et al., NeurIPS 2022, arXiv
    2202.06985). Infinite where some but not all members exclude the label.

    Args:
        from_logits: bool, whether predictions (B, M, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "jensen_gap".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`.

    Example:
        >>> metric = zoo.metrics.JensenGap(from_logits=False)
        >>> metric.update_state([0], [[[0.8, 0.2], [0.2, 0.8]]])
        >>> round(float(metric.result()), 3)  # log(0.5 / 0.4)
        0.223
    """

    takes_labels = True

    def __init__(self, from_logits: bool = True, name: str = "jensen_gap", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _scores(self, labels, y_pred):
        log_p = self._log_probabilities(y_pred)
        mean = log_of_mean(log_p)
        gap = ops.where(mean > -math.inf, mean - ops.mean(log_p, axis=1), 0.0)
        return ops.maximum(ops.sum(ops.where(labels > 0, labels * gap, 0.0), axis=-1), 0.0)
