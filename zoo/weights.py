"""Weights on disk: write, index, find, verify, and load strictly.

A folder holds `config.json` and Keras weights files, kernels in float16, every file under 16 MB; of a
sparse model those of `zoo.sparse_weights`.  Keras itself ignores extra layers in a file and loads flipped
bytes in silence; so a file's sha256 is checked before it is opened, number, shapes and types before a
model is touched, and whether the numbers are finite afterwards.  Whatever is wrong is a `WeightsError`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from zoo import files, registry
from zoo.errors import MissingWeightsError, WeightsError, one_line
from zoo.files import downloads, h5_weights
from zoo.files.config_files import read_config
from zoo.files.json_files import FILE, check_files, check_regular, read_json

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


SHARD_BYTES = 15_000_000
_INDEXED = ("name", "dataset", "num_members", "parameters", "macs", "metrics", "files")


def write(model: EnsembleClassifier, folder: str | os.PathLike) -> dict[str, dict]:
    """Write a model's weights to a folder.

    Kernels are rounded to float16; vectors (biases, normalisation) stay float32, being small. For a
    model with sparse layers (`zoo.layers.sparsify`) masks are stored as bits, and only existing weights.

    Args:
        model: an `EnsembleClassifier`.
        folder: str or path of an existing folder; its weights files are replaced.

    Returns:
        {file name: {"sha256": str, "bytes": int}}.
    """
    from zoo import (
        layers,
        sparse_weights,  # with Keras, which a card does without
    )

    folder = pathlib.Path(folder)
    for old in folder.glob("model*.weights.*"):
        old.unlink()
    if layers.sparse_layers(model.network):
        sparse_weights.write(model.network, folder, SHARD_BYTES)
    else:
        _write_dense(model, folder)
    return {path.name: fingerprint(path) for path in sorted(folder.glob("model*.weights.*"))}


def _write_dense(model, folder):
    kernels = sum(int(np.prod(weight.shape)) for weight in model.network.weights) * 2
    if kernels <= SHARD_BYTES:
        model.network.save_weights(folder / "model.weights.h5")
    else:
        # Keras never divides a variable: one that is larger has a file of its own.
        largest = max(4 * math.prod(weight.shape) for weight in model.network.weights)
        size = max(2 * SHARD_BYTES, 1.01 * largest)
        model.network.save_weights(folder / "model.weights.json", max_shard_size=size / 1e9)
    for path in folder.glob("model*.weights.h5"):
        _halve(path)


def _halve(path):
    """Rewrite a float32 weights file with float16 kernels."""
    temporary = path.with_suffix(".tmp")
    with h5py.File(path, "r") as source, h5py.File(temporary, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                value = item[()]
                if item.ndim > 1 and item.dtype == np.float32:
                    value = _half_where_it_fits(value)
                item = target.create_dataset(name, data=value)
                source_attributes = source[name].attrs
            else:
                source_attributes, item = item.attrs, target.require_group(name)
            item.attrs.update(source_attributes)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    temporary.replace(path)


def _half_where_it_fits(value):
    """A kernel in float16, or as it is with a number beyond the range of that (65504)."""
    with np.errstate(over="ignore"):
        half = value.astype("float16")
    return half if np.array_equal(np.isinf(half), np.isinf(value)) else value


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
        _check_file(folder / "config.json", entry["config"])
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
            f"the index has no sha256 of {entry['folder']}/config.json, so nobody vouches for its mean, std and "
            "architecture; write the index again with python -m zoo.training.publish",
            stacklevel=6,
        )
    records = {"config.json": entry.get("config"), **entry["files"]}
    downloads.download(base, folder, records, lambda drafts: _config_of(entry, drafts))


def _check_file(path, expected):
    size = check_regular(path)
    if size != expected["bytes"]:
        raise WeightsError(f"{path} has {size} bytes, not {expected['bytes']}: it is truncated or another "
                           "file; restore it from its source")  # fmt: skip
    if fingerprint(path)["sha256"] != expected["sha256"]:
        raise WeightsError(f"{path} has been changed: its sha256 is not the recorded one; restore it "
                           "from its source")  # fmt: skip


class Stored(NamedTuple):
    """Weights on disk, whose hashes and headers have been read, and of sparse networks the arrays, too.

    `shapes` are those of the network's weights that they belong to.
    """

    path: pathlib.Path
    parts: list[pathlib.Path]
    headers: list[h5_weights.Header]
    arrays: dict[str, np.ndarray] | None
    shapes: list[tuple]

    @property
    def numbers(self) -> int:
        """How many numbers the network has that they belong to."""
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
        _check_file(folder / name, expected)
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
        WeightsError: for a file that was changed, or is no whole weights file.
    """
    path = pathlib.Path(path)
    if not os.path.exists(path):
        raise MissingWeightsError(f"no weights file {path}; check the path")
    check_regular(path, kind="weights file")
    stored = _opened(path)
    for part in {path, *stored.parts}:
        expected = _hash_beside(part)
        if expected is None:
            warnings.warn(
                f"{part} has no hash beside it, so damage may go unnoticed; zoo.weights.write_hash writes one",
                stacklevel=5,
            )
            break
        if fingerprint(part)["sha256"] != expected:
            raise WeightsError(f"{part} has been changed: its sha256 is not the one beside it; restore it "
                               "from its source")  # fmt: skip
    return stored


