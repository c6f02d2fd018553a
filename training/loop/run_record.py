"""What a run leaves beside its weights: results, hardware, and how to repeat it."""

import dataclasses
import importlib.metadata
import json
import pathlib
import subprocess
import time
from typing import Any

import keras

from zoo import counts, files
from zoo import weights as weight_files
from zoo.classifier import EnsembleClassifier
from zoo.composing import build_from_spec
from zoo.files.json_files import digest
from zoo.latency import cores
from zoo.metrics import Accuracy, ExpectedCalibrationError, NegativeLogLikelihood
from zoo.precision import precision
from zoo.probes import probe_images
from zoo.training.recipes import Recipe
from zoo.uncertainty import predict


def write_run(
    model: EnsembleClassifier,
    recipe: Recipe,
    splits: tuple,
    folder: pathlib.Path,
    command: str,
    seconds: float,
    **more: Any,
) -> dict:
    """Write the weights as they are shipped, load them back, evaluate those, and record the run.

    They are evaluated in float32, as users load them, whatever the precision of the training.

    Args:
        model: trained `zoo.classifier.EnsembleClassifier`.
        recipe: `zoo.training.recipes.Recipe`.
        splits: (training, held out, test), from `load_splits`.
        folder: `pathlib.Path` of an existing folder to write to.
        command: str, the command to record.
        seconds: float, how long training took.
        more: further entries of `config.json`.

    Returns:
        The dictionary written to `config.json`.
    """
    training, held_out, test = splits
    written = weight_files.write(model, folder)
    with precision("float32"):
        shipped = build_from_spec(model.spec)
    weight_files.load_folder(shipped, folder, {"files": written})
    metrics = {recipe.dataset: measure(shipped, test)}
    config = {
        "name": model.name,
        "dataset": recipe.dataset,
        "class_names": list(test.class_names) or None,
        "spec": model.spec,
        "spec_sha256": digest(model.spec),
        "num_members": model.num_members,
        "parameters": counts.parameters(model.network)[0],
        "macs": counts.macs(model.network),
        "metrics": metrics,
        "probe": predict(shipped, probe_images(model.input_shape[1:])).probabilities.round(5).tolist(),
        "held_out": measure(shipped, held_out) if len(held_out) else None,
        "recipe": dataclasses.asdict(recipe),
        "steps_per_epoch": len(training) // recipe.batch_size,
        "command": f"KERAS_BACKEND={keras.backend.backend()} {command}",
        "seconds": round(seconds),
        "hardware": hardware(),
        "software": {"keras": keras.__version__, **_backend_version()},
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "licence": "Apache-2.0",
        "files": written,
        **more,
    }
    files.replace(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return config


def hardware() -> str:
    """Describe the devices that the backend uses.

    Returns:
        str, such as "8 x NVIDIA H100" or "2 CPU cores".
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        devices = jax.devices()
        if devices[0].platform != "cpu":
            return f"{len(devices)} x {devices[0].device_kind}"
    elif backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        if devices:
            name = tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU")
            return f"{len(devices)} x {name}"
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{cores()} CPU core{'s' if cores() > 1 else ''}"


def _backend_version():
    backend = keras.backend.backend()
    return {backend: importlib.metadata.version(backend)}


def _commit():
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=pathlib.Path(__file__).parent, capture_output=True,
            text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None


def measure(model: EnsembleClassifier, split: Any) -> dict:
    """Evaluate a model on a split.

    Args:
        model: `zoo.classifier.EnsembleClassifier`.
        split: `zoo.data` split of images and labels.

    Returns:
        dict of accuracy, NLL in nats, 15-bin ECE, and the number of images.
    """
    metrics = [
        Accuracy(),
        NegativeLogLikelihood(),
        ExpectedCalibrationError(),
    ]
    for images, labels in split.batches(250):
        answers = model.predict_on_batch(images)
        for metric in metrics:
            metric.update_state(labels, answers)
    return {metric.name: round(float(metric.result()), 5) for metric in metrics} | {"images": len(split)}
