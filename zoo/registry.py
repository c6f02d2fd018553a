"""What there is to load: names, and the weights that exist.  Imports neither Keras nor TensorFlow."""

import difflib
import functools
import importlib
import json
import pathlib

METHODS = (
    "single", "deep_ensemble", "packed", "batch_ensemble", "mimo", "hyper_batch", "hyper_deep", "masksembles",
    "mc_dropout", "dst_tickets", "edst_tickets",
)  # fmt: skip
BACKBONES = (
    "mlp", "lenet", "cifarnet", "resnet20", "resnet18", "resnet50", "wide_resnet28_10", "efficientnet_lite0"
)  # fmt: skip


def list_models(
    method: str | None = None, backbone: str | None = None, dataset: str | None = None
) -> list[str]:
    """List the model names that `zoo.load` takes.

    Args:
        method: str, keep only models of this method, such as "packed". Default: None, all methods.
        backbone: str, keep only models on this backbone, such as "resnet50". Default: None, all
            backbones.
        dataset: str, keep only models with weights trained on this data set, such as "cifar10".
            Default: None, also models without weights.

    Returns:
        A sorted list of names, `<method>_<backbone>`.

    Raises:
        ValueError: for a method, backbone or data set that no model has; the message lists the known
            ones.

    Example:
        >>> zoo.list_models(method="packed", dataset="fashion_mnist")
        ['packed_lenet']
    """
    datasets = sorted({entry["dataset"] for entry in index()})
    for kind, value, known in (
        ("method", method, METHODS),
        ("backbone", backbone, BACKBONES),
        ("dataset", dataset, datasets),
    ):
        if value is not None and value not in known:
            raise ValueError(f"no model has {kind}={value!r}; there are {', '.join(known) or 'none'}")
    return sorted(
        f"{m}_{b}"
        for m in METHODS
        for b in BACKBONES
        if method in (None, m) and backbone in (None, b)
        and (dataset is None or any(e["dataset"] == dataset for e in entries(f"{m}_{b}")))
    )  # fmt: skip


def parse(name: str) -> tuple[str, str]:
    """Split a model name into its method and its backbone.

    Args:
        name: str, `<method>_<backbone>`.

    Returns:
        (method, backbone), two strings.

    Raises:
        ValueError: for an unknown name; the message lists the nearest ones.

    Example:
        >>> from zoo import registry
        >>> registry.parse("batch_ensemble_resnet20")
        ('batch_ensemble', 'resnet20')
    """
    for method in METHODS:
        for backbone in BACKBONES:
            if name == f"{method}_{backbone}":
                return method, backbone
    names = list_models()
    near = difflib.get_close_matches(str(name), names, n=4, cutoff=0.4) or names[:4]
    raise ValueError(
        f"unknown model {name!r}; nearest: {', '.join(near)} (zoo.list_models() has all {len(names)})"
    )


def home() -> pathlib.Path:
    """Return the folder of the weights that came with this installation or checkout."""
    return pathlib.Path(str(importlib.import_module("zoo.saved_models").__file__)).parent


@functools.cache
def index() -> tuple[dict, ...]:
    """Return the index of all published weights.

    Returns:
        A tuple of dictionaries with the keys name, dataset, folder, files and metrics, among others.
    """
    path = home() / "index.json"
    return tuple(json.loads(path.read_text())) if path.is_file() else ()


def entries(name: str) -> list[dict]:
    """Return the index entries of one model, its default weights first.

    Args:
        name: str, a model name.

    Returns:
        A list of dictionaries, empty where no weights exist.
    """
    return [entry for entry in index() if entry["name"] == name]


def parameters(entry: dict) -> str:
    """Describe the number of trainable parameters of an index entry.

    Args:
        entry: dict, one of `index()`.

    Returns:
        A string such as "61,706"; "12,000 of 61,706" for a sparse model, non-zero ones first.
    """
    total = f"{entry['parameters']:,}"
    return f"{entry['nonzeros']:,} of {total}" if "nonzeros" in entry else total
