"""The learning rate as a function of the step: a warm-up, then a cosine, a line or steps."""

import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to `peak` over `warm_up` steps, then fall along a half cosine to 0 at `steps`.

    With a warm-up of a fifth to a third of all steps this is the one-cycle schedule (Smith, 2018).

    Args:
        peak: float, the highest rate.
        steps: int, all steps of training.
        warm_up: int, steps of the rise. Default: 0.

    References:
        Smith, A Disciplined Approach to Neural Network Hyper-Parameters, 2018, arXiv 1803.09820.
    """

    def __init__(self, peak: float, steps: int, warm_up: int = 0):
        self.peak, self.steps, self.warm_up = peak, steps, warm_up

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = (step + 1) / max(self.warm_up, 1)
        progress = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        fall = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        return self.peak * ops.where(step < self.warm_up, rise, fall)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warm_up": self.warm_up}


@keras.saving.register_keras_serializable(package="zoo")
class WarmUpLinear(WarmUpCosine):
    """Rise linearly to `peak` over `warm_up` steps, then fall linearly to 0 at `steps`.

    Args:
        peak: float, the highest rate.
        steps: int, all steps of training.
        warm_up: int, steps of the rise. Default: 0.
    """

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = (step + 1) / max(self.warm_up, 1)
        fall = (self.steps - step) / max(self.steps - self.warm_up, 1)
        return self.peak * ops.clip(ops.minimum(rise, fall), 0.0, 1.0)


@keras.saving.register_keras_serializable(package="zoo")
class WarmUpSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to `peak` over `warm_up` steps, then multiply by `factor` at each milestone.

    Args:
        peak: float, the highest rate.
        milestones: sequence of ints, steps.
        factor: float, or one float per milestone. Default: 0.1.
        warm_up: int, steps of the rise. Default: 0.
    """

    def __init__(
        self, peak: float, milestones: Sequence[int], factor: float | list = 0.1, warm_up: int = 0
    ):
        self.peak, self.milestones = peak, list(milestones)
        self.factor, self.warm_up = factor, warm_up

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.peak * ops.minimum((step + 1) / max(self.warm_up, 1), 1.0)
        factors = np.broadcast_to(self.factor, len(self.milestones)).tolist()
        for milestone, factor in zip(self.milestones, factors):
            rate = rate * ops.where(step >= milestone, factor, 1.0)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "milestones": self.milestones,
            "factor": self.factor,
            "warm_up": self.warm_up,
        }


@keras.saving.register_keras_serializable(package="zoo")
class Rewound(keras.optimizers.schedules.LearningRateSchedule):
    """Follow another schedule until a step, then repeat it from an earlier step or stay constant.

    Args:
        rate: Keras `LearningRateSchedule` to follow.
        at: int, the step at which it is rewound.
        to: int or None, the step of `rate` that it is rewound to. Default: None.
        constant: float or None, the rate from step `at` on if `to` is None. Default: None.
    """

    def __init__(self, rate: Any, at: int, to: int | None = None, constant: float | None = None):
        self.rate, self.at, self.to, self.constant = rate, at, to, constant

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.to is None:
            return ops.where(step < self.at, self.rate(step), self.constant)
        return self.rate(ops.where(step < self.at, step, step - self.at + self.to))

    def get_config(self) -> dict[str, Any]:
        rate = keras.optimizers.schedules.serialize(self.rate)
        return {"rate": rate, "at": self.at, "to": self.to, "constant": self.constant}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        rate = keras.optimizers.schedules.deserialize(config["rate"])
        return cls(**{**config, "rate": rate})
