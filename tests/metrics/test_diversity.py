"""Diversity of members against SciPy and NumPy, and the deep-ensemble equivalent.  Any backend."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import logsumexp, rel_entr, softmax
from scipy.stats import entropy

from helpers.predictions import value
from zoo import metrics
from zoo.uncertainty import Prediction

RNG = np.random.default_rng(5)


def drawn(*shape, sharpness=3.0):
    return (sharpness * RNG.normal(size=shape)).astype("float32")


def tied(count):
    """Logits whose members are often torn between classes, but whose average is not.

    Rounding, which differs between processors, would decide which class an undecided average chooses.
    """
    logits = RNG.integers(0, 2, (count, 5, 3)).astype("float32")
    second, first = np.sort(softmax(logits.astype("float64"), axis=-1).mean(1), axis=-1)[:, -2:].T
    return logits[first - second > 1e-3]


# Logits (N, M, K) and labels (N,).
CASES = {
    "many": drawn(1500, 4, 10),
    "alike": drawn(200, 1, 10) + drawn(200, 3, 10, sharpness=1e-2),
    "equal": np.repeat(drawn(40, 1, 5), 3, axis=1),
    "ties": tied(150),
    "far": drawn(60, 3, 4, sharpness=60.0),
    "one member": drawn(50, 1, 6),
    "one class": drawn(10, 3, 1),
    "one sample": drawn(1, 4, 3),
}
LABELS = {name: RNG.integers(0, logits.shape[2], len(logits)) for name, logits in CASES.items()}


def pairs(p, function, ordered=False):
    """Mean over images and pairs of members."""
    choose = itertools.permutations if ordered else itertools.combinations
    return np.mean([[function(a, b) for a, b in choose(members, 2)] for members in p])


def mutual_information(y, p):
    return np.mean(entropy(p.mean(1), axis=-1) - entropy(p, axis=-1).mean(1))


def disagreement(y, p):
    return pairs(p, lambda a, b: a.argmax() != b.argmax())


def error(y, p):
    return (p.mean(1).argmax(-1) != y).mean()


REFERENCES = {
    "MutualInformation": mutual_information,
    "Disagreement": disagreement,
    "PairwiseKL": lambda y, p: pairs(p, lambda a, b: rel_entr(a, b).sum(), ordered=True),
    "MemberCosine": lambda y, p: pairs(p, lambda a, b: 1 - cosine(a, b)),
    "NormalizedDisagreement": lambda y, p: disagreement(y, p) / error(y, p),
}
ALONE = {"MemberCosine": 1.0}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", REFERENCES)
def test_metrics_are_their_formulas(name, case):
    y, logits = LABELS[case], CASES[case]
    p = softmax(logits.astype("float64"), axis=-1)
    given = value(getattr(metrics, name)(), y, logits)
    if logits.shape[1] == 1:
        expected = ALONE.get(name, 0.0)
    elif name == "NormalizedDisagreement" and not error(y, p):
        expected = math.inf if disagreement(y, p) else math.nan
    else:
        expected = REFERENCES[name](y, p)
    assert given == pytest.approx(expected, rel=2e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_gibbs_less_ensemble_likelihood(case):
    y, logits = LABELS[case], CASES[case].astype("float64")
    log_p = (logits - logsumexp(logits, axis=-1, keepdims=True))[np.arange(len(y)), :, y]
    ensemble = logsumexp(log_p, axis=1) - np.log(log_p.shape[1])
    given = value(metrics.JensenGap(), y, CASES[case])
    assert given == pytest.approx(np.mean(ensemble - log_p.mean(1)), rel=2e-6, abs=1e-6)
    if case not in ("far", "one class"):
        averaged = metrics.NegativeLogLikelihood(from_logits=False)
        members = metrics.NegativeLogLikelihood()
        averaged.update_state(y, softmax(logits, axis=-1).mean(1).astype("float32"))
        members.update_state(np.repeat(y, logits.shape[1]), logits.reshape(-1, logits.shape[2]))
        assert given == pytest.approx(float(members.result()) - float(averaged.result()), abs=2e-5)


def test_probabilities_serve_as_logits_do():
    y, logits = LABELS["many"], CASES["many"]
    p = softmax(logits.astype("float64"), axis=-1).astype("float32")
    for name in [*REFERENCES, "JensenGap"]:
        kind = getattr(metrics, name)
        assert value(kind(from_logits=False), y, p) == pytest.approx(value(kind(), y, logits), abs=1e-5)


ZEROS = np.array([[[1, 0, 0], [0, 1, 0]], [[0.5, 0.5, 0], [0.5, 0.5, 0]]], "float32")


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("MutualInformation", [0, 0], math.log(2) / 2),
        ("Disagreement", [0, 0], 0.5),
        ("PairwiseKL", [0, 0], math.inf),
        ("MemberCosine", [0, 0], 0.5),
        ("JensenGap", [0, 0], math.inf),
        ("JensenGap", [2, 2], 0.0),  # excluded by all members alike
        ("NormalizedDisagreement", [0, 0], math.inf),
        ("NormalizedDisagreement", [2, 2], 0.5),
    ],
)
def test_probabilities_of_exactly_zero_and_one(name, labels, expected):
    kind = getattr(metrics, name)
    assert value(kind(from_logits=False), labels, ZEROS) == pytest.approx(expected, abs=1e-6)
    with np.errstate(divide="ignore"):
        given = value(kind(), labels, np.log(ZEROS))
    assert given == pytest.approx(expected, abs=1e-6)


def test_zoo_predict_says_the_same():
    prediction = Prediction(softmax(CASES["many"].astype("float64"), axis=-1))
    for name, expected in (
        ("MutualInformation", prediction.mutual_information),
        ("Disagreement", prediction.disagreement),
    ):
        given = value(getattr(metrics, name)(from_logits=False), None, prediction.members)
        assert given == pytest.approx(expected.mean(), abs=1e-6)


def test_deep_ensemble_equivalent():
    dee = metrics.deep_ensemble_equivalent
    curve = [0.8, 0.6, 0.55, 0.55, 0.54]
    for size, nll in ((1, 0.8), (1, 2.0), (1.5, 0.7), (2, 0.6), (2.5, 0.575), (3, 0.55), (4.5, 0.545)):
        assert dee(nll, curve) == pytest.approx(size)
    assert dee(0.54, curve) == 5 and dee(0.5399, curve) == math.inf
    assert dee(0.7, [0.8, 0.9, 0.6]) == pytest.approx(2 + 2 / 3)  # the first size that reaches it
    # WRN-28-10 on CIFAR-100 as published by giung2: BatchEnsemble of 4.
    published = {1: 0.7922, 2: 0.7093, 4: 0.6564, 8: 0.6224}
    assert dee(0.7444, published) == pytest.approx(np.interp(-0.7444, [-0.7922, -0.7093], [1, 2]))
    assert dee(0.64, published) == pytest.approx(4 + 4 * (0.6564 - 0.64) / (0.6564 - 0.6224))


@pytest.mark.parametrize(
    ("nll", "curve", "match"),
    [
        (math.nan, [1.0, 0.9], "finite.*nan"),
        (0.5, [1.0, math.nan], "finite.*nan"),
        (0.5, [], "begin with 1"),
        (0.5, {2: 0.4}, "begin with 1.*2"),
    ],
)
def test_bad_curves_are_refused(nll, curve, match, raises_line):
    with raises_line(ValueError, match):
        metrics.deep_ensemble_equivalent(nll, curve)
