"""The bars that show progress on standard error, the same for all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def bars(shown: bool | None = None) -> Progress:
    """Make a display of tasks, each with a bar, a count and the time left.

    Args:
        shown: bool, whether anything is drawn. Default: None, on a terminal only.

    Returns:
        A `rich.progress.Progress`, to be started and stopped or used as a context.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not (console.is_terminal if shown is None else shown),
    )  # fmt: skip
