"""`config.json` and `index.json`: read with care, and checked before anything is built from them.

They may come from a server or a stranger. Nothing here imports Keras or NumPy.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterable
from typing import Any

from zoo import registry
from zoo.errors import MissingWeightsError, WeightsError, one_line

MOST_BYTES = 10_000_000  # of a JSON file
MOST_MEMBERS, MOST_CLASSES, MOST_PIXELS = 1024, 1_000_000, 1 << 24
FILE = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.weights\.(h5|json|npz)", re.ASCII)
FOLDER = re.compile(r"[A-Za-z0-9_][\w.-]{0,200}", re.ASCII)

# What training writes. Whoever adds an entry to config.json adds it here.
ENTRIES = frozenset(
    "name dataset class_names spec num_members parameters macs metrics probe held_out recipe steps_per_epoch "
    "command seconds hardware software date commit licence files seeds tickets hyper_deep joined placement "
    "flops replicas workers resize data".split()
)
SPEC = ("method", "backbone", "num_classes", "input_shape", "stem", "mean", "std")


def check_regular(path: pathlib.Path, most: int | None = None, kind: str = "file") -> int:
    """Check that a path is a plain file with something in it, so that reading it ends, and return its size.

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
        raise WeightsError(f"{path} is no plain file; pass a file that training wrote")
    if not status.st_size:
        raise WeightsError(f"{path} is no whole {kind} (it is empty); restore it from its source")
    if most is not None and status.st_size > most:
        raise WeightsError(
            f"{path} has {status.st_size:,} bytes, more than {most:,}; it is another file"
        )
    return status.st_size


def read_json(path: pathlib.Path) -> Any:
    """Read a JSON file that may be anything.

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
    raise ValueError(f"it holds the number {text}")


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
        if not value.isprintable():
            raise ValueError("it holds control characters")
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_strings(key)
            _check_strings(part)
    elif isinstance(value, list):
        for part in value:
            _check_strings(part)


def read_config(folder: str | os.PathLike) -> dict:
    """Read and check the `config.json` of a folder of weights.

    Args:
        folder: str or path.

    Returns:
        A dictionary.

    Raises:
        MissingWeightsError: if there is none.
        WeightsError: if it is not the description of a model.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        check_regular(path, MOST_BYTES)
    except MissingWeightsError:
        raise MissingWeightsError(
            f"{folder} holds no config.json; pass a folder made by zoo.training.train"
        ) from None
    return check_config(read_json(path), path)


def check_config(config: Any, path: pathlib.Path) -> dict:
    """Check what a `config.json` says of a model and its files.

    Args:
        config: what was read.
        path: path of the file, for messages.

    Returns:
        The same dictionary.

    Raises:
        WeightsError: for unknown or missing entries, names that leave the folder, and numbers that no model has.
    """
    try:
        if not (isinstance(config, dict) and "spec" in config):
            raise WeightsError("it describes no model")
        _only(config, ENTRIES, "entry")
        _check_spec(config["spec"])
        if not isinstance(config.get("name"), str):
            raise WeightsError(f"name={_short(config.get('name'))} is no model's name")
        members = config["spec"]["method"].get("num_members", 1)
        if config.get("num_members", members) != members:
            raise WeightsError(
                f"num_members={_short(config['num_members'])} contradicts {members} in spec"
            )
        if config.get("class_names") is not None:
            _check_names(config["class_names"])
        _check_probe(config.get("probe"))
        if config.get("files"):
            check_files(config["files"])
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; restore it from its source") from None
    return config


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _only(found: dict, known: Iterable[str], kind: str):
    for key in found:
        if key not in known:
            raise WeightsError(f"unknown {kind} {_short(key)} (does it need a newer ensemble-zoo?)")


