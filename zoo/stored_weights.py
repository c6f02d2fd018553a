"""Weights on disk: find them, download them where needed, verify hashes and read headers.

A model is built only after this, and `zoo.weights.load` fills it. Keras itself ignores extra layers in a
file and silently loads flipped bytes; so a file's sha256 is checked before it is opened. Any fault
raises `WeightsError`.
"""

from __future__ import annotations

import math
import os
import pathlib
import warnings
from typing import Any, NamedTuple

import numpy as np

from zoo import registry
from zoo.errors import MissingWeightsError, WeightsError
from zoo.files import downloads, h5_weights
from zoo.files.config_files import read_config
from zoo.files.hashes import check_hash, fingerprint, hash_beside
from zoo.files.json_files import FILE, check_files, check_regular, read_json


def find(name: str, weights: Any) -> tuple:
    """Find the folder and the config of a model's weights, downloading them where needed.

    Args:
        name: str, a model's name.
        weights: str or path: "default", a data set's name, or a folder.

    Returns:
        (folder, config), a path and a dictionary.

    Raises:
        WeightsError: for weights that do not exist, or a config that is not the index's.
        MissingWeightsError: for a folder that does not exist.
    """
    there = registry.entries(name)
    datasets = [entry["dataset"] for entry in there]
    named = weights == "default" or weights in datasets
    if not named and os.path.isdir(weights):
        return weights, read_config(weights)
    if not named and (isinstance(weights, pathlib.Path) or os.sep in weights):
        raise MissingWeightsError(f"no folder or .weights.h5 file {weights}; check the path")
    if not there:
        raise WeightsError(
            f"no weights of {name} exist yet; pass weights=None, or train it with python -m zoo.training.train"
        )
    if not named:
        raise WeightsError(
            f"{name} has no weights={weights!r}; there are {', '.join(datasets)}, None and paths"
        )
    entry = there[0] if weights == "default" else there[datasets.index(weights)]
    folder = locate(entry)
    return folder, _config_of(entry, folder)


def _config_of(entry, folder):
    """A folder's config, compared with what the index says: that is what the package vouches for."""
    if entry.get("config"):
        check_hash(folder / "config.json", entry["config"])
    config = read_config(folder)
    for key in ("name", "dataset"):
        if config.get(key) != entry[key]:
            raise WeightsError(f"{folder}/config.json is of {key}={config.get(key)!r}, the index says {entry[key]!r}; "
                               "restore it from its source")  # fmt: skip
    return {**config, "files": entry["files"]}


def locate(entry: dict) -> pathlib.Path:
    """Return the folder with an index entry's files, in the installation, in the cache or downloaded.

    Args:
        entry: dict, one of `zoo.registry.index()`.

    Returns:
        A path.

    Raises:
        MissingWeightsError: if the files are nowhere and cannot be downloaded.
        WeightsError: for other files on the server, or a cache that cannot be used.
    """
    names = ["config.json", *entry["files"]]
    installed = registry.home() / entry["folder"]
    if all((installed / name).is_file() for name in names):
        return installed
    cached = downloads.cache() / entry["folder"]
    try:
        if all((cached / name).is_file() for name in names):
            return cached
    except OSError as error:
        raise WeightsError(downloads.cache_problem(cached.parent, error)) from None
    _download(entry, cached)
    return cached


def _download(entry, folder):
    base = os.environ.get("ZOO_WEIGHTS_URL")
    if not base:
        raise MissingWeightsError(
            f"the weights {entry['folder']} are not on this machine; reinstall the package, or set "
            f"ZOO_WEIGHTS_URL to where saved_models is served"
        )
    if not entry.get("config"):  # an index of before 0.2.0
        warnings.warn(
            f"the index has no sha256 of {entry['folder']}/config.json, so its mean, std and architecture "
            "cannot be verified; write the index again with python -m zoo.training.publish",
            stacklevel=6,
        )
    records = {"config.json": entry.get("config"), **entry["files"]}
    downloads.download(base, folder, records, lambda drafts: _config_of(entry, drafts))


