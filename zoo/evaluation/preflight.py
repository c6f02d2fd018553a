"""What `zoo evaluate` can refuse at once: checks that import no backend."""

import pathlib
from collections.abc import Sequence
from typing import Any

from zoo.data.presence import check_present
from zoo.evaluation.cached_models import find_models

# By the data set that a model was trained on, as (group, name).  Names are TensorFlow Datasets'.
_FAR = (("far", "mnist"), ("far", "fashion_mnist"), ("far", "svhn_cropped"))
PROTOCOLS = {
    "cifar10": (("near", "cifar100"), *_FAR),
    "cifar100": (("near", "cifar10"), *_FAR),
    "tiny_imagenet": _FAR,  # classes of CIFAR are among its own
    "mnist": (("near", "fashion_mnist"), ("far", "cifar10"), ("far", "svhn_cropped")),
    "fashion_mnist": (("near", "mnist"), ("far", "cifar10"), ("far", "svhn_cropped")),
}


def check(
    names: Sequence[str], dataset: str, data_dir: Any, report: Any, corrupted: int, rounds: int
) -> list:
    """Check the arguments of `zoo.evaluation.evaluate.evaluate`, and find the models.

    Args:
        names: models' names or folders of runs, trained on `dataset`.
        dataset: str, one of `PROTOCOLS`.
        data_dir: str or path of the data sets.
        report: str or path of the folder to write to.
        corrupted: int >= 0, images to corrupt.
        rounds: int >= 0, timed calls.

    Returns:
        A list of `zoo.evaluation.cached_models.CachedModel`s, not loaded.

    Raises:
        ValueError: for an unknown data set or model, or a number < 0.
        FileNotFoundError: if the data set or a folder is not there.
    """
    if dataset not in PROTOCOLS:
        raise ValueError(f"unknown data set {dataset!r}; there are {', '.join(PROTOCOLS)}")
    for what, value in (("corrupted is a number of images", corrupted), ("rounds is a number", rounds)):
        if value < 0:
            raise ValueError(f"{what} >= 0; got {value}")
    folder = pathlib.Path(report)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{report} is not a folder; pass a folder to write the report to")
    check_present(dataset, data_dir)
    return find_models(names, dataset, folder / "cache")
