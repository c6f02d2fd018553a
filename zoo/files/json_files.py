"""JSON files from unknown sources, read with care; `index.json` and the records of files among them.

They may come from a server or a stranger. Nothing here imports Keras or NumPy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import re
import stat
from typing import Any

from zoo.errors import MissingWeightsError, WeightsError, is_one_line, one_line

MOST_BYTES = 10_000_000  # of a JSON file
FILE = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.weights\.(h5|json|npz)", re.ASCII)
FOLDER = re.compile(r"[A-Za-z0-9_][\w.-]{0,200}", re.ASCII)


def check_regular(path: pathlib.Path, most: int | None = None, kind: str = "file") -> int:
    """Check that a path is a regular file that is not empty, so that reading it ends; return its size.

    Args:
        path: path of the file.
        most: int, the largest size, in bytes. Default: None, any.
        kind: str, what it should be, for messages. Default: "file".

    Returns:
        int, bytes.

    Raises:
        WeightsError: for a device, a pipe, an empty or too large file, such as those under /proc.
        MissingWeightsError: for no file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise MissingWeightsError(f"{path} is missing; restore it from its source") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({one_line(error)}); check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{path} is not a regular file; pass a file that training wrote")
    if not status.st_size:
        raise WeightsError(f"{path} is not a complete {kind} (it is empty); restore it from its source")
    if most is not None and status.st_size > most:
        raise WeightsError(
            f"{path} has {status.st_size:,} bytes, more than {most:,}; it is another file"
        )
    return status.st_size


def read_json(path: pathlib.Path) -> Any:
    """Read a JSON file from an unknown source.

    Args:
        path: path of the file.

    Returns:
        What it holds: no NaN or infinite number, no key twice in one object, no control character.

    Raises:
        WeightsError: for anything else.
        MissingWeightsError: for no file.
    """
    check_regular(path, MOST_BYTES)
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1).decode()
        document = json.loads(
            text, parse_constant=_refused_number, parse_float=_finite, object_pairs_hook=_once
        )
        _check_strings(document)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise WeightsError(
            f"{path} is damaged ({one_line(error)}); restore it from its source"
        ) from None
    return document


def _refused_number(text):
    raise ValueError(f"it holds {text}, which is not a finite number")


def _finite(text):
    number = float(text)
    return number if math.isfinite(number) else _refused_number(text[:20])


def _once(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has one key twice")
    return found


def _check_strings(value):
    if isinstance(value, str):
        if not is_one_line(value):
            raise ValueError("it holds control characters")
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_strings(key)
            _check_strings(part)
    elif isinstance(value, list):
        for part in value:
            _check_strings(part)


def digest(value: Any) -> str:
    """Return the sha256 of a value's JSON, whatever the order of its keys.

    Args:
        value: anything that JSON can hold.

    Returns:
        str of 64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def short(value: Any) -> str:
    """Return a value as text of at most 60 characters, for messages.

    Args:
        value: anything.

    Returns:
        str, its `repr`, cut where that is longer.
    """
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: Any) -> bool:
    """Tell whether a value is an int or a float, and not a bool.

    Args:
        value: anything.

    Returns:
        A bool.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_integer(value: Any, name: str, least: int, most: int) -> None:
    """Check that a value is an integer within limits.

    Args:
        value: what was read.
        name: str, of the value, for messages.
        least: int, the smallest allowed.
        most: int, the largest allowed.

    Raises:
        WeightsError: for anything else, a bool among them.
    """
    if not (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
        raise WeightsError(f"{name}={short(value)} is not an integer from {least} to {most:,}")


def check_files(files: Any) -> dict:
    """Check the record of a folder's files, {name: {"sha256": str, "bytes": int}}.

    Args:
        files: what was read.

    Returns:
        The same dictionary.

    Raises:
        WeightsError: for another structure, or names that leave the folder.
    """
    if not isinstance(files, dict):
        raise WeightsError("files is not an object")
    for name, record in files.items():
        if not FILE.fullmatch(name):
            raise WeightsError(f"{short(name)} is not the name of a weights file in this folder")
        check_record(record, name)
    return files


def check_record(record: Any, name: str) -> None:
    """Check the record of one file: its sha256 and its size.

    Args:
        record: what was read.
        name: str, of the file, for messages.

    Raises:
        WeightsError: for anything else.
    """
    if not (isinstance(record, dict) and set(record) == {"sha256", "bytes"}):
        raise WeightsError(f"{name} must have sha256 and bytes, and nothing else")
    digest = record["sha256"]
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise WeightsError(f"the sha256 of {name} must be 64 hexadecimal digits; it is {short(digest)}")
    check_integer(record["bytes"], f"bytes of {name}", 1, 1 << 40)


def read_index(path: pathlib.Path) -> tuple[dict, ...]:
    """Read and check `index.json`.

    Args:
        path: path of the file.

    Returns:
        A tuple of dictionaries, one a set of weights.

    Raises:
        WeightsError: for anything but an index.
    """
    index = read_json(path)
    try:
        check_index(index)
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged: {error}; reinstall the package") from None
    return tuple(index)


def check_index(index: Any) -> None:
    """Check the contents of an `index.json`.

    Args:
        index: what was read, or is to be written.

    Raises:
        WeightsError: for anything but a list of sets of weights.
    """
    if not isinstance(index, list):
        raise WeightsError("it is not a list")
    for entry in index:
        _check_entry(entry)


def _check_entry(entry):
    if not isinstance(entry, dict):
        raise WeightsError("an entry is not an object")
    for key in ("name", "dataset", "folder"):
        if not (
            isinstance(entry.get(key), str) and FOLDER.fullmatch(entry[key]) and ".." not in entry[key]
        ):
            raise WeightsError(f"{key}={short(entry.get(key))} is not a name")
    for key in ("num_members", "parameters", "macs", *(["nonzeros"] if "nonzeros" in entry else [])):
        check_integer(entry.get(key), key, 0, 1 << 60)
    scores = entry.get("metrics")
    scores = scores.get(entry["dataset"]) if isinstance(scores, dict) else None
    if not isinstance(scores, dict) or not all(
        is_number(scores.get(k)) for k in ("accuracy", "nll", "ece")
    ):
        raise WeightsError(f"{entry['folder']} has no accuracy, nll and ece on {entry['dataset']}")
    check_files(entry.get("files"))
    if not entry["files"]:
        raise WeightsError(f"{entry['folder']} has no files")
    if "config" in entry:
        check_record(entry["config"], "config.json")
