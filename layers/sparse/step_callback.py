"""Callbacks that act after certain training steps, on every backend."""

from typing import Any

import keras
from keras import ops


class StepCallback(keras.callbacks.Callback):
    """A callback that acts between training steps, which it counts as the optimiser does.

    So a resumed training continues as if it had not stopped. Subclasses define in `due` when to act and in
    `act` what to do; all weights are in their variables then.

    Attributes:
        step: int, training steps done; None before training.
    """

    step: Any

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.step = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seen = -1
        if self.step is None:  # only now what was to be restored has been, and the first epoch is known
            optimizer = self.model.optimizer
            # That of scaled losses counts its updates, and it alone accumulates.
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            # Keras counts updates, and a gradient that is accumulated makes one of several steps.
            updates = int(ops.convert_to_numpy(optimizer.iterations))
            self.step = updates * (optimizer.gradient_accumulation_steps or 1)
            steps = (self.params or {}).get("steps")
            if steps is None:
                return self.begin(None)
            left = steps * (self.params["epochs"] - epoch)
            # "done": what zoo.training says of an epoch that was stopped within.
            self.begin(self.step + left - self.params.get("done", 0))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        passed, self.seen = batch - self.seen, batch  # several with steps_per_execution
        before, self.step = self.step, self.step + passed
        step = self.due(before, self.step)
        if step is not None:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # while JAX trains, variables live outside the model
            self.act(step)

    def begin(self, stop: int | None) -> None:
        """Prepare for training; called before the first step.

        Args:
            stop: int, the number of steps at the end of training, or None if unknown.
        """

    def due(self, before: int, now: int) -> int | None:
        """When to act.

        Args:
            before: int, training steps done before the latest batches.
            now: int, training steps done by now.

        Returns:
            int, the last step in (before, now] after which to act, or None.
        """
        raise NotImplementedError

    def act(self, step: int) -> None:
        """Do what is due after a step.

        Args:
            step: int.
        """
        raise NotImplementedError
