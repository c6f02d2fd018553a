"""How commands fail: one line on standard error and exit status 2, whatever a file or a library does."""

import argparse
import os
import sys
import traceback
from typing import Any, NoReturn

from zoo.errors import is_one_line, one_line


class CommandError(Exception):
    """Ends a command; its message is one line that says all there is to say."""


def report(error: BaseException, command: str = "zoo") -> int:
    """Print an error as one line; with ZOO_TRACEBACK in the environment, its traceback first.

    Args:
        error: what a command raised.
        command: str, with which the line begins. Default: "zoo".

    Returns:
        The exit status: 2, or 130 for Ctrl-C.
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    if os.environ.get("ZOO_TRACEBACK"):
        traceback.print_exception(error)
    text = str(error)
    expected = isinstance(error, (ValueError, OSError, CommandError)) and is_one_line(text)
    if not (expected and text):
        text = f"{one_line(error, 500)}; ZOO_TRACEBACK=1 shows where"
    print(f"{command}: {text}", file=sys.stderr)
    return 2


def printable(text: str) -> str:
    """Return a text with a "?" for every character that a terminal may take as an order, as `ls` does.

    Args:
        text: str, such as the name of a file.

    Returns:
        A str that any terminal can show.
    """
    return "".join(c if is_one_line(c) else "?" for c in text)


def show_warning(message: Any, *_: Any, **__: Any) -> None:
    """Print a warning as one line, in the place of `warnings.showwarning`.

    Args:
        message: a `Warning`, or its text.
        _: category, file and line, which `warnings` passes; they are not printed.
        __: the same by name.
    """
    print(f"zoo: warning: {' '.join(str(message).split())}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"zoo: {' '.join(message.split())}; see {self.prog} --help\n")
