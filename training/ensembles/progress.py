"""The progress of a search or a study: bars on a terminal, or lines in a log."""

import time

import keras

from zoo.progress import bars


class _Bars:
    """A context with bars on a terminal or lines in a log, on standard error."""

    def __init__(self):
        self.bars = bars()

    def __enter__(self):
        self.bars.start()
        return self

    def __exit__(self, *error):
        self.bars.stop()

    def say(self, text):
        """Print a line that stays."""
        self.bars.console.print(text, soft_wrap=True, markup=False, highlight=False)


class SearchProgress(_Bars):
    """A context that shows the stages, networks and epochs of a search."""

    def __init__(self):
        super().__init__()
        self.networks = self.epochs = None

    def stage(self, title: str, total: int, done: int) -> None:
        """Begin a stage.

        Args:
            title: str, its name.
            total: int, networks of the stage.
            done: int, networks that are trained already.
        """
        self.say(f"{title}: {total} networks, {done} of them trained")
        if self.networks is not None:
            self.bars.remove_task(self.networks)
        self.networks = self.bars.add_task("networks", total=total, completed=done)
        self.total, self.started, self.trained = total, time.time(), 0

    def network(self, name: str, nll: float, done: int) -> None:
        """Report a network that this worker has trained.

        Args:
            name: str, the network.
            nll: float, its held-out NLL in nats.
            done: int, networks of the stage that are trained now.
        """
        self.trained += 1
        self.bars.update(self.networks, completed=done)
        left = round((time.time() - self.started) / self.trained * (self.total - done))
        self.say(
            f"{name}  held-out NLL {nll:.4f}  ({done} of {self.total}; {_clock(left)} left at this pace)"
        )

    def others(self, done: int) -> None:
        """Show the progress of other workers.

        Args:
            done: int, networks of the stage that are trained now.
        """
        self.bars.update(self.networks, completed=done)

    def callback(self, name: str) -> keras.callbacks.Callback:
        """Return a callback that shows a network's epochs on a terminal.

        Args:
            name: str, the network.

        Returns:
            Keras callback.
        """
        return _Epochs(self.bars, name)


class RunsProgress(_Bars):
    """A context that shows the runs of a study.

    Args:
        total: int, runs of the study.
        done: int, runs that are finished already.
    """

    def __init__(self, total: int, done: int):
        super().__init__()
        self.total, self.began, self.before = total, time.time(), done
        self.bar = self.bars.add_task("runs", total=total, completed=done)

    def __enter__(self):
        super().__enter__()
        self.say(f"{self.total} runs, {self.before} of them finished")
        return self

    def run(self, task: str, result: dict, done: int) -> None:
        """Report a run that this process has finished.

        Args:
            task: str, the run's name.
            result: dict that the run wrote.
            done: int, runs that are finished now.
        """
        self.others(done)
        left = round((time.time() - self.began) / max(done - self.before, 1) * (self.total - done))
        accuracy = result["figures"]["accuracy"]
        self.say(
            f"{task}  accuracy {accuracy:.4f}  ({done} of {self.total}; {_clock(left)} left at this pace)"
        )

    def others(self, done: int) -> None:
        """Show the progress of other processes.

        Args:
            done: int, runs that are finished now.
        """
        self.bars.update(self.bar, completed=done)


def _clock(seconds):
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


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
