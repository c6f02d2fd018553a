"""Selective prediction, adaptive calibration and detection against definitions, scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as sklearn_metrics

from helpers.predictions import CASES, value
from zoo import metrics


def risks(y, p):
    """Of every image, the share of wrong answers among those at least as confident."""
    confidence, wrong = p.max(1), p.argmax(1) != y
    return np.array([wrong[confidence >= c].mean() for c in confidence])


def best_risks(y, p):
    wrong = np.sort(p.argmax(1) != y)
    return np.cumsum(wrong) / np.arange(1, len(y) + 1)


def coverage(y, p, risk):
    confidence, at = p.max(1), risks(y, p)
    return max(((confidence >= c).mean() for c, r in zip(confidence, at) if r <= risk), default=0)


def adaptive_ece(y, p, count=15):
    """Each image in the bin that the middle of all images of its confidence falls into."""
    confidence, right = p.max(1).astype("float64"), p.argmax(1) == y
    below = np.array([(confidence < c).sum() for c in confidence])
    equal = np.array([(confidence == c).sum() for c in confidence])
    index = (2 * below + equal) * count // (2 * len(y))
    gaps = [(right[index == b] - confidence[index == b]).sum() for b in range(count)]
    return np.abs(gaps).sum() / len(y)


SELECTIVE = {
    "aurc": (metrics.AreaUnderRiskCoverage, lambda y, p: risks(y, p).mean()),
    "excess": (
        metrics.ExcessAreaUnderRiskCoverage,
        lambda y, p: risks(y, p).mean() - best_risks(y, p).mean(),
    ),
    "coverage": (metrics.CoverageAtRisk, lambda y, p: coverage(y, p, 0.05)),
    "adaptive": (metrics.AdaptiveCalibrationError, adaptive_ece),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SELECTIVE)
def test_metrics_are_their_definitions(name, case):
    y, p = CASES[case]
    metric, reference = SELECTIVE[name]
    assert value(metric(from_logits=False), y, p) == pytest.approx(reference(y, p), abs=1e-6)


@pytest.mark.parametrize("risk", [0.0, 0.2, 0.5, 1.0])
def test_coverage_at_other_risks(risk):
    for y, p in CASES.values():
        given = value(metrics.CoverageAtRisk(risk, from_logits=False), y, p)
        assert given == pytest.approx(coverage(y, p, risk), abs=1e-6)
    assert risk < 1 or given == 1


def test_adaptive_bins_are_equal_parts_of_the_sorted_images():
    """Without ties, and where bins divide the images, as everybody cuts them."""
    y, p = CASES["many"]
    order = np.argsort(p.max(1))
    right, confidence = (p.argmax(1) == y)[order], p.max(1)[order].astype("float64")
    gaps = right.reshape(15, -1).mean(1) - confidence.reshape(15, -1).mean(1)
    assert len(np.unique(confidence)) == len(y)
    given = value(metrics.AdaptiveCalibrationError(from_logits=False), y, p)
    assert given == pytest.approx(np.abs(gaps).mean(), abs=1e-6)


def test_a_perfect_order_has_no_excess():
    confidence = np.linspace(0.99, 0.51, 25, dtype="float32")
    p = np.stack([confidence, 1 - confidence], 1)
    y = (np.arange(25) >= 18).astype(int)
    assert value(metrics.ExcessAreaUnderRiskCoverage(from_logits=False), y, p) == pytest.approx(
        0, abs=1e-7
    )


SCORES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([-3.5, 0.0, 1e-3, 1.0, 7.25]), st.integers(1, 3)),
    min_size=2,
    max_size=30,
)


@settings(deadline=None, max_examples=60, derandomize=True)
@pytest.mark.slow
@given(SCORES)
def test_detection_with_ties(images):
    y, scores, weights = (np.array(column) for column in zip(*images))
    repeated = np.repeat(y, weights), np.repeat(scores, weights)
    positive, negative = (repeated[1][repeated[0] == side] for side in (True, False))
    given = [
        value(kind(), y.astype(int), scores, sample_weight=weights)
        for kind in (metrics.OODAUROC, metrics.OODAUPR, metrics.OODFPR95)
    ]
    if y.all() or not y.any():
        assert all(math.isnan(number) for number in given)
        return
    pairs = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    flags = [t for t in np.unique(scores) if 20 * (positive >= t).sum() >= 19 * len(positive)]
    ordered = np.unique(scores)[::-1]
    recall = np.array([(positive >= t).mean() for t in ordered])
    precision = np.array([repeated[0][repeated[1] >= t].mean() for t in ordered])
    expected = pairs, np.sum(np.diff(recall, prepend=0) * precision), (negative >= max(flags)).mean()
    assert given == pytest.approx(expected, abs=1e-6)


def test_detection_over_batches_is_scikit_learns():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 2000)
    scores = (rng.normal(size=2000) + y).astype("float32")
    auroc, aupr, fpr = metrics.OODAUROC(), metrics.OODAUPR(), metrics.OODFPR95(recall=0.8)
    for start in range(0, 2000, 300):
        rows = slice(start, start + 300)
        for metric in (auroc, aupr, fpr):
            metric.update_state(y[rows, None], scores[rows, None])
    assert float(auroc.result()) == pytest.approx(sklearn_metrics.roc_auc_score(y, scores), abs=1e-6)
    assert float(aupr.result()) == pytest.approx(
        sklearn_metrics.average_precision_score(y, scores), abs=1e-6
    )
    threshold = np.sort(scores[y == 1])[::-1][math.ceil(0.8 * y.sum()) - 1]
    assert float(fpr.result()) == pytest.approx((scores[y == 0] >= threshold).mean(), abs=1e-6)


def test_one_image_and_none():
    for kind in (metrics.OODAUROC, metrics.OODAUPR, metrics.OODFPR95):
        assert math.isnan(kind().result())
        assert math.isnan(value(kind(), [1], [0.5]))
    aurc = metrics.AreaUnderRiskCoverage()
    assert math.isnan(aurc.result())
    assert value(aurc, [1], [[2.0, 1.0]]) == 1
    aurc.reset_state()
    assert value(aurc, [0], [[2.0, 1.0]]) == 0
