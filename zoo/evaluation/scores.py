"""Numbers of a report, from a `Prediction` and labels: each is one of `zoo.metrics`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from zoo import metrics
from zoo.calibration import fit_temperature
from zoo.pictures import reliability

if TYPE_CHECKING:
    from zoo.uncertainty import Prediction


@dataclasses.dataclass(frozen=True)
class Score:
    """A score of a report.

    Args:
        title: str, its name in tables.
        better: str, "up" or "down"; None if neither is better.
        group: str, the table that it is in.
        metric: class of the metric of the averaged prediction or, in the group "diversity", of members.
    """

    title: str
    better: str | None
    group: str
    metric: type


SCORES = {
    "accuracy": Score("accuracy", "up", "quality", metrics.Accuracy),
    "nll": Score("NLL", "down", "quality", metrics.NegativeLogLikelihood),
    "brier": Score("Brier", "down", "quality", metrics.BrierScore),
    "ece": Score("ECE", "down", "calibration", metrics.ExpectedCalibrationError),
    "adaptive_ece": Score("adaptive ECE", "down", "calibration", metrics.AdaptiveCalibrationError),
    "classwise_ece": Score("class-wise ECE", "down", "calibration", metrics.ClasswiseCalibrationError),
    "mce": Score("MCE", "down", "calibration", metrics.MaximumCalibrationError),
    "brier_reliability": Score("Brier reliability", "down", "calibration", metrics.BrierReliability),
    "brier_resolution": Score("Brier resolution", "up", "calibration", metrics.BrierResolution),
    "aurc": Score("AURC", "down", "selective", metrics.AreaUnderRiskCoverage),
    "excess_aurc": Score("excess AURC", "down", "selective", metrics.ExcessAreaUnderRiskCoverage),
    "coverage": Score("coverage at 5 % risk", "up", "selective", metrics.CoverageAtRisk),
    "mutual_information": Score("mutual information", None, "diversity", metrics.MutualInformation),
    "disagreement": Score("disagreement", None, "diversity", metrics.Disagreement),
    "normalized_disagreement": Score(
        "disagreement / error", None, "diversity", metrics.NormalizedDisagreement
    ),
    "pairwise_kl": Score("pairwise KL", None, "diversity", metrics.PairwiseKL),
    "member_cosine": Score("cosine", None, "diversity", metrics.MemberCosine),
    "jensen_gap": Score("Gibbs - ensemble NLL", None, "diversity", metrics.JensenGap),
}


def measure(metric: Any, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Measure one metric.

    Args:
        metric: class of a `zoo.metrics` metric.
        labels: int array (N,).
        probabilities: float array (N, K), or (N, M, K) for metrics of members.

    Returns:
        A float.
    """
    metric = metric(from_logits=False) if metric is not metrics.Accuracy else metric()
    step = max(1, 2_000_000 // probabilities[0].size)
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        metric.update_state(labels[rows], probabilities[rows].astype("float32"))
    return float(metric.result())


def scores(prediction: Prediction, labels: np.ndarray) -> dict[str, float | None]:
    """Measure all scores of `SCORES`.

    Args:
        prediction: a `Prediction` of N images.
        labels: int array (N,).

    Returns:
        {score: value}; those of diversity are None for one member.
    """
    results = {}
    for key, score in SCORES.items():
        members = score.group == "diversity"
        alone = members and prediction.members.shape[1] < 2
        given = prediction.members if members else prediction.probabilities
        results[key] = None if alone else measure(score.metric, labels, given)
    return results


def quick_scores(prediction: Prediction, labels: np.ndarray) -> dict[str, float]:
    """Measure accuracy, NLL and ECE, for the many sets of corrupted images.

    Args:
        prediction: a `Prediction` of N images.
        labels: int array (N,).

    Returns:
        {"accuracy", "nll", "ece"}.
    """
    keys = ("accuracy", "nll", "ece")
    return {key: measure(SCORES[key].metric, labels, prediction.probabilities) for key in keys}


def calibrated_scores(
    prediction: Prediction, labels: np.ndarray, folds: int = 5
) -> dict[str, float | None]:
    """Measure NLL and ECE after temperature scaling of the averaged prediction, cross-fitted.

    The temperature minimises NLL on all folds but one and is measured on that one, in turn, so that no
    image is measured with a temperature that was fitted to it.

    Args:
        prediction: a `Prediction` of N images.
        labels: int array (N,).
        folds: int >= 2. Default: 5.

    Returns:
        {"temperature": mean over folds, "nll", "ece"}; None each for fewer images than folds.
    """
    if len(labels) < folds:
        return {"temperature": None, "nll": None, "ece": None}
    log_p = np.log(np.maximum(prediction.probabilities, 1e-38))
    targets = np.eye(log_p.shape[1])[labels]
    fold = np.random.default_rng(0).permutation(len(labels)) % folds
    scaled, temperatures = np.empty_like(log_p), []
    for k in range(folds):
        temperatures.append(fit_temperature(log_p[fold != k, None], targets[fold != k]))
        scaled[fold == k] = log_softmax(log_p[fold == k] / temperatures[-1], axis=-1)
    result = {key: measure(SCORES[key].metric, labels, np.exp(scaled)) for key in ("nll", "ece")}
    return {"temperature": float(np.mean(temperatures)), **result}


def curves(prediction: Prediction, labels: np.ndarray) -> dict[str, list]:
    """Compute the points that charts draw.

    Args:
        prediction: a `Prediction` of N images.
        labels: int array (N,).

    Returns:
        {"reliability": (confidence, accuracy) of the filled bins of equal width,
        "reliability_counts": images in each bin, filled or not,
        "risk_coverage": (coverage, risk) at 100 coverages,
        "disagreement": (M, M) shares of images on which two members choose different classes}.
    """
    confidence, right = prediction.confidence, prediction.labels == labels
    risk = np.cumsum(~right[np.argsort(-confidence, kind="stable")]) / np.arange(1, len(labels) + 1)
    places = np.unique(np.ceil(np.linspace(0.01, 1, 100) * len(labels)).astype(int)) - 1
    choices = prediction.members.argmax(axis=-1)
    disagreement = (choices[:, :, None] != choices[:, None, :]).mean(axis=0)
    *means, counts = reliability(prediction.probabilities, labels)
    return {
        "reliability": [values.tolist() for values in means],
        "reliability_counts": counts.tolist(),
        "risk_coverage": [((places + 1) / len(labels)).tolist(), risk[places].tolist()],
        "disagreement": disagreement.tolist(),
    }
