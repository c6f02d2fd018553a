"""How far a search is: bars on a terminal, in a log a line a network, at once."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class SearchProgress:
    """A context that shows stages, networks and epochs on standard error."""

    def __init__(self):
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.networks = self.epochs = None

    def __enter__(self):
        self.bars.start()
        return self

    def __exit__(self, *error):
        self.bars.stop()

    def say(self, text):
        """A line that stays."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def stage(self, title, total, done):
        """Begin a stage of `total` networks, of which `done` are there."""
        self.say(f"{title}: {total} networks, {done} of them there")
        if self.networks is not None:
            self.bars.remove_task(self.networks)
        self.networks = self.bars.add_task("networks", total=total, completed=done)
        self.total, self.started, self.trained = total, time.time(), 0

    def network(self, name, nll, done):
        """A network of this stage has been trained by this worker; `done` are there now."""
        self.trained += 1
        self.bars.update(self.networks, completed=done)
        left = round((time.time() - self.started) / self.trained * (self.total - done))
        clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        self.say(f"{name}  held-out NLL {nll:.4f}  ({done} of {self.total}; {clock} left at this pace)")

    def others(self, done):
        """Other workers train; `done` networks are there now."""
        self.bars.update(self.networks, completed=done)

    def callback(self, name):
        """Shows a network's epochs on a terminal."""
        return _Epochs(self.bars, name)


class _Epochs(keras.callbacks.Callback):
    def __init__(self, bars, name):
        super().__init__()
        self.bars, self.name = bars, name

    def on_train_begin(self, logs=None):
        self.bar = self.bars.add_task(f"  {self.name}, epochs", total=self.params["epochs"])

    def on_epoch_end(self, epoch, logs=None):
        self.bars.update(self.bar, completed=epoch + 1)

    def on_train_end(self, logs=None):
        self.bars.remove_task(self.bar)
