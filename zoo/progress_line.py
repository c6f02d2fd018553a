"""A progress line for training: epoch, step, loss, accuracy and remaining time."""

import sys
import time

import keras


class ProgressLine(keras.callbacks.Callback):
    """Show progress: one line that is rewritten on a terminal, or lines in a log.

    A log gets a line at the first step, each minute and each epoch. The time left is told from the
    second step on, because the first compiles the network.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epoch, self.seen, self.started, self.shown = None, 0, time.time(), 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.seen += 1
        if self.seen == 1:
            self.started = time.time()  # the first step compiles
        self.batch = batch + 1
        if time.time() - self.shown > (0.5 if sys.stderr.isatty() else 60):
            self._print(logs, end="\033[K" if sys.stderr.isatty() else "\n")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._print(logs)

    def _print(self, logs, end="\n"):
        self.shown = time.time()
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{self._line(logs)}", end=end, file=sys.stderr, flush=True)

    def _line(self, logs):
        epochs, steps = self.params["epochs"], self.params["steps"]
        batch = self.batch + self.params.get("done", 0)  # steps before an interruption
        done = (self.epoch * steps + batch) / (epochs * steps)
        values = "  ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        left = self._left((epochs - self.epoch) * steps - batch)
        return f"epoch {self.epoch + 1}/{epochs}  {done:4.0%}  {values}{left}"

    def _left(self, steps):
        """The time that so many steps will take, as text; nothing before a second step was seen."""
        if self.seen < 2:
            return ""
        left = int(steps * (time.time() - self.started) / (self.seen - 1))
        return f"  {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
