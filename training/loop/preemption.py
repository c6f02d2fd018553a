"""Save and stop at SIGTERM, by which clusters announce that they take a machine away."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import keras

from zoo.command_errors import CommandError

if TYPE_CHECKING:
    from zoo.training.devices.placement import Placement
    from zoo.training.loop.checkpoint import Checkpoint

EVERY = 4  # steps between two questions to the other workers


class Preempted(Exception):
    """Training was stopped by a signal, and its state is saved."""


class CannotGoOn(CommandError):
    """This worker has nothing more to do; the one-line message says why."""


class SaveOnSignal(keras.callbacks.Callback):
    """Save a checkpoint and end training soon after SIGTERM has reached any worker.

    All workers stop after the same step; they ask each other every few steps.

    Args:
        checkpoint: `zoo.training.loop.checkpoint.Checkpoint`.
        placement: `zoo.training.devices.placement.Placement`.
        first: int, steps of the first epoch that an earlier run has done. Default: 0.

    Raises:
        Preempted: out of `fit`, when the state is saved.
    """

    def __init__(self, checkpoint: Checkpoint, placement: Placement, first: int = 0):
        super().__init__()
        self.checkpoint, self.placement, self.first = checkpoint, placement, first
        self.received = self.agreed = False
        self.previous = None

    def _receive(self, number, frame):
        self.received = True

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others cannot receive signals
            self.previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *error):
        if self.previous is not None:
            signal.signal(signal.SIGTERM, self.previous)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.seen = epoch, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        before, self.seen = self.seen, batch + 1
        asks = self.placement.workers == 1 or self.seen // EVERY > before // EVERY
        if not (asks and self.placement.any(self.received)):
            return
        self.agreed = True
        steps = self.first + self.seen
        if steps < self.params["steps"]:  # else the end of the epoch saves
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # while JAX trains, variables live outside the model
            self.checkpoint.save(self.epoch, steps)
            raise Preempted(f"stopped after step {steps} of epoch {self.epoch + 1}, and saved")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.first = 0
        if self.agreed:
            raise Preempted(f"stopped after epoch {epoch + 1}, and saved")
