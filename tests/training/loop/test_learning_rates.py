"""Schedules of the learning rate.  Runs on every backend."""

import math

import keras
import numpy as np
import pytest

from zoo.training.loop.learning_rates import WarmUpCosine, WarmUpSteps


def values(schedule, steps):
    return [float(schedule(step)) for step in range(steps)]


def test_cosine_rises_linearly_and_falls_to_zero():
    given = values(WarmUpCosine(0.4, 20, warm_up=4), 21)
    expected = [0.4 * (step + 1) / 4 for step in range(4)]
    expected += [0.2 * (1 + math.cos(math.pi * step / 16)) for step in range(17)]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert values(WarmUpCosine(0.4, 20), 1) == pytest.approx([0.4])
    assert float(WarmUpCosine(0.4, 20)(500)) == pytest.approx(0, abs=1e-7)


def test_steps_multiply_at_milestones():
    given = values(WarmUpSteps(1.0, [5, 8], factor=0.1, warm_up=2), 10)
    np.testing.assert_allclose(given, [0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("schedule", [WarmUpCosine(0.3, 9, 2), WarmUpSteps(0.3, [4], 0.5, 2)])
def test_schedules_serialise(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    twin = keras.saving.deserialize_keras_object(config)
    assert values(twin, 9) == values(schedule, 9)
