"""Metrics of logits up to +-1e4 and of subnormal probabilities: what is finite is finite, and right."""

import numpy as np
import pytest

from zoo import metrics

RNG = np.random.default_rng(4)
LABELS = RNG.integers(0, 3, 40)
SCALES = np.array([1e-3, 1, 30, 90, 110, 1e3, 1e4, 1e4])
LOGITS = (RNG.uniform(-1, 1, (40, 4, 3)) * np.resize(SCALES, 40)[:, None, None]).astype("float32")
LOGITS[:4] = [[[87, 0, 0], [200, 0, 0], [87, 0, 1], [87, 3, 0]]]  # a mean of members that is subnormal
KINDS = {
    name: kind
    for name, kind in ((name, getattr(metrics, name)) for name in metrics.__all__)
    if isinstance(kind, type)
}
RATIOS = ("NormalizedDisagreement",)  # infinite where the average is never wrong, by definition


def _log_softmax(logits):
    logits = logits.astype("float64")
    highest = logits.max(axis=-1, keepdims=True)
    return logits - highest - np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))


def _value(name, predictions, **options):
    if name == "TopKAccuracy":
        options["k"] = 2
    if name == "Accuracy":
        options.pop("from_logits", None)
    metric = KINDS[name](**options)
    if name.startswith("OOD"):
        metric.update_state(LABELS == 0, predictions[:, 0, 0])
    elif KINDS[name].__module__.endswith("diversity"):
        metric.update_state(LABELS, predictions)
    else:
        metric.update_state(LABELS, predictions[:, 0])
    return float(metric.result())


@pytest.mark.parametrize("name", [name for name in KINDS if name not in RATIOS])
def test_every_metric_of_extreme_logits_is_finite(name):
    assert np.isfinite(_value(name, LOGITS))


@pytest.mark.parametrize(
    "name", [name for name in KINDS if not name.startswith("OOD") and name not in RATIOS]
)
def test_every_metric_of_subnormal_probabilities(name):
    small = np.float32(1e-41)
    probabilities = np.full((40, 4, 3), small, "float32")
    probabilities[:, :, 0] = 1
    zeros = np.where(probabilities < 1, np.float32(0), probabilities)
    expected = _value(name, zeros, from_logits=False)
    given = _value(name, probabilities, from_logits=False)
    assert given == expected or (np.isnan(given) and np.isnan(expected))


def test_divergences_are_those_in_float64():
    log_p = _log_softmax(LOGITS)
    p = np.exp(log_p)
    highest = log_p.max(axis=1, keepdims=True)
    log_mean = np.log(np.exp(log_p - highest).mean(axis=1, keepdims=True)) + highest
    information = (p * (log_p - log_mean)).sum(axis=-1).mean(axis=1)
    assert _value("MutualInformation", LOGITS) == pytest.approx(information.mean(), rel=1e-5)
    pairs = (p * (log_p - log_p.mean(axis=1, keepdims=True))).sum(axis=(1, 2)) / 3
    assert _value("PairwiseKL", LOGITS) == pytest.approx(pairs.mean(), rel=1e-5)
    rows = np.arange(40)
    gap = log_mean[rows, 0, LABELS] - log_p[rows, :, LABELS].mean(axis=1)
    assert _value("JensenGap", LOGITS) == pytest.approx(gap.mean(), rel=1e-5)


def test_one_image_of_very_sure_members():
    metric = metrics.MutualInformation()
    metric.update_state(None, np.array([[[87.0, 0.0], [200.0, 0.0]]], "float32"))
    assert 0 <= float(metric.result()) < 1e-6
