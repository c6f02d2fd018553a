"""Architectures, each written once for every method: `backbone(method, images, stem=...)`."""

from zoo.backbones.cifarnet import cifarnet
from zoo.backbones.efficientnet_lite import efficientnet_lite0
from zoo.backbones.resnet import resnet18, resnet20, resnet50
from zoo.backbones.simple import lenet, mlp
from zoo.backbones.wide_resnet import wide_resnet28_10
from zoo.names import BACKBONES

__all__ = [
    "BACKBONES",
    "cifarnet",
    "efficientnet_lite0",
    "lenet",
    "mlp",
    "resnet18",
    "resnet20",
    "resnet50",
    "wide_resnet28_10",
]