def _hash_beside(path):
    """The recorded sha256 of a file, in a file of its own or in the config of its folder."""
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
        raise WeightsError(f"{path} is no map of shards; restore it from its source")
    named = set()
    for value in places.values():
        for name in value if isinstance(value, list) else [value]:
            if not (isinstance(name, str) and FILE.fullmatch(name) and name.endswith(".h5")):
                raise WeightsError(f"{path} names {str(name)[:60]!r}, no file in its folder; restore it")
            named.add(name)
    beside = path.parent.glob(path.name.replace(".weights.json", "_*.weights.h5"))
    parts = sorted({path.with_name(name) for name in named} | set(beside))
    if not parts:
        raise WeightsError(f"{path} has no shards beside it; restore the folder from its source")
    return parts


def load_folder(model: EnsembleClassifier, folder: str | os.PathLike, config: dict) -> None:
    """Verify a folder's files against its config, then load them into a model of that very spec.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        folder: str or path.
        config: dict, the folder's `config.json`.

    Raises:
        MissingWeightsError: for a missing file.
        WeightsError: for a file that was changed, is truncated or does not fit.
    """
    load(model, open_folder(folder, config))


def load_file(model: EnsembleClassifier, path: str | os.PathLike) -> None:
    """Load a `.weights.h5` file, `.weights.json` shards or `.weights.npz` into a model that they fit.

    These are files of `model.save_weights` (optimiser slots are left out), of
    `model.network.save_weights` or of `write`. A hash beside a file (`write_hash`, or the `config.json` of
    its folder) is compared; without one there is a warning.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        path: str or path of the file.

    Raises:
        MissingWeightsError: if there is no such file.
        WeightsError: for anything but a whole weights file of this very architecture.
    """
    load(model, open_file(path))


def load(model: EnsembleClassifier, stored: Stored) -> None:
    """Load weights that were opened into a model that they fit; one that they do not fit stays as it was.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        stored: a `Stored`, from `open_folder` or `open_file`.

    Raises:
        WeightsError: for weights of another architecture, or with numbers that are not finite.
    """
    from zoo import sparse_weights

    path = stored.path
    if stored.arrays is not None:
        return sparse_weights.assign(model.network, stored.arrays, path, model.name)
    there = sorted((header.shape, header.kind) for header in stored.headers)
    wanted = sorted((tuple(w.shape), _kind(w)) for w in model.network.weights)
    if [shape for shape, _ in there] != [shape for shape, _ in wanted] or _masks(there) != _masks(
        wanted
    ):
        raise WeightsError(_misfit(path, there, model.name, wanted))
    if not all(theirs == ours or (theirs, ours) == ("float", "float64") for (_, theirs), (_, ours)
               in zip(there, wanted)):  # fmt: skip
        kinds = ", ".join(sorted({kind for _, kind in set(there) - set(wanted)}))
        raise WeightsError(
            f"{path} holds weights of type {kinds}, which {model.name} does not have; restore it from its source"
        )
    before = model.network.get_weights()
    try:
        _load_h5(model, stored)
        check_finite(model.network, path)
    except BaseException:
        model.network.set_weights(before)
        raise


