"""`zoo.training.cost.step_cost` under its shorter name."""

from zoo.training.cost.step_cost import StepCost, step_cost

__all__ = ["StepCost", "step_cost"]
