"""The study of photographs of clothes: its scores against small cases by hand, and its table."""

import numpy as np
import pytest

from zoo.training.studies import clothing


def test_scores_choose_the_threshold_on_validation_photographs():
    def answers(confidences):
        return np.stack([confidences, 1 - np.array(confidences)], axis=1)

    # Right are those of the first class: of the three most confident one is wrong, so two are handled.
    validation = answers([0.99, 0.9, 0.8, 0.7])
    test = answers([0.95, 0.9, 0.85, 0.6])
    labels = {"validation": np.array([0, 0, 1, 0]), "test": np.array([0, 1, 0, 0])}
    found = clothing.scores(
        {"validation": validation, "test": test, "ood": answers([0.55, 0.7])}, labels
    )
    assert found["accuracy"] == 0.75
    assert (found["handled"], found["precision"]) == (
        0.5,
        0.5,
    )  # at 0.9: the first two, one of them right
    assert found["auroc"] == pytest.approx(7 / 8)  # only 0.6 is less confident than 0.7


def test_variants_are_parts_of_the_image():
    images = np.zeros((6, 16, 16, 3), "uint8")
    images[:, :, :8] = 200  # left half
    made = clothing.varied(images, 24, np.random.default_rng(0))
    assert made.shape == (6, 24, 24, 3) and made.dtype == "uint8"
    sides = {bool(image[:, 0].mean() > image[:, -1].mean()) for image in made}
    assert sides == {True, False}  # some are mirrored
    assert (made.mean(axis=(1, 2, 3)) != images.mean(axis=(1, 2, 3))).any()


def test_the_table_has_a_row_for_each_method():
    results = {
        "single, seed 0": {"accuracy": 0.8, "seconds": 10.0},
        "single, seed 1": {"accuracy": 0.9, "seconds": 14.0},
        "mc_dropout, seed 0": {"accuracy": 0.7, "seconds": 9.0},
    }
    assert clothing.table(results).splitlines() == [
        "| | accuracy | CPU s |",
        "| --- | --- | --- |",
        "| `single` | 0.850 (0.800 to 0.900) | 12 |",
        "| `mc_dropout` | 0.700 (0.700 to 0.700) | 9 |",
    ]
