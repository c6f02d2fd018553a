"""Sections of a page that a command writes.

A section lies between `<!-- NAME: made by COMMAND -->` and `<!-- end of NAME -->`.
"""

import os
import pathlib
from collections.abc import Iterable

from zoo import files


def check(path: str | os.PathLike, command: str, names: Iterable[str]) -> None:
    """Check that a page has both markers of every section, once and in order.

    Args:
        path: str or path of a Markdown page.
        command: str, the module that writes the sections, such as "zoo.training.publish".
        names: iterable of str, the names of the sections.

    Raises:
        ValueError: if a pair of markers is missing.
    """
    _split(pathlib.Path(path), command, names)


def fill(path: str | os.PathLike, command: str, sections: dict[str, str]) -> None:
    """Replace sections of a page, all in one step.

    Args:
        path: str or path of a Markdown page.
        command: str, the module that writes the sections, such as "zoo.training.publish".
        sections: dict from a section's name to its text.

    Raises:
        ValueError: if a pair of markers is missing.
    """
    path = pathlib.Path(path)
    text = _split(path, command, sections)
    for name, content in sections.items():
        begin, end = _marks(command, name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    files.replace(path, text)


def _marks(command, name):
    return f"<!-- {name}: made by {command} -->", f"<!-- end of {name} -->"


def _split(path, command, names):
    text = path.read_text()
    for name in names:
        begin, end = _marks(command, name)
        if not (text.count(begin) == text.count(end) == 1 and text.index(begin) < text.index(end)):
            raise ValueError(f"{path} must have the lines {begin} and {end} once, in this order")
    return text
