"""Selective prediction: what confidence is worth for refusing to answer; and adaptive calibration."""

import keras
import numpy as np

from zoo.metrics.calibration import check_bins
from zoo.metrics.collected import ConfidenceMetric


def risk_coverage(confidence, right, weights=None):
    """Coverage and selective risk at every threshold: answering where confidence >= threshold.

    Images of one confidence are answered or refused together, so that their order does not matter.

    Args:
        confidence: (N,).
        right: (N,), whether the answer is right.
        weights: (N,), or None.

    Returns:
        thresholds, falling; coverage, the share of images answered at each; and risk, the share of
        those that is wrong.  Arrays of as many values as there are confidences.
    """
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, "float64")
    thresholds, group = np.unique(-np.asarray(confidence), return_inverse=True)
    answered = np.cumsum(np.bincount(group, weights))
    wrong = np.cumsum(np.bincount(group, weights * ~np.asarray(right, bool)))
    return -thresholds, answered / answered[-1], wrong / answered


def _aurc(confidence, right, weights):
    _, coverage, risk = risk_coverage(confidence, right, weights)
    return np.sum(np.diff(coverage, prepend=0.0) * risk)


def _best_aurc(right, weights):
    """AURC of N = R + W answers of which the W wrong ones are the least confident.

    (1 / N) sum_{j=1}^W j / (R + j), by the digamma function: for weights that are no integers too.
    """
    from scipy.special import digamma

    total, rights = weights.sum(), weights[right].sum()
    return (total - rights - rights * (digamma(total + 1) - digamma(rights + 1))) / total


@keras.saving.register_keras_serializable(package="zoo")
class AreaUnderRiskCoverage(ConfidenceMetric):
    """AURC: mean over images i of the share of wrong answers among those at least as confident as i.

    Confidence is the probability of the most probable class; images of one confidence are answered
    together.  Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019, arXiv 1805.08206.

    Args:
        from_logits: whether predictions (B, K) are logits or log-probabilities, not probabilities.

    Raises:
        ValueError: in `update_state` as every metric does, and in compiled code: every score is kept.
    """

    def __init__(self, from_logits=True, name="aurc", **kwargs):
        super().__init__(from_logits, name, **kwargs)

    def _measure(self, confidence, right, weights):
        return _aurc(confidence, right, weights)


@keras.saving.register_keras_serializable(package="zoo")
class ExcessAreaUnderRiskCoverage(ConfidenceMetric):
    """E-AURC: AURC less that of the best order of the same answers, all right ones before all wrong ones.

    That of W wrong among N answers is (1 / N) sum_{j=1}^W j / (N - W + j).  Geifman, Uziel and El-Yaniv,
    ICLR 2019, arXiv 1805.08206.  Arguments and errors are `AreaUnderRiskCoverage`'s.  Weights count as
    repetitions.
    """

    def __init__(self, from_logits=True, name="excess_aurc", **kwargs):
        super().__init__(from_logits, name, **kwargs)

    def _measure(self, confidence, right, weights):
        return _aurc(confidence, right, weights) - _best_aurc(right, weights)


@keras.saving.register_keras_serializable(package="zoo")
class CoverageAtRisk(ConfidenceMetric):
    """The largest share of images that can be answered with at most `risk` of the answers wrong.

    Over thresholds of the confidence, as in `AreaUnderRiskCoverage`; 0 where even the most confident
    answers are wrong more often.  Geifman and El-Yaniv, Selective Classification for Deep Neural Networks,
    NeurIPS 2017, arXiv 1705.08500.

    Args:
        risk: in [0, 1]; 0.05 is the field's "coverage at 5 % risk".
        from_logits: whether predictions (B, K) are logits or log-probabilities, not probabilities.

    Raises:
        ValueError: for a risk outside [0, 1]; in `update_state` as every metric does, and in compiled
            code: every score is kept.
    """

    def __init__(self, risk=0.05, from_logits=True, name="coverage_at_risk", **kwargs):
        super().__init__(from_logits, name, **kwargs)
        self._direction = "up"
        if not 0 <= risk <= 1:
            raise ValueError(f"risk must be in [0, 1], as 0.05 for 5 %; got {risk!r}")
        self.risk = risk

    def _measure(self, confidence, right, weights):
        _, coverage, risk = risk_coverage(confidence, right, weights)
        return np.max(coverage[risk <= self.risk], initial=0.0)

    def get_config(self):
        return {**super().get_config(), "risk": self.risk}


@keras.saving.register_keras_serializable(package="zoo")
class AdaptiveCalibrationError(ConfidenceMetric):
    """Top-label ECE over bins of equal mass: sum_b |B_b| / N * |accuracy_b - confidence_b|.

    In the order of confidence, bin b holds what has its middle in [b / n, (b + 1) / n) of the mass; images of
    one confidence stay together, and bins may be empty.  Nguyen and O'Connor, EMNLP 2015, arXiv 1508.05154;
    Nixon et al., 2019, arXiv 1904.01685; as used of the top label by Mukhoti et al., NeurIPS 2020, arXiv
    2002.09437.

    Args:
        num_bins: n.
        from_logits: whether predictions (B, K) are logits or log-probabilities, not probabilities.

    Raises:
        ValueError: for num_bins < 1; in `update_state` as every metric does, and in compiled code: every
            score is kept.
    """

    def __init__(self, num_bins=15, from_logits=True, name="adaptive_ece", **kwargs):
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

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}
