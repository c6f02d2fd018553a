"""`config.json`: checked before anything is built from it.

It may come from a server or a stranger. Nothing here imports Keras or NumPy.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from zoo.errors import MissingWeightsError, WeightsError
from zoo.files.json_files import (
    MOST_BYTES,
    check_files,
    check_integer,
    check_regular,
    digest,
    is_number,
    read_json,
    short,
)
from zoo.names import BACKBONES, METHODS

MOST_MEMBERS, MOST_CLASSES, MOST_PIXELS = 1024, 1_000_000, 1 << 24
PIXEL_BOUNDS = {"mean": (-1e5, 1e5), "std": (1e-5, 1e5)}  # of what pixel values are normalised by
# What training writes. Add new entries of config.json here, too.
ENTRIES = frozenset(
    "name dataset class_names spec num_members parameters macs metrics probe held_out recipe steps_per_epoch "
    "command seconds hardware software date commit licence files seeds tickets hyper_deep joined placement "
    "flops replicas workers resize data spec_sha256".split()
)
_KINDS = {str: "text", dict: "an object"}
SPEC = ("method", "backbone", "num_classes", "input_shape", "stem", "mean", "std")


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
        WeightsError: for unknown or missing entries, names that leave the folder, and numbers that no
            model has.
    """
    try:
        if not (isinstance(config, dict) and "spec" in config):
            raise WeightsError("it does not describe a model")
        _only(config, ENTRIES, "entry")
        _check_spec(config["spec"])
        if config.get("spec_sha256") not in (None, digest(config["spec"])):
            raise WeightsError("its spec was changed after training, its sha256 is not the recorded one")
        if not isinstance(config.get("name"), str):
            raise WeightsError(f"name={short(config.get('name'))} is not the name of a model")
        for key, kind in (("dataset", str), ("recipe", dict), ("metrics", dict)):
            if not isinstance(config.get(key), (kind, type(None))):
                raise WeightsError(f"{key}={short(config[key])} is not {_KINDS[kind]}")
        members = config["spec"]["method"].get("num_members", 1)
        if config.get("num_members", members) != members:
            raise WeightsError(
                f"num_members={short(config['num_members'])} contradicts {members} in spec"
            )
        if config.get("class_names") is not None:
            _check_names(config["class_names"])
        _check_probe(config.get("probe"))
        if config.get("files"):
            check_files(config["files"])
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; restore it from its source") from None
    return config


def _only(found: dict, known: Iterable[str], kind: str):
    for key in found:
        if key not in known:
            raise WeightsError(f"unknown {kind} {short(key)} (does it need a newer ensemble-zoo?)")


def _check_spec(spec):
    if not isinstance(spec, dict):
        raise WeightsError("its spec is not an object")
    _only(spec, SPEC, "entry of spec")
    missing = [key for key in SPEC if key not in spec]
    if missing:
        raise WeightsError(f"its spec lacks {', '.join(missing)}")
    method, backbone = spec["method"], spec["backbone"]
    if not (isinstance(method, dict) and method.get("name") in (*METHODS,)):
        raise WeightsError(f"unknown method {short(method)}")
    if not isinstance(backbone, str) or backbone not in BACKBONES:
        raise WeightsError(f"unknown backbone {short(backbone)}")
    _check_arguments(method)
    check_integer(spec["num_classes"], "num_classes", 2, MOST_CLASSES)
    shape = spec["input_shape"]
    if not (isinstance(shape, list) and len(shape) == 3):
        raise WeightsError(f"input_shape={short(shape)} is not [height, width, channels]")
    for size in shape:
        check_integer(size, "a side of input_shape", 1, MOST_PIXELS)
    if math.prod(shape) > MOST_PIXELS:
        raise WeightsError(f"input_shape={shape} is larger than {MOST_PIXELS:,} numbers")
    if spec["stem"] not in ("cifar", "imagenet"):
        raise WeightsError(f"unknown stem {short(spec['stem'])}")
    for key, bounds in PIXEL_BOUNDS.items():
        _check_numbers(spec[key], key, shape[-1], *bounds)


def _check_arguments(method):
    """The arguments of a method: plain values of a size that some network has; the method checks the rest."""
    for key, value in method.items():
        if key == "num_members":
            check_integer(value, key, 1, MOST_MEMBERS)
        elif isinstance(value, (int, float)) and key != "seed":
            if not abs(value) <= MOST_MEMBERS:
                raise WeightsError(f"{short(key)}={short(value)} is out of range")
        elif not (value is None or isinstance(value, (str, int))) or len(str(value)) > 100:
            raise WeightsError(f"{short(key)}={short(value)} is not an argument of a method")
    if not method.get("num_members", 1) * _number(method.get("rank")) <= 4 * MOST_MEMBERS:
        raise WeightsError("num_members times rank is too large")


def _number(value):
    return value if is_number(value) else 1


def _check_numbers(values, name, count, least, most):
    if not (isinstance(values, list) and len(values) == count):
        raise WeightsError(f"{name}={short(values)} is not a list of {count} numbers, one a channel")
    for value in values:
        if not (is_number(value) and least <= value <= most):
            raise WeightsError(f"{name}={short(values)} is not between {least:g} and {most:g}")


def _check_names(names):
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise WeightsError("class_names is not a list of strings")


def _check_probe(probe):
    if probe is None:
        return
    if not (isinstance(probe, list) and len(probe) == 2 and all(isinstance(row, list) for row in probe)):
        raise WeightsError("its probe is not two rows of probabilities")
    for row in probe:
        _check_numbers(row, "a row of probe", len(row), 0, 1.001)
