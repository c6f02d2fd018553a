"""`zoo.threshold`: its bound against scipy's, its choice by hand, and its promise on simulated data."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

import zoo
from zoo.deciding import lower_bound


def binary(confidence, right):
    """Probabilities and labels of two classes with these confidences and these right answers."""
    confidence = np.asarray(confidence, "float64")
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (47, 50), (181, 190)])
def test_the_bound_is_clopper_and_pearsons(right, count):
    exact = binomtest(right, count, alternative="greater").proportion_ci(0.9, "exact").low
    assert lower_bound(right, count, 0.9) == pytest.approx(exact, abs=1e-12)


def test_the_search_ends_at_the_first_share_that_fails():
    """400 images: the first 200 right, then 40 of 60 wrong, then all right again."""
    right = np.r_[np.ones(200), np.arange(60) % 3 == 0, np.ones(140)].astype(bool)
    confidence = np.linspace(0.99, 0.51, 400)
    p, labels = binary(confidence, right)
    order = np.random.default_rng(0).permutation(400)
    found = zoo.threshold(p[order], labels[order], accuracy=0.9)
    counts = [20 * k for k in range(2, 21)]  # 29 right ones are needed to show 0.9
    bounds = [lower_bound(int(right[:n].sum()), n, 0.95) for n in counts]
    last = next(i for i, bound in enumerate(bounds) if bound < 0.9) - 1
    assert found.value == pytest.approx(confidence[counts[last] - 1])
    assert found.share == counts[last] / 400 and found.bound == pytest.approx(bounds[last])
    assert found.accuracy == pytest.approx(right[: counts[last]].mean())
    assert found.answers(p).sum() == counts[last]
    assert (found.target, found.level, found.images) == (0.9, 0.95, 400)


def test_equal_confidences_are_answered_together():
    p, labels = binary(np.full(100, 0.8), np.arange(100) % 50 > 0)
    found = zoo.threshold(p, labels, accuracy=0.9)
    assert (found.value, found.share, found.accuracy) == (0.8, 1.0, 0.98)


@pytest.mark.parametrize("count", [1, 58])
def test_too_few_images_show_nothing(count):
    p, labels = binary(np.full(count, 0.9), np.ones(count, bool))
    found = zoo.threshold(p, labels)
    assert math.isinf(found.value) and found.share == 0 and math.isnan(found.accuracy)
    assert not found.answers(p).any()
    assert f"reach 95.0% accuracy with 95% confidence on {count} images: label more" in str(found)
    enough = zoo.threshold(*binary(np.full(59, 0.9), np.ones(59, bool)))
    assert enough.share == 1 and enough.bound >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, 1.6])
def test_answers_are_right_often_enough_at_the_level(sharpness):
    """Of 400 draws of 500 images, at most 10% miss 90% accuracy on all images, with room for chance."""
    rng = np.random.default_rng(1)
    everything = np.sort(rng.beta(6, 0.8, 200_000) / 2 + 0.5)[::-1]
    accuracy = np.cumsum((2 * everything - 1) ** sharpness) / np.arange(1, 200_001)
    missed = answered = 0
    for _ in range(400):
        confidence = rng.beta(6, 0.8, 500) / 2 + 0.5
        right = rng.random(500) < (2 * confidence - 1) ** sharpness
        found = zoo.threshold(*binary(confidence, right), accuracy=0.9, level=0.9)
        if found.share:
            missed += accuracy[np.searchsorted(-everything, -found.value, side="right") - 1] < 0.9
        answered += found.share
    assert missed / 400 <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 400)
    assert answered / 400 > 0.3


def test_labels_of_a_data_set_are_taken(raises_line):
    p, labels = binary(np.full(100, 0.9), np.ones(100, bool))
    prediction = zoo.Prediction(p[:, None], targets=labels)
    assert zoo.threshold(prediction) == zoo.threshold(p, labels)
    with raises_line(ValueError, "needs the labels"):
        zoo.threshold(zoo.Prediction(p[:, None]))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"accuracy": 95}, r"accuracy must be in \(0, 1\); got 95"),
        ({"level": 1}, "level must be"),
        ({"labels": [0, 1]}, "100 rows of predictions need 100 integer labels"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(options, pattern, raises_line):
    p, labels = binary(np.full(100, 0.9), np.ones(100, bool))
    with raises_line(ValueError, pattern):
        zoo.threshold(p, **{"labels": labels, **options})
