"""Metrics of the averaged prediction against scikit-learn and plain NumPy.  Runs on every backend."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from helpers.predictions import CASES, RNG, normalised, value
from zoo import metrics


def one_hot(y, classes):
    return np.eye(classes)[y]


def bins(p, count):
    """As the metrics' contract has it: (0, 1/n], ..., decided in the type of the predictions."""
    return np.clip(np.ceil(p * np.float32(count)).astype(int) - 1, 0, count - 1)


def top_label_gaps(y, p, count):
    """(mass, |accuracy - confidence|) of every bin that is not empty."""
    confidence, right = p.max(1), p.argmax(1) == y
    index = bins(confidence, count)
    for b in np.unique(index):
        inside = index == b
        yield inside.mean(), abs(right[inside].mean() - confidence[inside].astype("float64").mean())


def ece(y, p, count=15):
    return sum(mass * gap for mass, gap in top_label_gaps(y, p, count))


def mce(y, p, count=15):
    return max(gap for _, gap in top_label_gaps(y, p, count))


def classwise_ece(y, p, count=15):
    total = 0
    for k in range(p.shape[1]):
        index = bins(p[:, k], count)
        for b in range(count):
            inside = index == b
            if inside.any():
                total += inside.mean() * abs((y[inside] == k).mean() - p[inside, k].astype(float).mean())
    return total / p.shape[1]


def nll(y, p):
    with np.errstate(divide="ignore"):
        return -np.log(p.astype("float64"))[np.arange(len(y)), y].mean()


def brier(y, p):
    return np.square(p.astype("float64") - one_hot(y, p.shape[1])).sum(1).mean()


def top_k(y, p, k):
    order = np.argsort(-p, axis=1, kind="stable")  # of equals the first one first
    return (order[:, :k] == y[:, None]).any(1).mean()


