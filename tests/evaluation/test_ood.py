"""OOD scores against plain formulas, separation against counting, and the protocol's data sets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from zoo.evaluation import ood
from zoo.evaluation.ood import OODSet, detect, match_images, ood_scores, ood_sets, separation

LOGITS = np.random.default_rng(1).normal(size=(40, 3, 5)) * 3


def test_scores_are_their_formulas():
    given_ = ood_scores(LOGITS.astype("float32"))
    assert tuple(given_) == ood.SCORES
    for n, logits in enumerate(LOGITS):
        p = softmax(logits, axis=-1)
        mean = p.mean(axis=0)
        kl = np.mean([entropy(member, mean) for member in p])  # mutual information, the other way round
        pairs = sum(((a - b) ** 2).sum() for a in p for b in p) / 18  # variance likewise
        expected = (1 - mean.max(), entropy(mean), kl, -np.log(np.exp(logits).sum(1)).mean(), pairs)
        np.testing.assert_allclose([given_[s][n] for s in ood.SCORES], expected, rtol=1e-5, atol=1e-7)


def test_probabilities_give_the_same_scores_without_energy():
    given_, expected = ood_scores(softmax(LOGITS, axis=-1), from_logits=False), ood_scores(LOGITS)
    assert set(given_) == set(ood.SCORES) - {"energy"}
    for score in given_:
        np.testing.assert_allclose(given_[score], expected[score], atol=1e-12)


def test_extreme_predictions():
    sure = np.where(np.eye(4)[[0, 1, 2]], 1e4, -1e4)
    agreeing = ood_scores(np.repeat(sure[:, None], 3, axis=1))
    for score in ("msp", "entropy", "mutual_information", "variance"):
        np.testing.assert_allclose(agreeing[score], 0, atol=1e-12)
    np.testing.assert_allclose(agreeing["energy"], -1e4)
    quarrelling = ood_scores(sure[None])
    assert quarrelling["mutual_information"][0] == pytest.approx(math.log(3))
    assert quarrelling["msp"][0] == pytest.approx(2 / 3)
    flat = ood_scores(np.zeros((2, 1, 4)))
    assert flat["entropy"] == pytest.approx(math.log(4)) and not flat["mutual_information"].any()


values = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@pytest.mark.slow
@given(values, values)
def test_separation_is_counted(inside, outside):
    """Many ties: areas by counting pairs, FPR95 by trying every threshold."""
    found = separation(inside, outside)
    pairs = [(o > i) + (o == i) / 2 for o in outside for i in inside]
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    inside, outside = np.array(inside), np.array(outside)
    enough = [t for t in set(outside) | set(inside) if (outside >= t).mean() >= 0.95]
    assert found["fpr95"] == pytest.approx((inside >= max(enough)).mean())
    recall, area = 0, 0
    for t in sorted({*inside, *outside}, reverse=True):
        caught, flagged = (outside >= t).sum(), (outside >= t).sum() + (inside >= t).sum()
        area += (caught / len(outside) - recall) * caught / flagged
        recall = caught / len(outside)
    assert found["aupr"] == pytest.approx(area)


def test_perfect_and_reversed_separation():
    assert separation([0, 1], [2, 3, 4]) == {"auroc": 1, "aupr": pytest.approx(1), "fpr95": 0}
    found = separation([2, 3, 4], [0, 1])
    assert found["auroc"] == 0 and found["fpr95"] == 1


@pytest.fixture
def folder(tmp_path):
    """CIFAR-100, MNIST without its channel axis and SVHN; no Fashion-MNIST."""
    rng = np.random.default_rng(2)
    for name, shape in (
        ("cifar100", (7, 32, 32, 3)), ("mnist", (6, 28, 28)), ("svhn_cropped", (5, 32, 32, 3))
    ):  # fmt: skip
        x = rng.integers(0, 256, shape, "uint8")
        np.savez(tmp_path / f"{name}.npz", x_test=x, y_test=np.arange(len(x)))
    return tmp_path


def test_missing_sets_are_named(folder):
    sets = list(ood_sets("cifar10", (32, 32, 3), folder))
    assert [(s.name, s.group) for s in sets] == [
        ("cifar100", "near"), ("mnist", "far"), ("fashion_mnist", "far"), ("svhn_cropped", "far")
    ]  # fmt: skip
    for s in sets:
        if s.name == "fashion_mnist":
            assert s.images is None and "fashion_mnist" in s.missing and "\n" not in s.missing
        else:
            assert s.missing is None and s.images.shape[1:] == (32, 32, 3) and s.images.dtype == "uint8"
    assert [len(s.images) for s in sets if s.missing is None] == [7, 6, 5]
    with np.load(folder / "cifar100.npz") as arrays:
        np.testing.assert_array_equal(sets[0].images, arrays["x_test"])


@pytest.mark.parametrize("place", ["data", "./data", "/"])
def test_what_is_missing_is_said_without_the_path_of_the_folder(place, tmp_path, monkeypatch):
    """The name of the folder may be part of a word of the sentence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist.npz").write_bytes(b"damaged")
    missing = {s.name: s.missing for s in ood_sets("cifar10", (32, 32, 3), place)}
    assert missing["svhn_cropped"] == (
        "no svhn_cropped in the data folder: neither svhn_cropped.npz nor a folder prepared by TensorFlow "
        "Datasets; docs/datasets.md says how to prepare it"
    )
    if place != "/":
        assert missing["mnist"].startswith("the data folder/mnist.npz is not a complete data set (")


