"""Conformal sets: coverage on exchangeable data, exact quantiles, scores against the plain definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import zoo
from zoo.conformal import METHODS, Conformal, coverage, fit


def draw(count, classes=10, sharpness=3.0, seed=0):
    """Predictions of an overconfident model, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * sharpness
    truth = softmax(logits / 2, axis=1).cumsum(axis=1)
    labels = (rng.random((count, 1)) > truth).sum(axis=1).clip(max=classes - 1)
    return softmax(logits, axis=1), labels


def plain_score(p, k, u, method, penalty, start):
    """As the papers write it, a class at a time."""
    if method == "threshold":
        return 1 - p[k]
    ranked = sorted(range(len(p)), key=lambda j: (-p[j], j))
    rank = ranked.index(k)
    score = sum(p[j] for j in ranked[:rank]) + u * p[k]
    return score + (penalty * max(rank + 1 - start, 0) if method == "raps" else 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_coverage_is_nominal_within_one_per_cent(method, alpha):
    covered, sizes = [], []
    for seed in range(4):
        p, labels = draw(20_000, seed=seed)
        found = fit(p[:10_000], labels[:10_000], alpha, method, seed=seed)
        sets = found.predict_sets(p[10_000:])
        assert sets.shape == (10_000, 10) and sets.dtype == bool
        covered.append(coverage(sets, labels[10_000:]))
        sizes.append(sets.sum(axis=1).mean())
    # The beta law of one split's coverage and the binomial of its test give a deviation of 0.005.
    assert abs(np.mean(covered) - (1 - alpha)) < 0.01
    assert max(abs(np.array(covered) - (1 - alpha))) < 0.025
    assert 0.7 < np.mean(sizes) < 8


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_small_held_out_sets_cover_on_average(method):
    """P(covered) over held-out and test image alike is ceil((n + 1)(1 - alpha)) / (n + 1), exactly."""
    hits = []
    for seed in range(3000):
        p, labels = draw(13, classes=4, seed=seed)
        found = fit(p[:12], labels[:12], 0.25, method, seed=seed)
        hits.append(found.predict_sets(p[12:])[0, labels[12]])
    assert np.mean(hits) == pytest.approx(math.ceil(13 * 0.75) / 13, abs=0.027)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("randomized", [True, False])
def test_sets_are_the_published_definition(method, randomized):
    p, labels = draw(60, classes=6)
    p[:20] = np.round(p[:20], 1)
    p[:20] += (1 - p[:20].sum(axis=1, keepdims=True)) / 6
    p = np.abs(p) / np.abs(p).sum(axis=1, keepdims=True)
    options = {"penalty": 0.2, "start": 2}
    found = fit(p, labels, 0.2, method, randomized=randomized, seed=5, **options)
    uniform = [np.random.default_rng([5, stream]).random((60, 1))[:, 0] for stream in (0, 1)]
    if not randomized:
        uniform = np.ones((2, 60))
    scores = [plain_score(p[i], labels[i], uniform[0][i], method, **options) for i in range(60)]
    # 61 * 0.8 = 48.8: the 49th smallest.
    assert found.threshold == pytest.approx(sorted(scores)[48])
    expected = [
        [plain_score(p[i], k, uniform[1][i], method, **options) for k in range(6)] for i in range(60)
    ]
    away = np.abs(np.array(expected) - found.threshold) > 1e-12
    assert away.mean() > 0.9
    np.testing.assert_array_equal(
        found.predict_sets(p)[away], (np.array(expected) <= found.threshold)[away]
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 99))
def test_the_quantile_is_exact(count, percent):
    p = np.linspace(0.99, 0.01, count)
    p = np.stack([p, 1 - p], axis=1)
    found = fit(p, np.zeros(count, int), percent / 100, "threshold")
    position = -(-(count + 1) * (100 - percent) // 100)  # in integers
    expected = 1 - p[position - 1, 0] if position <= count else math.inf
    assert found.threshold == expected
    if expected == math.inf:
        assert found.predict_sets(p).all()


def test_seeds():
    p, labels = draw(300)
    one, same, other = (fit(p, labels, seed=seed) for seed in (1, 1, 2))
    assert one == same and one.threshold != other.threshold
    np.testing.assert_array_equal(one.predict_sets(p), same.predict_sets(p))
    assert (one.predict_sets(p) != other.predict_sets(p)).any()
    np.testing.assert_array_equal(one.predict_sets(p)[:7], one.predict_sets(p[:7]))


def test_what_randomisation_and_regularisation_do():
    p, labels = draw(4000, classes=30, sharpness=2)
    sizes = {}
    for name, options in {
        "aps": {"method": "aps"},
        "plain": {"method": "aps", "randomized": False},
        "raps": {"method": "raps", "penalty": 0.1, "start": 3},
    }.items():
        found = fit(p[:2000], labels[:2000], **options)
        sets = found.predict_sets(p[2000:])
        sizes[name] = sets.sum(axis=1)
        assert coverage(sets, labels[2000:]) > 0.87
    assert sizes["plain"].mean() > sizes["aps"].mean()
    assert sizes["raps"].max() < sizes["aps"].max()
    assert sizes["plain"].min() >= 1
    none = {"method": "raps", "penalty": 0}
    assert fit(p, labels, **none).threshold == fit(p, labels, method="aps").threshold


def test_probabilities_of_zero_and_one():
    p, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1])
    for method in METHODS:
        found = fit(p, labels, 0.5, method, randomized=False)
        assert coverage(found.predict_sets(p), labels) >= 0.5