def _load_h5(model, stored):
    from zoo.classifier import EnsembleClassifier

    # A file may have been saved from a classifier, not from the network inside. An uncompiled classifier around
    # the same network has no optimiser to restore.
    whole = any(header.name.startswith("layers/functional/") for header in stored.headers)
    target = EnsembleClassifier(model.network) if whole else model.network
    try:
        target.load_weights(stored.path)
    except Exception as error:  # Keras raises many kinds
        raise WeightsError(f"{stored.path} does not fit {model.name} ({one_line(error)}); use the architecture it was "
                           "saved from") from None  # fmt: skip


def check_finite(network: Any, path: pathlib.Path) -> None:
    """Check that the weights of a network, just loaded, are numbers.

    Args:
        network: a `keras.Model`.
        path: path that they came from, for the message.

    Raises:
        WeightsError: for NaN or infinite weights.
    """
    from keras import ops

    for weight in network.weights:
        value = ops.convert_to_numpy(weight)
        if not np.isfinite(value).all():
            raise WeightsError(
                f"{path} holds NaN or infinite weights ({weight.path}); train again, or restore it from its source"
            )


def _kind(weight):
    """The type of a variable, in the words of `h5_weights.Header`."""
    return "float" if weight.dtype in ("float16", "bfloat16", "float32") else str(weight.dtype)


def _masks(weights):
    return sum(kind == "bool" for _, kind in weights)


def _misfit(path, stored, name, wanted):
    """What to say of a file with other weights than the model's."""
    from zoo import sparse_weights

    ours, theirs = ([shape for shape, kind in some if kind != "bool"] for some in (stored, wanted))
    if ours == theirs:
        counts = [_masks(some) for some in (stored, wanted)]
        if counts[0] != counts[1]:
            return sparse_weights.mismatch(path, counts[0], name, counts[1])
    extra = [shape for shape in ours if shape not in theirs][:1]
    detail = f", such as one of shape {extra[0]}" if extra else ""
    return (
        f"{path} holds {len(ours)} weights{detail}, {name} has {len(theirs)} of other shapes; build the model "
        "with the arguments that the weights were trained with"
    )


def _rank(dataset, order):
    return order.index(dataset) if dataset in order else len(order), dataset


def _entry(config):
    """What the index says of a set of weights; of sparse ones, how many weights exist."""
    existing = {key: value for key, value in config.get("tickets", {}).items() if key == "nonzeros"}
    return {key: config[key] for key in _INDEXED} | existing


def rebuild_index(folder: str | os.PathLike) -> list[dict]:
    """Write `index.json` from the folders of published weights; a name's first data set is its default.

    Args:
        folder: str or path, `saved_models`.

    Returns:
        The index, a list of dictionaries.
    """
    folder = pathlib.Path(folder)
    configs = [
        (path.name, read_config(path)) for path in folder.iterdir() if (path / "config.json").is_file()
    ]
    order = ("cifar10", "cifar100", "fashion_mnist", "mnist")
    configs.sort(key=lambda item: (item[1]["name"], *_rank(item[1]["dataset"], order)))
    index = [
        {"folder": name, **_entry(config), "config": fingerprint(folder / name / "config.json")}
        for name, config in configs
    ]
    files.replace(folder / "index.json", json.dumps(index, indent=1) + "\n")
    return index
