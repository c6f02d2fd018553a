"""The answers to two fixed images that training records, and loading compares."""

import json
import pathlib
from typing import Any

import keras
import numpy as np

from zoo.classifier import EnsembleClassifier
from zoo.errors import WeightsError, one_line

TOLERANCE = 0.02  # probabilities; devices and backends round differently
HALF_TOLERANCE = 0.15  # of models that compute in float16 or bfloat16, or draw random numbers
_compared: set[str] = set()  # configs whose probe was right, in this process


def probe_images(shape: tuple) -> np.ndarray:
    """Return two fixed images, whose predictions in `config.json` check that weights load correctly.

    Args:
        shape: (H, W, C).

    Returns:
        uint8 array (2, H, W, C).
    """
    return np.random.default_rng(0).integers(0, 256, (2, *shape), "uint8")


def check_probe(model: EnsembleClassifier, config: dict[str, Any], folder: Any) -> None:
    """Compare a loaded model's answers with those recorded, if there are some.

    It detects a config whose mean, standard deviation or method is not that of training, and a version
    of the package that computes something else. The same config is compared once in a process.

    Args:
        model: an `EnsembleClassifier` as it was trained.
        config: dict, its `config.json`.
        folder: str or path, for the message.

    Raises:
        WeightsError: for other answers.
    """
    if config.get("probe") is None:
        return
    key = json.dumps(
        [config["spec"], config["files"], config["probe"], model.compute_dtype], sort_keys=True
    )
    if key in _compared:
        return
    exact = (
        model.compute_dtype in ("float32", "float64")
        and config["spec"]["method"]["name"] != "mc_dropout"
    )
    tolerance = TOLERANCE if exact else HALF_TOLERANCE
    answers, recorded = _answers(model, folder), config["probe"]
    fits = {len(row) for row in recorded} == {answers.shape[1]}
    if not (fits and np.allclose(answers, recorded, rtol=0, atol=tolerance)):
        raise WeightsError(
            f"{pathlib.Path(folder)}/config.json records other answers than its weights give: spec, probe or weights "
            "were changed; restore the folder from its source"
        )
    _compared.add(key)


def check_finite(model: EnsembleClassifier, path: Any) -> None:
    """Check that a loaded model answers two fixed images with numbers: finite weights can be too large.

    Args:
        model: an `EnsembleClassifier`.
        path: str or path of its file, for the message.

    Raises:
        WeightsError: for NaN or infinite answers, and if it cannot answer.
    """
    if not np.isfinite(_answers(model, path)).all():
        raise WeightsError(f"{path}: its answers are not finite; restore it from its source")


def _answers(model, folder):
    try:
        logits = model.network(
            keras.ops.convert_to_tensor(probe_images(model.input_shape[1:])), training=False
        )
        p = keras.ops.mean(keras.ops.softmax(keras.ops.cast(logits, "float32"), axis=-1), axis=1)
        return keras.ops.convert_to_numpy(p)
    except Exception as error:  # such as too little memory for images of this size
        raise WeightsError(
            f"{folder}: the model cannot answer ({one_line(error)}); restore it from its source"
        ) from None
