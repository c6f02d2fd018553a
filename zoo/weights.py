"""Write a model's weights, and load weights strictly into a model.

A folder holds `config.json` and Keras weights files, kernels in float16, every file under 16 MB; a
sparse model has the files of `zoo.sparse_weights`. `zoo.stored_weights` verifies files and reads their
headers. This module compares number, shapes and types before it changes a model, and checks afterwards
that the weights are finite. Any fault raises `WeightsError`.
"""

from __future__ import annotations

import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from zoo.errors import WeightsError, one_line
from zoo.files.hashes import fingerprint
from zoo.stored_weights import Stored, open_file, open_folder

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


# Of kernels; vectors and HDF5's own bytes come on top, and every file stays under 16 MB.
SHARD_BYTES = 13_000_000


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
    """Rewrite a weights file with float16 kernels, and nothing wider than float32."""
    temporary = path.with_suffix(".tmp")
    with h5py.File(path, "r") as source, h5py.File(temporary, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                value = item[()]
                if item.dtype == np.float64:  # of a model in float64
                    value = value.astype("float32")
                if item.ndim > 1 and value.dtype == np.float32:
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


def load_folder(model: EnsembleClassifier, folder: str | os.PathLike, config: dict) -> None:
    """Verify a folder's files against its config, then load them into a model of exactly that spec.

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
    `model.network.save_weights` or of `write`. A hash beside a file (`write_hash`, or the `config.json`
    of its folder) is compared; without one there is a warning.

    Args:
        model: an `EnsembleClassifier`, whose weights are replaced.
        path: str or path of the file.

    Raises:
        MissingWeightsError: if there is no such file.
        WeightsError: for anything but a complete weights file of exactly this architecture, and for weights
            whose answers are not finite; the model is not changed then.
    """
    from zoo.probes import check_finite

    before = model.network.get_weights()
    load(model, open_file(path))
    try:
        check_finite(model, path)
    except WeightsError:
        model.network.set_weights(before)
        raise


def load(model: EnsembleClassifier, stored: Stored) -> None:
    """Load opened weights into a model; a model that they do not fit is not changed.

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
    """Check that the weights of a network, just loaded, are finite.

    Args:
        network: a `keras.Model`.
        path: path of the weights, for the message.

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
