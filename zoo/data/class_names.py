"""Names of classes: where they come from, and which of them a classifier has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from zoo.checks import check_class_names


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
            raise ValueError(
                f"class_names={str(source)!r} is not a folder with a subfolder for each class"
            )
        return names
    names = getattr(source, "class_names", source)
    if names is source and (hasattr(source, "element_spec") or not isinstance(source, Iterable)):
        raise ValueError(
            "this data set has no class_names; take those of the data set that "
            "image_dataset_from_directory returned, before map or prefetch"
        )
    return [str(name) for name in names]


def adopt(model: Any, dataset: Any) -> None:
    """Give a classifier the class names of the data set that it is about to be trained on.

    Names that the user gave are kept, those of pretrained weights are replaced.

    Args:
        model: an `EnsembleClassifier`.
        dataset: what `fit` trains on; one without `class_names` changes nothing.

    Raises:
        ValueError: for more classes than the model has, or its own names in another order.
    """
    names = names_in(dataset)
    if not names:
        return
    if len(names) > model.num_classes:
        raise ValueError(
            f"the data set has {len(names)} classes and this model {model.num_classes}; load it with "
            f"num_classes={len(names)}"
        )
    if len(names) < model.num_classes:
        check_order(model, names)
        return
    if model.class_names is None or model.names_from_weights:
        model.class_names, model.names_from_weights = check_class_names(names, len(names)), False
    else:
        check_order(model, names)


def names_in(dataset: Any) -> list[str] | None:
    """Return the class names of a data set that has some, such as Keras's of a directory; else None.

    Args:
        dataset: any object.
    """
    names = getattr(dataset, "class_names", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) and names else None


def check_order(model: Any, names: list[str] | None) -> None:
    """Check that a data set's labels stand for the same classes as the model's.

    Args:
        model: an `EnsembleClassifier`.
        names: the data set's class names, in the order of its labels, or None. Names that the model does
            not have pass.

    Raises:
        ValueError: for names of the model in another order, or some of them at other places.
    """
    known = list(model.class_names or ())
    if names and set(names) <= set(known) and names != known[: len(names)]:
        raise ValueError(
            f"the data set's labels stand for {', '.join(names[:3])}{', ...' * (len(names) > 3)}, the model's begin "
            f"with {', '.join(known[:3])}; give both the same names, as by image_dataset_from_directory(..., "
            "class_names=model.class_names), or load the model with class_names=dataset"
        )
