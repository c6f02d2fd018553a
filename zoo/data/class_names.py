"""Names of classes: where they come from, and answers that are told by them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.checks import check_class_names

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier
    from zoo.uncertainty import Prediction


def names_of(source: Any) -> list[str] | None:
    """Return the names of classes that a list, a data set or a folder gives.

    Args:
        source: an iterable of names; a data set with `class_names`, as
            `keras.utils.image_dataset_from_directory` returns; the path of a folder with one subfolder
            for each class; or None.

    Returns:
        A list of names in the order of the labels, or None.

    Raises:
        ValueError: for a data set without names, or a folder without subfolders.
    """
    from zoo.data.photographs import class_folders

    if source is None:
        return None
    if isinstance(source, (str, os.PathLike)):
        names = class_folders(source) if os.path.isdir(source) else []
        if not names:
            raise ValueError(f"class_names={str(source)!r} is no folder with a subfolder for each class")
        return names
    names = getattr(source, "class_names", source)
    if names is source and (hasattr(source, "element_spec") or not isinstance(source, Iterable)):
        raise ValueError(
            "this data set has no class_names; take those of the data set that "
            "image_dataset_from_directory returned, before map or prefetch"
        )
    return [str(name) for name in names]


def adopt(model: EnsembleClassifier, dataset: Any) -> None:
    """Give a classifier the class names of the data set that it is about to learn.

    Names that the user gave are kept, those of pretrained weights are replaced.

    Args:
        model: an `EnsembleClassifier`.
        dataset: what `fit` trains on; one without `class_names` changes nothing.

    Raises:
        ValueError: for more classes than the model has, or its own names in another order.
    """
    names = getattr(dataset, "class_names", None)
    if not isinstance(names, (list, tuple)) or not names:
        return
    names = [str(name) for name in names]
    if len(names) > model.num_classes:
        raise ValueError(
            f"the data set has {len(names)} classes and this model {model.num_classes}; load it with "
            f"num_classes={len(names)}"
        )
    if len(names) < model.num_classes:
        return
    if model.class_names is None or model.names_from_weights:
        model.class_names, model.names_from_weights = check_class_names(names, len(names)), False
    elif sorted(names) == sorted(model.class_names) and names != model.class_names:
        raise ValueError(
            f"the data set's labels stand for {', '.join(names[:3])}, ..., the model's class_names begin "
            f"with {', '.join(model.class_names[:3])}; load the model with class_names=dataset"
        )


def decode_predictions(
    predictions: Prediction | np.ndarray, top: int = 5, class_names: Iterable[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Tell the most probable classes of each image, as `keras.applications` does.

    Args:
        predictions: a `Prediction`; or what `model.predict` gives, an array (N, K) of probabilities or
            log-probabilities.
        top: int >= 1, classes to tell of each image. Default: 5.
        class_names: K strings. Default: None, those of the `Prediction`.

    Returns:
        For each image a list of (class id, name, probability), the most probable class first. The id is
        the class's WordNet id for ImageNet's classes, else its index.

    Raises:
        ValueError: for classes without names, or an array that is neither.

    Example:
        >>> zoo.decode_predictions(np.log([[0.7, 0.2, 0.1]]), top=1, class_names=["cat", "dog", "owl"])
        [[('0', 'cat', 0.7)]]
    """
    from zoo.uncertainty import Prediction

    if not isinstance(predictions, Prediction):
        predictions = Prediction(_probabilities(predictions)[:, None])
    names = check_class_names(
        predictions.class_names if class_names is None else class_names,
        predictions.probabilities.shape[1],
    )
    if names is None:
        raise ValueError("these classes have no names; pass class_names=model.class_names")
    ids = _ids(names)
    order = np.argsort(-predictions.probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(ids[k], names[k], float(p[k])) for k in row]
        for p, row in zip(predictions.probabilities, order)
    ]


def _probabilities(answers):
    """Probabilities of an array of probabilities or of their logarithms."""
    from zoo.checks import check_probabilities

    answers = np.asarray(answers, dtype="float64")
    if answers.ndim != 2:
        raise ValueError(f"predictions must be (N, K), as model.predict gives; got {answers.shape}")
    if answers.size and (answers <= 0).all():
        answers = np.exp(answers)
    return check_probabilities(answers).round(9) if answers.size else answers


def _ids(names):
    from importlib.resources import files

    text = (files("zoo") / "imagenet_classes.txt").read_text(encoding="utf-8")
    known = {name: wordnet for wordnet, _, name in (line.partition(" ") for line in text.splitlines())}
    if len(names) == len(known) and set(names) == set(known):
        return [known[name] for name in names]
    return [str(k) for k in range(len(names))]
