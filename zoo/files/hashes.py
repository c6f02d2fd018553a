"""The sha256 of files: beside them, in the config of their folder, and compared."""

import hashlib
import os
import pathlib
import re

from zoo import files
from zoo.errors import WeightsError
from zoo.files.config_files import read_config
from zoo.files.json_files import check_regular


def fingerprint(path: pathlib.Path) -> dict:
    """Return the hash and the size of a file.

    Args:
        path: path of the file.

    Returns:
        {"sha256": str, "bytes": int}.
    """
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def write_hash(path: str | os.PathLike) -> pathlib.Path:
    """Write the sha256 of a file beside it, where `load_file` looks for it, as `sha256sum` does.

    Args:
        path: str or path, a weights file.

    Returns:
        The path of the new file, `<path>.sha256`.
    """
    path = pathlib.Path(path)
    beside = path.with_name(f"{path.name}.sha256")
    files.replace(beside, f"{fingerprint(path)['sha256']}  {path.name}\n")
    return beside


def check_hash(path: pathlib.Path, expected: dict) -> None:
    """Compare a file with what is recorded of it.

    Args:
        path: path of the file.
        expected: {"sha256": str, "bytes": int}.

    Raises:
        WeightsError: for a file that was changed, is truncated or is not a file.
    """
    size = check_regular(path)
    if size != expected["bytes"]:
        raise WeightsError(f"{path} has {size} bytes, not {expected['bytes']}: it is truncated or another "
                           "file; restore it from its source")  # fmt: skip
    if fingerprint(path)["sha256"] != expected["sha256"]:
        raise WeightsError(f"{path} has been changed: its sha256 is not the recorded one; restore it "
                           "from its source")  # fmt: skip


def hash_beside(path: pathlib.Path) -> str | None:
    """Read the recorded sha256 of a file, in a file of its own or in the config of its folder.

    Args:
        path: path of the file.

    Returns:
        64 hexadecimal digits, or None if none is recorded.

    Raises:
        WeightsError: for a `.sha256` file that holds none.
    """
    beside = path.with_name(f"{path.name}.sha256")
    if os.path.exists(beside):
        check_regular(beside, 10_000)
        digest = beside.read_bytes()[:64].decode("latin-1")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise WeightsError(f"{beside} holds no sha256; restore it, or remove it")
        return digest
    try:
        return read_config(path.parent)["files"][path.name]["sha256"]
    except (WeightsError, KeyError, TypeError):
        return None