def _check_spec(spec):
    if not isinstance(spec, dict):
        raise WeightsError("its spec is no object")
    _only(spec, SPEC, "entry of spec")
    missing = [key for key in SPEC if key not in spec]
    if missing:
        raise WeightsError(f"its spec lacks {', '.join(missing)}")
    method, backbone = spec["method"], spec["backbone"]
    if not (isinstance(method, dict) and method.get("name") in (*registry.METHODS,)):
        raise WeightsError(f"unknown method {_short(method)}")
    if not isinstance(backbone, str) or backbone not in registry.BACKBONES:
        raise WeightsError(f"unknown backbone {_short(backbone)}")
    _check_arguments(method)
    _integer(spec["num_classes"], "num_classes", 2, MOST_CLASSES)
    shape = spec["input_shape"]
    if not (isinstance(shape, list) and len(shape) == 3):
        raise WeightsError(f"input_shape={_short(shape)} is not [height, width, channels]")
    for size in shape:
        _integer(size, "a side of input_shape", 1, MOST_PIXELS)
    if math.prod(shape) > MOST_PIXELS:
        raise WeightsError(f"input_shape={shape} is larger than {MOST_PIXELS:,} numbers")
    if spec["stem"] not in ("cifar", "imagenet"):
        raise WeightsError(f"unknown stem {_short(spec['stem'])}")
    for key, least, most in (("mean", -1e5, 1e5), ("std", 1e-5, 1e5)):
        _check_numbers(spec[key], key, shape[-1], least, most)


def _check_arguments(method):
    """The arguments of a method: plain values of a size that some network has; the method checks the rest."""
    for key, value in method.items():
        if key == "num_members":
            _integer(value, key, 1, MOST_MEMBERS)
        elif isinstance(value, (int, float)) and key != "seed":
            if not abs(value) <= MOST_MEMBERS:
                raise WeightsError(f"{_short(key)}={_short(value)} is absurd")
        elif not (value is None or isinstance(value, (str, int))) or len(str(value)) > 100:
            raise WeightsError(f"{_short(key)}={_short(value)} is no argument of a method")
    if not method.get("num_members", 1) * _number(method.get("rank")) <= 4 * MOST_MEMBERS:
        raise WeightsError("num_members times rank is absurd")


def _number(value):
    return value if _is_number(value) else 1


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(value, name, least, most):
    if not (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
        raise WeightsError(f"{name}={_short(value)} is no integer from {least} to {most:,}")


def _check_numbers(values, name, count, least, most):
    if not (isinstance(values, list) and len(values) == count):
        raise WeightsError(f"{name}={_short(values)} is not a list of {count} numbers, one a channel")
    for value in values:
        if not (_is_number(value) and least <= value <= most):
            raise WeightsError(f"{name}={_short(values)} is not between {least:g} and {most:g}")


def _check_names(names):
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise WeightsError("class_names is no list of strings")


def _check_probe(probe):
    if probe is None:
        return
    if not (isinstance(probe, list) and len(probe) == 2 and all(isinstance(row, list) for row in probe)):
        raise WeightsError("its probe is not two rows of probabilities")
    for row in probe:
        _check_numbers(row, "a row of probe", len(row), 0, 1.001)


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
        raise WeightsError("files is no object")
    for name, record in files.items():
        if not FILE.fullmatch(name):
            raise WeightsError(f"{_short(name)} is no name of a weights file in this folder")
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
        raise WeightsError(f"{name} has no sha256 and bytes alone")
    digest = record["sha256"]
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise WeightsError(f"{name} has the sha256 {_short(digest)}")
    _integer(record["bytes"], f"bytes of {name}", 1, 1 << 40)


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
        if not isinstance(index, list):
            raise WeightsError("it is no list")
        for entry in index:
            _check_entry(entry)
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged: {error}; reinstall the package") from None
    return tuple(index)


def _check_entry(entry):
    if not isinstance(entry, dict):
        raise WeightsError("an entry is no object")
    for key in ("name", "dataset", "folder"):
        if not (
            isinstance(entry.get(key), str) and FOLDER.fullmatch(entry[key]) and ".." not in entry[key]
        ):
            raise WeightsError(f"{key}={_short(entry.get(key))} is no name")
    for key in ("num_members", "parameters", "macs", *(["nonzeros"] if "nonzeros" in entry else [])):
        _integer(entry.get(key), key, 0, 1 << 60)
    scores = entry.get("metrics")
    scores = scores.get(entry["dataset"]) if isinstance(scores, dict) else None
    if not isinstance(scores, dict) or not all(
        _is_number(scores.get(k)) for k in ("accuracy", "nll", "ece")
    ):
        raise WeightsError(f"{entry['folder']} has no accuracy, nll and ece on {entry['dataset']}")
    check_files(entry.get("files"))
    if not entry["files"]:
        raise WeightsError(f"{entry['folder']} has no files")
    if "config" in entry:
        check_record(entry["config"], "config.json")
