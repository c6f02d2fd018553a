"""Weights on disk: write, index, find, download, verify, and load strictly.

A folder holds `config.json` and Keras weights files, kernels in float16, every file under 16 MB; of a
sparse model those of `zoo.sparse_weights`.  Keras itself ignores extra layers in a file and loads flipped
bytes in silence; so a file's sha256 is checked before it is opened, and count and shapes before a
model is touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import urllib.request
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from zoo import registry

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
                half = item.ndim > 1 and item.dtype == np.float32
                item = target.create_dataset(name, data=item[()].astype("float16") if half else item[()])
                source_attributes = source[name].attrs
            else:
                source_attributes, item = item.attrs, target.require_group(name)
            item.attrs.update(source_attributes)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    temporary.replace(path)


def fingerprint(path: pathlib.Path) -> dict:
    """Return the hash and the size of a file.

    Args:
        path: path of the file.

    Returns:
        {"sha256": str, "bytes": int}.
    """
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def read_config(folder: str | os.PathLike) -> dict:
    """Read the `config.json` of a folder of weights.

    Args:
        folder: str or path.

    Returns:
        A dictionary.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not the JSON of a model.
    """
    path = pathlib.Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no config.json; pass a folder made by zoo.training.train"
        )
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it from its source") from None
    if not (isinstance(config, dict) and "spec" in config):
        raise ValueError(f"{path} describes no model; restore it from its source")
    return config


def find(name: str, weights: Any) -> tuple:
    """Find the folder and the config of a model's weights, downloading them where needed.

    Args:
        name: str, a model's name.
        weights: str or path: "default", a data set's name, or a folder.

    Returns:
        (folder, config), a path and a dictionary.

    Raises:
        ValueError: for weights that do not exist.
        FileNotFoundError: for a folder that does not exist.
    """
    there = registry.entries(name)
    datasets = [entry["dataset"] for entry in there]
    named = weights == "default" or weights in datasets
    if not named and pathlib.Path(weights).is_dir():
        return weights, read_config(weights)
    if not named and (isinstance(weights, pathlib.Path) or os.sep in weights):
        raise FileNotFoundError(f"no folder or .weights.h5 file {weights}; check the path")
    if not there:
        raise ValueError(
            f"no weights of {name} exist yet; pass weights=None, or train it with python -m zoo.training.train"
        )
    if not named:
        raise ValueError(
            f"{name} has no weights={weights!r}; there are {', '.join(datasets)}, None and paths"
        )
    entry = there[0] if weights == "default" else there[datasets.index(weights)]
    folder = locate(entry)
    config = read_config(folder)
    # The index is what this version of the package vouches for.
    return folder, {**config, "files": entry["files"]}


def locate(entry: dict) -> pathlib.Path:
    """Return the folder with an index entry's files, in the installation, in the cache or downloaded.

    Args:
        entry: dict, one of `zoo.registry.index()`.

    Returns:
        A path.

    Raises:
        FileNotFoundError: if the files are nowhere and cannot be downloaded.
    """
    names = ["config.json", *entry["files"]]
    cached = _cache() / entry["folder"]
    for folder in (registry.home() / entry["folder"], cached):
        if all((folder / name).is_file() for name in names):
            return folder
    _download(entry, cached, names)
    return cached


def _cache():
    return pathlib.Path(os.environ.get("ZOO_CACHE", "~/.cache/ensemble-zoo")).expanduser()


def _download(entry, folder, names):
    base = os.environ.get("ZOO_WEIGHTS_URL")
    if not base:
        raise FileNotFoundError(
            f"the weights {entry['folder']} are not on this machine; reinstall the package, or set "
            f"ZOO_WEIGHTS_URL to where saved_models is served"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (folder / name).is_file():
            continue
        url, temporary = f"{base.rstrip('/')}/{entry['folder']}/{name}", folder / f"{name}.part"
        try:
            try:
                urllib.request.urlretrieve(url, temporary)
            except (OSError, ValueError) as error:
                raise FileNotFoundError(
                    f"cannot download {url} ({error}); try again, or correct ZOO_WEIGHTS_URL"
                ) from None
            if name in entry["files"]:
                _check_file(temporary, entry["files"][name])
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _check_file(path, expected):
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; restore the folder from its source")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{path} has {size} bytes, not {expected['bytes']}: it is truncated or another "
                         "file; restore it from its source")  # fmt: skip
    if fingerprint(path)["sha256"] != expected["sha256"]:
        raise ValueError(f"{path} has been changed: its sha256 is not the recorded one; restore it "
                         "from its source")  # fmt: skip


def load_folder(model: EnsembleClassifier, folder: str | os.PathLike, config: dict) -> None:
    """Verify a folder's files against its config, then load them into a model of that very spec.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        folder: str or path.
        config: dict, the folder's `config.json`.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that was changed, is truncated or does not fit.
    """
    folder = pathlib.Path(folder)
    if not config.get("files"):
        raise ValueError(f"{folder}/config.json lists no files; train or restore the folder again")
    for name, expected in config["files"].items():
        _check_file(folder / name, expected)
    names = list(config["files"])
    main = next((name for name in names if name.endswith(".json")), names[0])
    load_file(model, folder / main)


def load_file(model: EnsembleClassifier, path: str | os.PathLike) -> None:
    """Load a `.weights.h5` file, `.weights.json` shards or `.weights.npz` into a model that they fit.

    These are files of `model.save_weights` (optimiser slots are left out), of
    `model.network.save_weights` or of `write`.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        path: str or path of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for anything but a whole weights file of this very architecture.
    """
    from zoo import sparse_weights
    from zoo.classifier import EnsembleClassifier

    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}; check the path")
    if path.name.endswith(sparse_weights.SUFFIX):
        return sparse_weights.load(model.network, path, model.name)
    parts = [path]
    if path.suffix == ".json":
        parts = sorted(path.parent.glob(path.name.replace(".weights.json", "_*.weights.h5")))
    try:
        stored = sorted(weight for part in parts for weight in _stored(part))
        whole = any(_holds_classifier(part) for part in parts)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is no whole weights file ({reason}); restore it from its source"
        ) from None
    wanted = sorted((tuple(weight.shape), weight.dtype == "bool") for weight in model.network.weights)
    if stored != wanted:
        raise ValueError(_misfit(path, stored, model.name, wanted))
    before = model.network.get_weights()
    try:
        # An uncompiled classifier around the same network has no optimiser to restore.
        (EnsembleClassifier(model.network) if whole else model.network).load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        model.network.set_weights(before)
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not fit {model.name} ({reason}); use the architecture it was "
                         "saved from") from None  # fmt: skip


def _holds_classifier(path):
    """Whether a file was saved from a classifier, not from the network inside."""
    with h5py.File(path, "r") as file:
        return "layers/functional" in file


def _stored(path):
    """(shape, whether it is a mask) of every weight in a file."""
    found = []
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                found.append((item.shape, item.dtype == bool))
                if isinstance(item, h5py.Dataset) and not name.startswith("optimizer")
                else None
            )
        )
    return found


def _misfit(path, stored, name, wanted):
    """What to say of a file with other weights than the model's."""
    from zoo import sparse_weights

    ours, theirs = ([shape for shape, is_mask in some if not is_mask] for some in (stored, wanted))
    if ours == theirs:
        counts = [sum(is_mask for _, is_mask in some) for some in (stored, wanted)]
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
    configs = [(path.parent.name, json.loads(path.read_text())) for path in folder.glob("*/config.json")]
    order = ("cifar10", "cifar100", "fashion_mnist", "mnist")
    configs.sort(key=lambda item: (item[1]["name"], *_rank(item[1]["dataset"], order)))
    index = [{"folder": name, **_entry(config)} for name, config in configs]
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    return index
