"""How far a study is: a bar on a terminal, in a log a line a run, at once."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunsProgress:
    """A context that shows a study's runs on standard error.

    Args:
        total: runs of the study.
        done: those that are there already.
    """

    def __init__(self, total, done):
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.total, self.began, self.before = total, time.time(), done
        self.bar = self.bars.add_task("runs", total=total, completed=done)

    def __enter__(self):
        self.bars.start()
        self._say(f"{self.total} runs, {self.before} of them there")
        return self

    def __exit__(self, *error):
        self.bars.stop()

    def run(self, task, result, done):
        """A run that this process has finished; `done` are there now."""
        self.others(done)
        left = round((time.time() - self.began) / max(done - self.before, 1) * (self.total - done))
        clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        accuracy = result["figures"]["accuracy"]
        self._say(
            f"{task}  accuracy {accuracy:.4f}  ({done} of {self.total}; {clock} left at this pace)"
        )

    def others(self, done):
        """Other processes are at work; `done` runs are there now."""
        self.bars.update(self.bar, completed=done)

    def _say(self, text):
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)
