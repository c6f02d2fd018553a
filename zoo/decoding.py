"""`zoo.decode_predictions`: answers by class name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

import numpy as np

from zoo.checks import check_class_names, check_probabilities
from zoo.uncertainty import Prediction


def decode_predictions(
    predictions: Prediction | np.ndarray, top: int = 5, class_names: Iterable[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Return the most probable classes of each image, as `keras.applications` does.

    Args:
        predictions: a `Prediction`; or what `model.predict` gives, an array (N, K) of probabilities or
            log-probabilities.
        top: int >= 1, classes per image. Default: 5.
        class_names: K strings. Default: None, those of the `Prediction`.

    Returns:
        For each image a list of (class id, name, probability), the most probable class first. The id is
        the class's WordNet id for ImageNet's classes, else its index.

    Raises:
        ValueError: for classes without names, an array of neither probabilities nor their logarithms, or
            a `top` below 1.

    Example:
        >>> zoo.decode_predictions(np.log([[0.7, 0.2, 0.1]]), top=1, class_names=["cat", "dog", "owl"])
        [[('0', 'cat', 0.7)]]
    """
    if not (isinstance(top, (int, np.integer)) and top >= 1):
        raise ValueError(f"top must be an integer >= 1; got {top!r}")
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
    answers = np.asarray(answers, dtype="float64")
    if answers.ndim != 2:
        raise ValueError(f"predictions must be (N, K), as model.predict gives; got {answers.shape}")
    if answers.size and (answers <= 0).all():
        answers = np.exp(answers)
    return check_probabilities(answers).round(9) if answers.size else answers


def _ids(names):
    text = (files("zoo") / "imagenet_classes.txt").read_text(encoding="utf-8")
    known = {name: wordnet for wordnet, _, name in (line.partition(" ") for line in text.splitlines())}
    if len(names) == len(known) and set(names) == set(known):
        return [known[name] for name in names]
    return [str(k) for k in range(len(names))]
