"""A progress line for training: epoch, step, loss, accuracy and the time that is left."""

import sys
import time

import keras


class ProgressLine(keras.callbacks.Callback):
    """Rewrites one line on a terminal; in a log, prints one line an epoch."""

    def on_train_begin(self, logs=None):
        self.epoch, self.seen, self.started, self.shown = None, 0, time.time(), 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        self.batch = batch + 1
        if sys.stderr.isatty() and time.time() - self.shown > 0.5:
            self.shown = time.time()
            print(f"\r{self._line(logs)}", end="\033[K", file=sys.stderr, flush=True)

    def on_epoch_end(self, epoch, logs=None):
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{self._line(logs)}", file=sys.stderr, flush=True)

    def _line(self, logs):
        epochs, steps = self.params["epochs"], self.params["steps"]
        done = (self.epoch * steps + self.batch) / (epochs * steps)
        left = (epochs - self.epoch) * steps - self.batch
        left *= (time.time() - self.started) / self.seen
        values = "  ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        clock = f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}"
        return f"epoch {self.epoch + 1}/{epochs}  {done:4.0%}  {values}  {clock} left"
