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


def list_models(method=None, backbone=None, dataset=None):
    """Names that `zoo.load` takes, sorted.

    Args:
        method: only this method's, such as "packed".
        backbone: only this backbone's, such as "resnet50".
        dataset: only those with weights trained on this data set, such as "cifar10".

    Raises:
        ValueError: for a method, backbone or data set that nothing has, naming those there are.
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


def parse(name):
    """(method, backbone) of a model's name.

    Raises:
        ValueError: for an unknown name, listing the nearest ones.
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


def home():
    """The folder of the weights that came with this installation or checkout."""
    return pathlib.Path(importlib.import_module("zoo.saved_models").__file__).parent


@functools.cache
def index():
    """All weights there are, as a tuple of dictionaries: name, dataset, folder, files, metrics."""
    path = home() / "index.json"
    return tuple(json.loads(path.read_text())) if path.is_file() else ()


def entries(name):
    """The weights of one model, its default first."""
    return [entry for entry in index() if entry["name"] == name]


def parameters(entry):
    """Trainable parameters of an index entry, in words: of a sparse model how many of them exist."""
    total = f"{entry['parameters']:,}"
    return f"{entry['nonzeros']:,} of {total}" if "nonzeros" in entry else total
