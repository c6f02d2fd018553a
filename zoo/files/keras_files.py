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
from zoo.files.json_files import check_regular, is_number, short
from zoo.layers.keras_internals import trace, without_values

SUFFIX = ".keras"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_ENTRIES = {_CONFIG, _WEIGHTS, "metadata.json"}
_MOST_CONFIG = 100_000_000  # bytes
_MOST_OBJECTS = 20_000  # layers, initialisers and the like; a ResNet-50 of the zoo has 1561
_MOST_NUMBER = 100_000  # a class, or a count of thresholds, in the arguments of a loss or a metric
_MOST_COUNTED = 10_000_000  # numbers that metrics keep: a confusion matrix of 3000 classes
_MOST_EFFORT = 40_000  # a sequential model of 200 layers
_OPTIONS = {
    "run_eagerly": (True, False, None),
    "jit_compile": (True, False, None, "auto"),
    "auto_scale_loss": (True, False),
}  # of `compile`
_MOST_COMPILED = 100  # models within the model
_MOST_SLOTS = 16  # numbers that optimisers keep of each weight; Adam keeps two
_MOST_PIXELS = 1 << 20  # of an image that is answered, to see whether the answers are finite
_LARGEST = 1e15  # a number in the arguments of an optimizer, such as the steps of a schedule
_BY_PATTERN = ("MultiOptimizer", "OptimizerMap")


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
        with warnings.catch_warnings():  # an optimiser that took no step has no state to load
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
            model = keras.saving.load_model(path, safe_mode=True)
        _check_model(model)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; restore it from its source") from None
    except Exception as error:  # Keras raises nearly any kind for a damaged file
        raise WeightsError(
            f"{path} is not a complete {SUFFIX} file of known layers ({one_line(error)}); restore it, or save the model again"
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
            raise WeightsError("it would be much larger when unpacked, which a saved model never is")
        damaged = archive.testzip()
        if damaged:
            raise WeightsError(f"{damaged} in it is damaged")
        config = json.loads(archive.read(_CONFIG))
        with tempfile.TemporaryDirectory() as folder:
            headers = h5_weights.headers(pathlib.Path(archive.extract(_WEIGHTS, folder)))
    _check_config(config)
    _check_size(config, sum(int(np.prod(header.shape)) for header in headers))


def _check_config(config: Any) -> None:
    """Compare with limits what a configuration asks for besides weights: objects, metrics, optimisers."""
    dictionaries = [part for part in _parts(config) if isinstance(part, dict)]
    objects = sum("class_name" in part for part in dictionaries)
    if objects > _MOST_OBJECTS:
        raise WeightsError(f"its configuration has {objects:,} objects, more than {_MOST_OBJECTS:,}")
    effort = sum(
        _effort(part["layers"]) for part in dictionaries if isinstance(part.get("layers"), list)
    )
    if effort > _MOST_EFFORT:
        raise WeightsError(
            "its layers are too many, or in an order that Keras would take far too long to build"
        )
    # A model within a model may be compiled, too.
    compiled = [part["compile_config"] for part in dictionaries if part.get("compile_config")]
    if not all(isinstance(one, dict) for one in compiled):
        raise WeightsError("its compile_config is not an object")
    if len(compiled) > _MOST_COMPILED:
        raise WeightsError(f"{len(compiled)} models in it are compiled, more than {_MOST_COMPILED}")
    for one in compiled:
        _check_options(one)
    count = sum(_kept({**one, "optimizer": None}) for one in compiled)
    if count > _MOST_COUNTED:
        raise WeightsError(f"its metrics keep {count:,} numbers, more than {_MOST_COUNTED:,}")
    slots = sum(_slots(one["optimizer"]) for one in compiled if one.get("optimizer"))
    if slots > _MOST_SLOTS:
        raise WeightsError(
            f"its optimisers keep {slots:.0f} numbers for each weight, more than {_MOST_SLOTS}"
        )


def _effort(layers):
    """How long Keras takes to build a list of layers, beyond what each of them takes.

    It builds a sequential model again with each layer, and goes through all layers of a functional one once
    more where a layer takes what a later one gives.
    """
    if not any(isinstance(layer, dict) and layer.get("inbound_nodes") for layer in layers):
        return len(layers) ** 2
    seen, late = set(), 0
    for layer in layers:
        if isinstance(layer, dict):
            histories = [part["keras_history"] for part in _parts(layer.get("inbound_nodes"))
                         if isinstance(part, dict) and part.get("keras_history")]  # fmt: skip
            late += any(str(history[0]) not in seen for history in histories)
            seen.add(str(layer.get("name")))
    return len(layers) * late / 4


def _check_options(compiled):
    """Refuse options of `compile` that Keras takes, and fails of later or computes something else with."""
    for name, choices in _OPTIONS.items():
        if name in compiled and compiled[name] not in choices:
            raise WeightsError(
                f"its compile option {name} is {short(compiled[name])}; it must be one of {choices}"
            )
    steps = compiled.get("steps_per_execution", 1)
    if type(steps) is not int or steps < 1:
        raise WeightsError(
            f"its compile option steps_per_execution is {short(steps)}; it must be an integer >= 1"
        )


def _kept(compiled):
    """How many numbers a loss and metrics keep; refuses absurd arguments."""
    for number in filter(is_number, _parts(compiled)):
        if not abs(number) <= _MOST_NUMBER:
            raise WeightsError(
                f"one of its losses or metrics asks for {short(number)}, more than {_MOST_NUMBER:,}"
            )
    with without_values():
        made = keras.tree.flatten(keras.saving.deserialize_keras_object(compiled, safe_mode=True))
    variables = [variable for one in made for variable in getattr(one, "variables", [])]
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _slots(optimizer):
    """How many numbers an optimiser keeps of each weight; refuses absurd arguments, and patterns of names.

    A pattern, which Keras compares with the path of each weight, can be one that takes for ever.
    """
    names = [part.get("name") for part in _parts(optimizer) if isinstance(part, dict)]
    for part in _parts(optimizer):
        if is_number(part) and not abs(part) <= _LARGEST:
            raise WeightsError(f"its optimiser has the number {short(part)}, which is out of range")
        pattern = isinstance(part, str) and set("*+?{") & set(part) and part not in names
        if pattern or (isinstance(part, dict) and part.get("class_name") in _BY_PATTERN):
            raise WeightsError("its optimiser chooses weights by patterns, which may never end")
    made = keras.optimizers.get(keras.saving.deserialize_keras_object(optimizer, safe_mode=True))
    weight = keras.Variable(np.zeros((8, 8), "float32"))
    made.build([weight])
    return sum(int(np.prod(variable.shape)) for variable in made.variables) / 64


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
        raise WeightsError("its configuration is not an object")
    with without_values():
        model = keras.saving.deserialize_keras_object(_not_compiled(config), safe_mode=True)
    if not isinstance(model, keras.Model):
        raise WeightsError("it is not a model")
    count = sum(int(np.prod(weight.shape)) for weight in model.weights)
    if count > 2 * numbers + 1000:
        raise WeightsError(f"its network has {count:,} weights and its file {numbers:,}")


def _not_compiled(value):
    """A configuration, and all within it, without a `compile_config`."""
    if isinstance(value, dict):
        return {key: _not_compiled(part) for key, part in value.items() if key != "compile_config"}
    return [_not_compiled(part) for part in value] if isinstance(value, list) else value


def _check_model(model):
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise WeightsError(f"it holds NaN or infinite weights ({weight.path})")
    network = getattr(model, "network", model)
    inputs = getattr(network, "inputs", None)
    # What only a call notices, such as an argument of mixed types. Without sizes Keras tries one, on JAX, that may not fit.
    if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
        return
    trace(model, inputs[0] if len(inputs) == 1 else network.input)
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and np.prod(inputs[0].shape[1:]) <= _MOST_PIXELS:
        images = np.random.default_rng(0).integers(0, 256, (2, *inputs[0].shape[1:])).astype("float32")
        answers = keras.tree.flatten(model(images, training=False))
        if not all(np.isfinite(keras.ops.convert_to_numpy(answer)).all() for answer in answers):
            raise WeightsError("its answers to two images are not finite")