class Stored(NamedTuple):
    """Weights on disk, with hashes verified and headers read; for sparse networks also the arrays.

    `shapes` are the shapes of the network's weights.
    """

    path: pathlib.Path
    parts: list[pathlib.Path]
    headers: list[h5_weights.Header]
    arrays: dict[str, np.ndarray] | None
    shapes: list[tuple]

    @property
    def numbers(self) -> int:
        """The number of values in the network's weights."""
        return sum(math.prod(shape) for shape in self.shapes)


def open_folder(folder: str | os.PathLike, config: dict) -> Stored:
    """Verify a folder's files against its config, and read their headers.

    Args:
        folder: str or path.
        config: dict, the folder's `config.json`.

    Returns:
        A `Stored`, for `load`.

    Raises:
        MissingWeightsError: for a missing file.
        WeightsError: for a file that was changed, is truncated or was never listed.
    """
    folder = pathlib.Path(folder)
    if not config.get("files"):
        raise WeightsError(f"{folder}/config.json lists no files; train or restore the folder again")
    check_files(config["files"])
    for name, expected in config["files"].items():
        check_hash(folder / name, expected)
    names = list(config["files"])
    main = next((name for name in names if name.endswith(".json")), names[0])
    stored = _opened(folder / main)
    for part in stored.parts:
        if part.name not in names:
            raise WeightsError(f"{part} is not among the files in config.json; remove it")
    return stored


def open_file(path: str | os.PathLike) -> Stored:
    """Compare a weights file with the hash beside it, if there is one, and read its header.

    Args:
        path: str or path of a `.weights.h5`, `.weights.json` or `.weights.npz` file.

    Returns:
        A `Stored`, for `load`.

    Raises:
        MissingWeightsError: if there is no such file.
        WeightsError: for a file that was changed, or is not a complete weights file.
    """
    path = pathlib.Path(path)
    if not os.path.exists(path):
        raise MissingWeightsError(f"no weights file {path}; check the path")
    check_regular(path, kind="weights file")
    stored = _opened(path)
    for part in {path, *stored.parts}:
        expected = hash_beside(part)
        if expected is None:
            warnings.warn(
                f"{part} has no hash beside it, so damage may go unnoticed; zoo.files.hashes.write_hash writes one",
                stacklevel=5,
            )
            break
        if fingerprint(part)["sha256"] != expected:
            raise WeightsError(f"{part} has been changed: its sha256 is not the one beside it; restore it "
                               "from its source")  # fmt: skip
    return stored


def _opened(path):
    from zoo import sparse_weights

    if path.name.endswith(sparse_weights.SUFFIX):
        parts = sparse_weights.parts_of(path)
        arrays = sparse_weights.read(path)
        return Stored(path, parts, [], arrays, sparse_weights.shapes_in(arrays, path))
    parts = _shards(path) if path.suffix == ".json" else [path]
    headers = [header for part in parts for header in h5_weights.headers(part)]
    return Stored(path, parts, headers, None, [header.shape for header in headers])


def _shards(path):
    """The files that the map of shards names, which must be those that lie beside it."""
    document = read_json(path)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict):
        raise WeightsError(f"{path} is not a map of shards; restore it from its source")
    named = set()
    for value in places.values():
        for name in value if isinstance(value, list) else [value]:
            if not (isinstance(name, str) and FILE.fullmatch(name) and name.endswith(".h5")):
                raise WeightsError(
                    f"{path} names {str(name)[:60]!r}, which is not a file in its folder; restore it"
                )
            named.add(name)
    beside = path.parent.glob(path.name.replace(".weights.json", "_*.weights.h5"))
    parts = sorted({path.with_name(name) for name in named} | set(beside))
    if not parts:
        raise WeightsError(f"{path} has no shards beside it; restore the folder from its source")
    return parts