REFERENCES = {
    "ExpectedCalibrationError": ece,
    "MaximumCalibrationError": mce,
    "ClasswiseCalibrationError": classwise_ece,
    "NegativeLogLikelihood": nll,
    "BrierScore": brier,
    "Accuracy": lambda y, p: top_k(y, p, 1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", REFERENCES)
def test_metrics_are_their_formulas(name, case):
    y, p = CASES[case]
    options = {} if name == "Accuracy" else {"from_logits": False}
    given = value(getattr(metrics, name)(**options), y, p)
    assert given == pytest.approx(REFERENCES[name](y, p), rel=1e-6, abs=1e-6)


@pytest.mark.fast("many", "sure", "sure and wrong", "one sample")
@pytest.mark.parametrize("case", CASES)
def test_logits_give_what_probabilities_give(case):
    y, p = CASES[case]
    with np.errstate(divide="ignore"):
        log_p = np.log(p.astype("float64")).astype("float32")
    if case in ("on the edges", "ties", "uniform"):
        y, p, log_p = y[:1], p[:1], log_p[:1]  # a softmax rounds: edges and ties are for probabilities
    for name in REFERENCES:
        given = value(getattr(metrics, name)(), y, log_p)
        assert given == pytest.approx(REFERENCES[name](y, p), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("count", [1, 2, 10, 15, 64])
def test_numbers_of_bins(count):
    y, p = CASES["many"]
    for name in ("ExpectedCalibrationError", "MaximumCalibrationError", "ClasswiseCalibrationError"):
        given = value(getattr(metrics, name)(count, from_logits=False), y, p)
        assert given == pytest.approx(REFERENCES[name](y, p, count), rel=1e-6, abs=1e-6)


def test_scikit_learn_agrees():
    y, p = CASES["many"]
    labels = np.arange(10)
    wide = p.astype("float64") / p.astype("float64").sum(1, keepdims=True)
    expected = {
        "NegativeLogLikelihood": sklearn_metrics.log_loss(y, wide, labels=labels),
        "Accuracy": sklearn_metrics.accuracy_score(y, p.argmax(1)),
        "BrierScore": sum(sklearn_metrics.brier_score_loss(y == k, wide[:, k]) for k in labels),
    }
    for name, number in expected.items():
        options = {} if name == "Accuracy" else {"from_logits": False}
        assert value(getattr(metrics, name)(**options), y, p) == pytest.approx(number, rel=1e-6)
    for k in (1, 3, 9, 10):
        number = sklearn_metrics.top_k_accuracy_score(y, wide, k=k, labels=labels) if k < 10 else 1.0
        assert value(metrics.TopKAccuracy(k, from_logits=False), y, p) == pytest.approx(number, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_top_k_with_ties(case):
    y, p = CASES[case]
    for k in range(1, p.shape[1] + 1):
        given = value(metrics.TopKAccuracy(k, from_logits=False), y, p)
        assert given == pytest.approx(top_k(y, p, k), abs=1e-6)
    assert given == 1


def parts(y, p, **options):
    kinds = (metrics.BrierReliability, metrics.BrierResolution, metrics.BrierUncertainty)
    return [value(kind(from_logits=False), y, p, **options) for kind in kinds]


@pytest.mark.fast("many", "ties", "empty bins", "one sample")
@pytest.mark.parametrize("case", CASES)
def test_brier_decomposition(case):
    y, p = CASES[case]
    reliability, resolution, uncertainty = parts(y, p)
    wide, truth = p.astype("float64"), one_hot(y, p.shape[1])
    expected, spread = 0, 0
    for k in range(p.shape[1]):
        index = bins(p[:, k], 15)
        for b in np.unique(index):
            inside = index == b
            o, q = truth[inside, k], wide[inside, k]
            expected += inside.mean() * (q.mean() - o.mean()) ** 2
            spread += inside.mean() * (o.mean() - truth[:, k].mean()) ** 2
            # Stephenson et al., 2008: less the variance and plus twice the covariance inside bins.
            spread += inside.mean() * (2 * np.mean((q - q.mean()) * (o - o.mean())) - q.var())
    frequency = truth.mean(0)
    assert reliability == pytest.approx(expected, abs=1e-6)
    assert resolution == pytest.approx(spread, abs=1e-6)
    assert uncertainty == pytest.approx(np.sum(frequency * (1 - frequency)), abs=1e-6)
    assert reliability - resolution + uncertainty == pytest.approx(brier(y, p), abs=1e-6)


def test_soft_labels():
    y, p = CASES["many"]
    soft = normalised(RNG.exponential(size=p.shape))
    assert value(metrics.BrierScore(from_logits=False), soft, p) == pytest.approx(
        np.square(p.astype("float64") - soft).sum(1).mean(), rel=1e-6
    )
    reliability, resolution, uncertainty = parts(soft, p)
    score = value(metrics.BrierScore(from_logits=False), soft, p)
    assert reliability - resolution + uncertainty == pytest.approx(score, abs=2e-6)
    assert uncertainty == pytest.approx(soft.astype("float64").var(0).sum(), abs=1e-6)
    for name in REFERENCES:
        metric = getattr(metrics, name)
        assert (
            value(metric(), y, p) == value(metric(), one_hot(y, 10), p) == value(metric(), y[:, None], p)
        )


@pytest.mark.slow
def test_sums_do_not_drift_over_a_million_images():
    """Plain float32 totals would be off by 1e-4 and more."""
    metric = metrics.NegativeLogLikelihood(from_logits=False)
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.123, 0.877]], "float32")
    weights = np.array([0.1, 3000.0, 7e6], "float32")
    for _ in range(200):
        metric.update_state([0, 0, 0], p, weights)
    wide = weights.astype("float64")
    expected = np.sum(-np.log(p[:, 0].astype("float64")) * wide) / wide.sum()
    assert float(metric.result()) == pytest.approx(expected, rel=3e-7)
    whole = metrics.BrierScore(from_logits=False)
    y, p = CASES["many"]
    rows = RNG.integers(0, len(y), 10_000)
    assert value(whole, y[rows], p[rows]) == pytest.approx(brier(y[rows], p[rows]), rel=3e-7)


def test_top_1_is_keras_own():
    y, p = CASES["many"]
    own = keras.metrics.SparseCategoricalAccuracy()
    own.update_state(y, p)
    assert value(metrics.TopKAccuracy(1, from_logits=False), y, p) == pytest.approx(float(own.result()))
