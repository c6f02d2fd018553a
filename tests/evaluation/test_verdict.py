"""The verdict against the single network: its numbers are the metrics', its intervals cover, its words fit."""

import dataclasses

import numpy as np
import pytest

from zoo.evaluation.scores import SCORES, measure
from zoo.evaluation.verdict import Difference, bootstrap, compare, difference, sentences
from zoo.uncertainty import Prediction


@pytest.fixture(scope="module")
def case():
    """(labels, function from sharpness to (N, 4) probabilities) of 1,500 images."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(1500, 4)) * 2
    p = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in p])

    def predict(noise):
        logits = truth + noise * np.random.default_rng(5).normal(size=truth.shape)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return labels, predict


@pytest.mark.parametrize("key", ["accuracy", "nll", "brier", "ece", "aurc"])
def test_the_first_value_is_that_of_the_metric(key, case):
    labels, predict = case
    probabilities = predict(1.0)
    expected = measure(SCORES[key].metric, labels, probabilities)
    assert bootstrap(probabilities, labels)[key][0] == pytest.approx(expected, rel=1e-4)


def test_the_interval_is_that_of_a_paired_mean(case):
    labels, predict = case
    ours, theirs = bootstrap(predict(0.5), labels), bootstrap(predict(1.5), labels)
    found = difference(ours["nll"], theirs["nll"])
    rows = np.arange(len(labels))
    gaps = -np.log(predict(0.5)[rows, labels]) + np.log(predict(1.5)[rows, labels])
    half = 1.96 * gaps.std() / np.sqrt(len(gaps))
    assert found.value == pytest.approx(gaps.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
    assert found.beyond_noise
    same = difference(ours["nll"], ours["nll"])
    assert (same.value, same.low, same.high, same.beyond_noise) == (0, 0, 0, False)


def test_only_what_beats_its_whole_backbone_is_best(case):
    labels, predict = case
    names = {"single_lenet": "single_lenet", "run": "packed_lenet", "twin": "packed_lenet",
             "single_mlp": "single_mlp"}  # fmt: skip
    noise = {"single_lenet": 1.5, "run": 0.5, "twin": 0.5, "single_mlp": 0.0}
    predictions = {label: Prediction(predict(noise[label])[:, None]) for label in names}
    found = compare(names, predictions, labels)
    assert found["run"]["against_single"]["reference"] == "single_lenet"
    assert found["run"]["against_single"]["nll"]["high"] < 0
    assert all(not one["best"] for one in found.values())  # twins are level, and nobody else is an mlp
    assert found["single_lenet"]["against_single"] is None
    del names["twin"]
    found = compare(names, predictions, labels)
    assert {"accuracy", "nll", "brier"} <= set(found["run"]["best"])
    assert not found["single_mlp"]["best"]


BETTER, WORSE, LEVEL = (
    Difference(-0.02, -0.03, -0.01),
    Difference(0.02, 0.01, 0.03),
    Difference(0, -1, 1),
)


@pytest.mark.parametrize(
    ("nll", "accuracy", "said"),
    [
        (BETTER, WORSE, "p is better than s by NLL but worse by accuracy"),
        (BETTER, LEVEL, "p is better than s by NLL and within noise of it by accuracy"),
        (LEVEL, BETTER, "p is worse than s by accuracy and within noise of it by NLL"),
        (BETTER, Difference(0.02, 0.01, 0.03), "p is better than s: accuracy +2.0 [+1.0, +3.0] percentage"),
        (WORSE, BETTER, "p is worse than s: accuracy -2.0"),
        (LEVEL, LEVEL, "p cannot be told from s on these 1,000 images"),
    ],
)  # fmt: skip
def test_the_sentence_says_what_the_intervals_say(nll, accuracy, said):
    if said.startswith("p is better than s by NLL but"):
        accuracy = BETTER  # of accuracy, lower is worse
    gaps = {"nll": nll, "accuracy": accuracy}
    against = {"reference": "s", **{key: dataclasses.asdict(gap) for key, gap in gaps.items()}}
    models = {
        "s": {"against_single": None, "macs": 10}, "p": {"against_single": against, "macs": 25},
    }  # fmt: skip
    [sentence] = sentences(models, 1000)
    assert sentence.startswith(said) and "for 2.5 times the multiplications" in sentence
    [sentence] = sentences({**models, "p": {"against_single": against, "macs": 10.4}}, 1000)
    assert sentence.endswith(", for as many multiplications.")


def test_what_is_missing_is_named():
    alone = {"name": "packed_lenet", "members": 4, "against_single": None}
    assert "add single_lenet" in sentences({"packed_lenet": alone}, 10)[0]
    assert "no ensemble" in sentences({"s": {**alone, "name": "single_lenet", "members": 1}}, 10)[0]
