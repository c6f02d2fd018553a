"""`.keras` files, checked before Keras builds anything from them.

Keras's safe mode keeps code out. What it lets through is caught here: archives and configurations that are
damaged, arrays in other files or larger than their file, and networks larger than their weights.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import zipfile
from typing import Any

import keras
import numpy as np

from zoo.errors import MissingWeightsError, WeightsError, one_line
from zoo.files import h5_weights
from zoo.files.json_files import check_regular
from zoo.layers.keras_internals import without_values

SUFFIX = ".keras"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_ENTRIES = {_CONFIG, _WEIGHTS, "metadata.json"}
_MOST_CONFIG = 100_000_000  # bytes


def load(path: str | os.PathLike) -> keras.Model:
    """Load a model that `model.save` wrote, in Keras's safe mode.

    Args:
        path: str or path of a `.keras` file.

    Returns:
        A `keras.Model`.

    Raises:
        MissingWeightsError: if there is no such file.
        WeightsError: for a file that is damaged, hostile or not of a model.
    """
    path = pathlib.Path(path)
    if not os.path.exists(path):
        raise MissingWeightsError(f"no file {path}; check the path")
    size = check_regular(path, kind=f"{SUFFIX} file")
    try:
        _check_archive(path, size)
        model = keras.saving.load_model(path, safe_mode=True)
        _check_model(model)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; restore it from its source") from None
    except Exception as error:  # Keras raises nearly any kind for a damaged file
        raise WeightsError(
            f"{path} is no whole {SUFFIX} file of known layers ({one_line(error)}); restore it, or save the model again"
        ) from None
    return model


def _check_archive(path, size):
    """The entries, their checksums, and how large the network would be beside its weights."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries if not entry.filename.startswith("assets/")]
        if sorted(names) != sorted(_ENTRIES):
            raise WeightsError(
                f"it holds {', '.join(map(repr, names))[:80]}, not {', '.join(sorted(_ENTRIES))}"
            )
        if sum(entry.file_size for entry in entries) > 2 * size + _MOST_CONFIG:
            raise WeightsError("it would be much larger when unpacked, as no model is")
        damaged = archive.testzip()
        if damaged:
            raise WeightsError(f"{damaged} in it is damaged")
        config = json.loads(archive.read(_CONFIG))
        with tempfile.TemporaryDirectory() as folder:
            headers = h5_weights.headers(pathlib.Path(archive.extract(_WEIGHTS, folder)))
    _check_size(config, sum(int(np.prod(header.shape)) for header in headers))


def _check_size(config: Any, numbers: int) -> None:
    """Build the network without a value for any weight, and compare how many it would have."""
    if not isinstance(config, dict):
        raise WeightsError("its configuration is no object")
    config = {**config, "compile_config": None}
    with without_values():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise WeightsError("it is no model")
    count = sum(int(np.prod(weight.shape)) for weight in model.weights)
    if count > 2 * numbers + 1000:
        raise WeightsError(f"its network has {count:,} weights and its file {numbers:,}")


def _check_model(model):
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise WeightsError(f"it holds NaN or infinite weights ({weight.path})")
