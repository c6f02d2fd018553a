"""Learning rate as a function of the step: a warm-up, then cosine or steps."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to `peak` over `warm_up` steps, then fall along a half cosine to 0 at `steps`.

    With a warm-up of a fifth to a third of all steps this is the one-cycle schedule (Smith, 2018).
    """

    def __init__(self, peak, steps, warm_up=0):
        self.peak, self.steps, self.warm_up = peak, steps, warm_up

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = (step + 1) / max(self.warm_up, 1)
        progress = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        fall = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        return self.peak * ops.where(step < self.warm_up, rise, fall)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warm_up": self.warm_up}


@keras.saving.register_keras_serializable(package="zoo")
class WarmUpSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to `peak` over `warm_up` steps, then multiply by `factor` at each of `milestones`."""

    def __init__(self, peak, milestones, factor=0.1, warm_up=0):
        self.peak, self.milestones = peak, list(milestones)
        self.factor, self.warm_up = factor, warm_up

    def __call__(self, step):
        step = ops.cast(step, "float32")
        passed = sum(ops.cast(step >= milestone, "float32") for milestone in self.milestones)
        rise = ops.minimum((step + 1) / max(self.warm_up, 1), 1.0)
        return self.peak * rise * self.factor ** ops.cast(passed, "float32")

    def get_config(self):
        return {
            "peak": self.peak,
            "milestones": self.milestones,
            "factor": self.factor,
            "warm_up": self.warm_up,
        }
