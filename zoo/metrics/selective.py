"""Selective prediction: how well confidence tells which answers to refuse; and adaptive calibration."""

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from zoo.metrics.calibration import check_bins
from zoo.metrics.collected import ConfidenceMetric


def risk_coverage(
    confidence: ArrayLike, right: ArrayLike, weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coverage and selective risk at every threshold, answering where confidence >= threshold.

    Images of equal confidence are answered or refused together, so that their order does not matter.

    Args:
        confidence: float array (N,).
        right: bool array (N,), whether the answer is right.
        weights: float array (N,). Default: None, all 1.

    Returns:
        Three arrays with a value for each distinct confidence: thresholds, falling; coverage, the share
        of images answered; and risk, the share of those that are wrong.

    Example:
        >>> from zoo.metrics.selective import risk_coverage
        >>> thresholds, coverage, risk = risk_coverage([0.9, 0.8], [True, False])
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.5])
    """
    confidence = np.asarray(confidence)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, "float64")
    thresholds, group = np.unique(-confidence, return_inverse=True)
    answered = np.cumsum(np.bincount(group, weights))
    wrong = np.cumsum(np.bincount(group, weights * ~np.asarray(right, bool)))
    return -thresholds, answered / answered[-1], wrong / answered


def _aurc(confidence, right, weights):
    _, coverage, risk = risk_coverage(confidence, right, weights)
    return np.sum(np.diff(coverage, prepend=0.0) * risk)


def _best_aurc(right, weights):
    """AURC of N = R + W answers of which the W wrong ones are the least confident.

    (1 / N) sum_{j=1}^W j / (R + j), by the digamma function: also for weights that are not integers.
    """
    from scipy.special import digamma

    total, rights = weights.sum(), weights[right].sum()
    return (total - rights - rights * (digamma(total + 1) - digamma(rights + 1))) / total


@keras.saving.register_keras_serializable(package="zoo")
class AreaUnderRiskCoverage(ConfidenceMetric):
    """AURC: mean over images i of the share of wrong answers among those at least as confident as i.

    Confidence is the probability of the most probable class; images of equal confidence are answered
    together. Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019, arXiv
    1805.08206.

    Args:
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "aurc".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: in `update_state`, see `ProbabilityMetric`; and in compiled code: every score is
            kept.

    Example:
        >>> metric = zoo.metrics.AreaUnderRiskCoverage(from_logits=False)
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.6, 0.4]])  # the less confident answer is wrong
        >>> float(metric.result())
        0.25
    """

    def __init__(self, from_logits: bool = True, name: str = "aurc", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _measure(self, confidence, right, weights):
        return _aurc(confidence, right, weights)


@keras.saving.register_keras_serializable(package="zoo")
class ExcessAreaUnderRiskCoverage(ConfidenceMetric):
    """E-AURC: AURC less that of the best order of the same answers, right ones before wrong ones.

    The best order's is (1 / N) sum_{j=1}^W j / (N - W + j) for W wrong among N answers. Weights count as
    repetitions. Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019, arXiv
    1805.08206.

    Args:
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "excess_aurc".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: see `AreaUnderRiskCoverage`.

    Example:
        >>> metric = zoo.metrics.ExcessAreaUnderRiskCoverage(from_logits=False)
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.6, 0.4]])  # the order is the best one
        >>> round(float(metric.result()), 6)
        0.0
    """

    def __init__(self, from_logits: bool = True, name: str = "excess_aurc", **kwargs: Any):
        super().__init__(from_logits, name, **kwargs)

    def _measure(self, confidence, right, weights):
        return _aurc(confidence, right, weights) - _best_aurc(right, weights)


@keras.saving.register_keras_serializable(package="zoo")
class CoverageAtRisk(ConfidenceMetric):
    """The largest share of images that can be answered with at most `risk` of the answers wrong.

    Over thresholds of the confidence, as in `AreaUnderRiskCoverage`; 0 where even the most confident
    answers are wrong more often. Geifman and El-Yaniv, Selective Classification for Deep Neural
    Networks, NeurIPS 2017, arXiv 1705.08500.

    Args:
        risk: float in [0, 1]. Default: 0.05, the field's "coverage at 5 % risk".
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "coverage_at_risk".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for a risk outside [0, 1]; else see `AreaUnderRiskCoverage`.

    Example:
        >>> metric = zoo.metrics.CoverageAtRisk(risk=0.05, from_logits=False)
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.6, 0.4]])
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self, risk: float = 0.05, from_logits: bool = True, name: str = "coverage_at_risk", **kwargs: Any
    ):
        super().__init__(from_logits, name, **kwargs)
        self._direction = "up"
        if not 0 <= risk <= 1:
            raise ValueError(f"risk must be in [0, 1], as 0.05 for 5 %; got {risk!r}")
        self.risk = risk

    def _measure(self, confidence, right, weights):
        _, coverage, risk = risk_coverage(confidence, right, weights)
        return np.max(coverage[risk <= self.risk], initial=0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "risk": self.risk}


@keras.saving.register_keras_serializable(package="zoo")
class AdaptiveCalibrationError(ConfidenceMetric):
    """Top-label ECE over bins of equal mass: sum_b |B_b| / N * |accuracy_b - confidence_b|.

    In the order of confidence, bin b holds what has its middle in [b / n, (b + 1) / n) of the mass;
    images of equal confidence stay together, and bins may be empty. Nguyen and O'Connor, EMNLP 2015,
    arXiv 1508.05154; Nixon et al., 2019, arXiv 1904.01685; of the top label: Mukhoti et al., NeurIPS
    2020, arXiv 2002.09437.

    Args:
        num_bins: int >= 1, n. Default: 15.
        from_logits: bool, whether predictions (B, K) are logits or log-probabilities instead of
            probabilities. Default: True.
        name: str, the Keras name. Default: "adaptive_ece".
        kwargs: arguments of `keras.metrics.Metric`, such as dtype.

    Raises:
        ValueError: for num_bins < 1; else see `AreaUnderRiskCoverage`.

    Example:
        >>> metric = zoo.metrics.AdaptiveCalibrationError(num_bins=2, from_logits=False)
        >>> metric.update_state([0, 1], [[0.75, 0.25], [0.5, 0.5]])
        >>> float(metric.result())
        0.375
    """

    def __init__(
        self, num_bins: int = 15, from_logits: bool = True, name: str = "adaptive_ece", **kwargs: Any
    ):
        super().__init__(from_logits, name, **kwargs)
        check_bins(num_bins)
        self.num_bins = num_bins

    def _measure(self, confidence, right, weights):
        values, group = np.unique(confidence, return_inverse=True)
        masses = np.bincount(group, weights)
        gaps = np.bincount(group, weights * right) - masses * values
        middles = np.cumsum(masses) - masses / 2
        bins = np.floor(middles * self.num_bins / masses.sum()).astype(int)
        return np.abs(np.bincount(bins, gaps)).sum() / masses.sum()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bins": self.num_bins}
