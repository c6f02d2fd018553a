"""What `zoo.step_cost` counts, with gradient checkpointing or without."""

import keras

from zoo import step_cost as counting
from zoo.step_cost import StepCost
from zoo.training.memory.rematerialize import rematerialize

__all__ = ["StepCost", "step_cost"]


def step_cost(network: keras.Model, remat: bool = False) -> StepCost:
    """Count what training a network costs.

    Args:
        network: functional `keras.Model`, such as `EnsembleClassifier.network`.
        remat: bool, whether `zoo.training.memory.rematerialize` computes segments twice. Default: False.

    Returns:
        `zoo.step_cost.StepCost`.

    Raises:
        ValueError: with `remat`, if no cut of the network saves memory.
    """
    return counting.step_cost(network, rematerialize(network).segments if remat else ())
