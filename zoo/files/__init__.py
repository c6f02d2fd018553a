"""Files that are either whole or absent: written beside their place, then renamed."""

import os
import pathlib


def replace(path: str | os.PathLike, contents: str | bytes) -> None:
    """Write a file in one step, so that a process that dies leaves the old contents or the new.

    Args:
        path: where to write; its folder must exist.
        contents: str, written as UTF-8, or bytes.
    """
    path = pathlib.Path(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # another process has a draft of its own
    try:
        draft.write_bytes(contents.encode() if isinstance(contents, str) else contents)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
