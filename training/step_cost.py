"""The public names of `zoo.training.cost.step_cost`."""

from zoo.training.cost.step_cost import StepCost, step_cost

__all__ = ["StepCost", "step_cost"]
