"""`.keras` files, checked before Keras builds anything from them.

Keras's safe mode keeps code out. What it lets through is caught here: archives and configurations that are
damaged, arrays in other files or larger than their file, and networks or metrics that are too large.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import warnings
import zipfile
from typing import Any

import keras
import numpy as np

from zoo.errors import MissingWeightsError, WeightsError, one_line
from zoo.files import h5_weights
from zoo.files.json_files import check_regular, is_number
from zoo.layers.keras_internals import without_values

SUFFIX = ".keras"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_ENTRIES = {_CONFIG, _WEIGHTS, "metadata.json"}
_MOST_CONFIG = 100_000_000  # bytes
_MOST_OBJECTS = 20_000  # layers, initialisers and the like; a ResNet-50 of the zoo has 1561
_MOST_NUMBER = 100_000  # a class, or a count of thresholds, in the arguments of a loss or a metric
_MOST_COUNTED = 10_000_000  # numbers that metrics keep: a confusion matrix of 3000 classes


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
        with warnings.catch_warnings():  # an optimizer that took no step before needs no state of it
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
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
    _check_config(config)
    _check_size(config, sum(int(np.prod(header.shape)) for header in headers))


def _check_config(config: Any) -> None:
    """Compare with limits what a configuration asks for besides weights: objects and metrics."""
    dictionaries = [part for part in _parts(config) if isinstance(part, dict)]
    objects = sum("class_name" in part for part in dictionaries)
    if objects > _MOST_OBJECTS:
        raise WeightsError(f"its configuration has {objects:,} objects, more than {_MOST_OBJECTS:,}")
    for part in dictionaries:  # a model within a model may be compiled, too
        compiled = part.get("compile_config")
        if isinstance(compiled, dict):
            _check_compiled({key: value for key, value in compiled.items() if key != "optimizer"})


def _check_compiled(compiled):
    """The loss and the metrics: their arguments, and what they keep."""
    largest = max(filter(is_number, _parts(compiled)), default=0)
    if not largest <= _MOST_NUMBER:
        raise WeightsError(f"a loss or metric of it asks for {largest:,}, more than {_MOST_NUMBER:,}")
    with without_values():
        made = keras.tree.flatten(keras.saving.deserialize_keras_object(compiled, safe_mode=True))
    variables = [variable for one in made for variable in getattr(one, "variables", [])]
    count = sum(int(np.prod(variable.shape)) for variable in variables)
    if count > _MOST_COUNTED:
        raise WeightsError(f"its metrics keep {count:,} numbers, more than {_MOST_COUNTED:,}")


def _parts(value):
    """A value of JSON and all that is inside it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, (dict, list)):
            waiting += part.values() if isinstance(part, dict) else part


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