def test_detection_scores_what_is_there(folder):
    calls = []

    def predict(images):
        calls.append(len(images))
        return images.reshape(len(images), 3, -1)[:, :, :5] / 64

    results = detect(LOGITS, ood_sets("cifar10", (32, 32, 3), folder), predict)
    assert calls == [7, 6, 5]
    assert [r["name"] for r in results] == ["cifar100", "mnist", "fashion_mnist", "svhn_cropped"]
    for result in results:
        if result["name"] == "fashion_mnist":
            assert (
                set(result) == {"name", "group", "missing"} and "no fashion_mnist" in result["missing"]
            )
        else:
            assert set(result["scores"]) == set(ood.SCORES)
    images = next(ood_sets("cifar10", (32, 32, 3), folder)).images
    expected = separation(ood_scores(LOGITS)["energy"], ood_scores(predict(images))["energy"])
    assert results[0]["scores"]["energy"] == expected


def test_images_are_matched_in_channels_and_size():
    grey = np.random.default_rng(3).integers(0, 256, (2, 28, 28, 1), "uint8")
    given_ = match_images(grey, (28, 28, 3))
    np.testing.assert_array_equal(given_, np.repeat(grey, 3, axis=-1))
    colour = np.array([[[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]]], "uint8")
    np.testing.assert_array_equal(match_images(colour, (2, 2, 1))[0, ..., 0], [[76, 150], [29, 9]])
    assert match_images(colour, (2, 2, 3)) is colour
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype="uint8")[:, None, None], (1, 32, 16, 1))
    wide = match_images(ramp, (16, 48, 3))
    assert wide.shape == (1, 16, 48, 3)
    # Halving averages neighbours; what does not change along an axis still does not.
    np.testing.assert_allclose(
        wide[0, 1:-1, 0, 0], ramp[0, :, 0, 0].reshape(16, 2).mean(1)[1:-1], atol=1
    )
    assert (wide == wide[:, :, :1, :1]).all()


NAN = np.where(np.arange(40)[:, None, None] == 7, np.nan, LOGITS)
IMAGES = np.zeros((2, 8, 8, 3), "uint8")
BAD = [
    (lambda: ood_scores(LOGITS[:, 0]), r"\(40, 5\)"),
    (lambda: ood_scores(LOGITS[:0]), r"\(0, 3, 5\)"),
    (lambda: ood_scores(NAN), "1 of 40.*image 7"),
    (lambda: ood_scores(softmax(NAN, axis=-1), from_logits=False), "1 of 40.*row 7"),
    (lambda: ood_scores(LOGITS, from_logits=False), "not logits"),
    (lambda: ood_scores(softmax(LOGITS, axis=-1) * 2, from_logits=False), "sums to 2"),
    (lambda: separation([], [1]), "0 of own and 1 of OOD"),
    (lambda: separation([1, math.nan], [1]), "1 of 3"),
    (lambda: ood_sets("imagenet", (32, 32, 3), "."), "imagenet.*cifar10, cifar100"),
    (lambda: match_images(IMAGES[0], (8, 8, 3)), r"\(8, 8, 3\)"),
    (lambda: match_images(IMAGES[:0], (8, 8, 3)), r"\(0, 8, 8, 3\)"),
    (lambda: match_images(IMAGES / 2, (8, 8, 3)), "float64"),
    (lambda: match_images(IMAGES, (8, 8, 4)), "not to 4"),
    (lambda: detect(LOGITS, [OODSet("x", "far", IMAGES, None)], lambda x: LOGITS), "2 .*x got 40"),
    (lambda: detect(LOGITS[:0], [OODSet("x", "far", IMAGES, None)], None), r"\(0, 3, 5\)"),
]


@pytest.mark.parametrize(("call", "pattern"), BAD)
def test_bad_input_is_refused_in_one_line(call, pattern, raises_line):
    with raises_line(ValueError, pattern):
        call()
