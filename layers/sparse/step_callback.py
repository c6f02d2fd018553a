"""Callbacks that act after certain training steps, on every backend."""

import keras
from keras import ops


class StepCallback(keras.callbacks.Callback):
    """Acts between training steps, which it counts as the optimizer does, so that a resumed training
    goes on as one undisturbed.

    Subclasses say by `due` when to act and by `act` what to do, with all weights in their variables.

    Attributes:
        step: training steps done; None before training.
    """

    def on_train_begin(self, logs=None):
        self.step = None

    def on_epoch_begin(self, epoch, logs=None):
        self.seen = -1
        if self.step is None:  # only now what was to be restored has been, and the first epoch is known
            optimizer = self.model.optimizer
            # Keras counts updates, and a gradient that is accumulated makes one of several steps.
            updates = int(ops.convert_to_numpy(optimizer.iterations))
            self.step = updates * (optimizer.gradient_accumulation_steps or 1)
            steps = (self.params or {}).get("steps")
            if steps is None:
                return self.begin(None)
            left = steps * (self.params["epochs"] - epoch)
            # "done": what zoo.training says of an epoch that was stopped within.
            self.begin(self.step + left - self.params.get("done", 0))

    def on_train_batch_end(self, batch, logs=None):
        passed, self.seen = batch - self.seen, batch  # several with steps_per_execution
        before, self.step = self.step, self.step + passed
        step = self.due(before, self.step)
        if step is not None:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # while JAX trains, variables live outside the model
            self.act(step)

    def begin(self, stop):
        """Called before the first step; `stop` is the number of steps when training ends, or None."""

    def due(self, before, now):
        """The last step in (before, now] after which to act, or None."""
        raise NotImplementedError

    def act(self, step):
        """Do what is due after a step."""
        raise NotImplementedError
