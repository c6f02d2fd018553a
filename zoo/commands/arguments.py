"""Arguments of several commands: checks before TensorFlow is imported, and the model of a name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo import registry

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier
    from zoo.data.photographs import Images
    from zoo.uncertainty import Prediction


def check_model(name: str) -> None:
    """Refuse a name that no model can have.

    Args:
        name: str, a model's name, a .keras file or hf://owner/name.

    Raises:
        ValueError: for an unknown name.
        FileNotFoundError: for a .keras file that does not exist.
    """
    if name.endswith(".keras"):
        if not os.path.isfile(name):
            raise FileNotFoundError(f"no file {name}; check the path")
    elif not name.startswith("hf://"):
        registry.parse(name)


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths that do not exist.

    Args:
        paths: iterable of str.

    Raises:
        FileNotFoundError: for the first such path.
    """
    for path in paths:
        if not os.path.exists(path):
            raise FileNotFoundError(f"no file or folder {path}; check the path")


def check_threshold(value: float | None) -> None:
    """Refuse a threshold that is not a confidence.

    Args:
        value: float in [0, 1], or None.

    Raises:
        ValueError: for any other.
    """
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"--threshold must be a confidence in [0, 1]; got {value}")


def load_model(name: str, weights: str) -> EnsembleClassifier:
    """Load a model by its name.

    Args:
        name: str, see `check_model`.
        weights: str, see `zoo.load`; ignored for a .keras file or a hub's address.

    Returns:
        An `EnsembleClassifier`.

    Raises:
        ValueError: for a .keras file of another model.
    """
    from zoo.classifier import EnsembleClassifier
    from zoo.loading import load

    has_weights = name.endswith(".keras") or name.startswith("hf://")
    model = load(name) if has_weights else load(name, weights)
    if not isinstance(model, EnsembleClassifier):
        raise ValueError(
            f"{name} must hold an EnsembleClassifier; got {type(model).__name__}: zoo.convert makes "
            "one of a Keras model"
        )
    return model


def images_of(model: EnsembleClassifier, paths: Iterable[str]) -> Images:
    """Take the photographs that a command is given.

    Args:
        model: an `EnsembleClassifier`.
        paths: iterable of str, files and folders.

    Returns:
        `zoo.data.photographs.Images`, whose error about sizes names the option that helps.

    Raises:
        ValueError: for a folder without images.
    """
    from zoo.data import photographs

    images = photographs.open_images(list(paths), model.input_shape[1:], model.resize)
    images.advice = "pass --resize=crop or --resize=squash"
    return images


def predict_labelled(model: EnsembleClassifier, folder: str, progress: bool | None = None) -> Prediction:
    """Predict photographs that lie in a subfolder for each class.

    Args:
        model: an `EnsembleClassifier`.
        folder: str.
        progress: bool, see `zoo.predict`. Default: None.

    Returns:
        A `Prediction` with targets.

    Raises:
        ValueError: before any is read, for a subfolder that is not a class of the model.
    """
    from zoo.data import photographs
    from zoo.uncertainty import predict_images

    images = images_of(model, [folder])
    if photographs.labels_of(images.paths, model.class_names) is None:
        raise ValueError(
            f"the subfolders of {folder} are not all named after a class of the model: "
            f"{', '.join((model.class_names or ['it has no class names'])[:12])}"
        )
    return predict_images(model, images, progress=progress)