P = draw(5, classes=3)[0]
NAN = np.where(np.arange(5)[:, None] == 2, np.nan, P)
LABELS = [0, 1, 2, 0, 1]
FOUND = Conformal("aps", 0.1, 0, 0, True, 0, 0.5, 3)
BAD = [
    (lambda: fit(P * 1.01, LABELS), "sum to 1; row . sums to 1.01"),
    (lambda: fit(np.log(P), LABELS), ">= 0.*not logits"),
    (lambda: fit(NAN, LABELS), "1 of 5.*row 2"),
    (lambda: fit(P[:0], []), r"\(0, 3\)"),
    (lambda: fit(P[0], [0]), r"\(3,\)"),
    (lambda: fit(P[:, None], LABELS), r"\(5, 1, 3\)"),
    (lambda: fit(P, [0, 1, 2, 3, 0]), "0 to 3.*3 classes"),
    (lambda: fit(P, [0, 1, 2, -1, 0]), "-1 to 2.*3 classes"),
    (lambda: fit(P, [0, 1, 2, 0.5, 0]), "fractions"),
    (lambda: fit(P, [0, 1, 2, math.nan, 0]), "NaN"),
    (lambda: fit(P, LABELS[:4]), r"5 .*\(4,\)"),
    (lambda: fit(P, LABELS, alpha=0), "alpha.*0"),
    (lambda: fit(P, LABELS, alpha=math.nan), "alpha.*nan"),
    (lambda: fit(P, LABELS, method="lac"), "threshold, aps, raps.*lac"),
    (lambda: fit(P, LABELS, method="raps", penalty=-1), "penalty.*-1"),
    (lambda: FOUND.predict_sets(P[:, :2] / P[:, :2].sum(1, keepdims=True)), r"3 classes.*\(5, 2\)"),
    (lambda: FOUND.predict_sets(P * 2), "sum to 1"),
    (lambda: coverage(np.ones((5, 3)), LABELS[:2]), r"\(2,\)"),
    (lambda: coverage(np.ones((0, 3)), []), r"\(0, 3\)"),
]


@pytest.mark.parametrize(("call", "pattern"), BAD)
def test_bad_input_is_refused_in_one_line(call, pattern, raises_line):
    with raises_line(ValueError, pattern):
        call()


def test_predictions_models_and_data_sets_are_taken(tiny, images, labels, raises_line):
    model = tiny()
    prediction = zoo.predict(model, iter([(images, labels)]), progress=False)
    expected = fit(prediction.probabilities, labels, alpha=0.5)
    assert fit(prediction, alpha=0.5) == fit(prediction, labels, alpha=0.5) == expected
    batches = iter([(images[:2], np.eye(3)[labels[:2]]), (images[2:], np.eye(3)[labels[2:]])])
    assert fit(model, batches, alpha=0.5).threshold == pytest.approx(expected.threshold, abs=1e-5)
    np.testing.assert_array_equal(
        expected.predict_sets(prediction), expected.predict_sets(prediction.probabilities)
    )
    with raises_line(ValueError, "needs the labels"):
        fit(zoo.Prediction(prediction.members))
