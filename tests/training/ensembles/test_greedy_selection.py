"""Greedy selection of networks: against its definition, and what must hold for any predictions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.training.ensembles.greedy_selection import (
    greedy_selection,
    likelihoods,
    negative_log_likelihood,
)


def nll(probabilities, labels, chosen):
    """By definition, from the whole mean prediction."""
    mean = np.mean([probabilities[index] for index in chosen], axis=0, dtype="float64")
    return -np.mean([np.log(max(mean[i, label], 1e-37)) for i, label in enumerate(labels)])


def brute_force(probabilities, labels, num_members, max_size):
    """Every candidate at every step, each ensemble's loss from scratch."""
    chosen, path = [], []
    while len(set(chosen)) < num_members and len(chosen) < max_size:
        losses = [
            round(nll(probabilities, labels, [*chosen, index]), 9) for index in range(len(probabilities))
        ]
        if path and min(losses) >= path[-1]:
            break
        chosen.append(losses.index(min(losses)))
        path.append(min(losses))
    return chosen, path


def predictions(seed, count, images, classes, sharpness=2.0):
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, images, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probabilities.astype("float32"), rng.integers(0, classes, images)


cases = st.tuples(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 7), st.integers(2, 4), st.floats(0, 6)
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(cases, st.integers(1, 4), st.integers(1, 12))
def test_selection_is_greedy_and_keeps_its_promises(case, num_members, max_size):
    probabilities, labels = predictions(*case)
    chosen, path = greedy_selection(probabilities, labels, num_members, max_size)
    expected, losses = brute_force(probabilities, labels, num_members, max_size)
    assert chosen == expected
    np.testing.assert_allclose(path, losses, atol=2e-9)
    assert 1 <= len(chosen) == len(path) <= max_size
    assert len(set(chosen)) <= num_members
    assert all(after < before for before, after in itertools.pairwise(path))
    assert path[0] == pytest.approx(
        min(nll(probabilities, labels, [i]) for i in range(case[1])), abs=1e-8
    )


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_selection_does_not_depend_on_the_order_of_networks(seed, order):
    probabilities, labels = predictions(seed, 6, images=5, classes=3)
    chosen, path = greedy_selection(probabilities, labels, 3)
    shuffled, other = greedy_selection(probabilities[order], labels, 3)
    assert (chosen, path) == ([order[index] for index in shuffled], other)


def test_a_network_may_be_chosen_again_and_then_weighs_more():
    # Of one image in five the second network knows better; a third of the weight is best for it.
    labels = np.zeros(5, int)
    first = np.array([[0.9, 0.1]] * 4 + [[0.05, 0.95]])
    second = np.array([[0.3, 0.7]] * 4 + [[0.95, 0.05]])
    third = np.array([[0.01, 0.99]] * 5)
    chosen, path = greedy_selection([first, second, third], labels, 3)
    assert chosen[:2] == [0, 1] and chosen.count(0) > chosen.count(1) and 2 not in chosen
    assert path[-1] == pytest.approx(nll([first, second], labels, chosen), abs=1e-8)


def test_choosing_ends_at_enough_different_networks_or_at_the_size():
    labels = np.arange(3)
    experts = [np.where(np.eye(3)[[i]] == 1, 0.98, 0.01).repeat(3, 0) for i in range(3)]
    assert greedy_selection(experts, labels, 3)[0] == [0, 1, 2]
    assert greedy_selection(experts, labels, 2)[0] == [0, 1]
    assert greedy_selection(experts, labels, 3, max_size=1)[0] == [0]
    assert greedy_selection(experts[:1] * 3, labels, 3)[0] == [0]  # copies improve nothing


def test_networks_that_diverged_are_never_chosen():
    labels = np.zeros(2, int)
    good, bad = np.full((2, 2), 0.5), np.full((2, 2), np.nan)
    assert greedy_selection([bad, good, bad], labels, 2)[0] == [1]
    assert negative_log_likelihood(likelihoods([bad], labels))[0] == np.inf
    with pytest.raises(ValueError, match="diverged"):
        greedy_selection([bad], labels, 2)


def test_a_network_that_rules_the_truth_out_can_still_help():
    labels = np.array([0, 1])
    one, other = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    chosen, path = greedy_selection([one, other], labels, 2)
    assert chosen == [0, 1] and path[-1] == pytest.approx(np.log(2), abs=1e-8)


@pytest.mark.parametrize(
    ("probabilities", "labels", "options", "pattern"),
    [
        (np.ones((2, 3, 2)) / 2, np.zeros(3, int), {"num_members": 0}, "num_members"),
        (np.ones((2, 3, 2)) / 2, np.zeros(3, int), {"max_size": 0}, "max_size"),
        (np.ones((2, 3, 2)) / 2, np.zeros(4, int), {}, r"n = 4 labels.*\(3, 2\)"),
        (np.ones((2, 3)) / 2, np.zeros(3, int), {}, "shape"),
        (np.ones((2, 3, 2)) / 2, np.full(3, 2), {}, "from 2 to 2.*2 classes"),
        (np.ones((2, 3, 2)) / 2, np.full(3, -1), {}, "from -1"),
        (np.ones((2, 3, 2)) / 2, np.zeros((3, 2), int), {}, "labels must be"),
        (np.ones((2, 3, 2)) / 2, np.zeros(3), {}, "labels must be.*float64"),
        (np.ones((2, 0, 2)) / 2, np.zeros(0, int), {}, "at least one"),
        ([], np.zeros(3, int), {}, "no predictions"),
    ],
)
def test_wrong_arguments(probabilities, labels, options, pattern, raises_line):
    with raises_line(ValueError, pattern):
        greedy_selection(probabilities, labels, **{"num_members": 2, **options})
