"""Architectures, each written once for every method: `backbone(method, images, stem=...)`."""

from zoo.backbones.cifarnet import cifarnet
from zoo.backbones.efficientnet_lite import efficientnet_lite0
from zoo.backbones.resnet import resnet18, resnet20, resnet50
from zoo.backbones.simple import lenet, mlp
from zoo.backbones.wide_resnet import wide_resnet28_10

BACKBONES = {
    backbone.__name__: backbone
    for backbone in (
        mlp, lenet, cifarnet, resnet20, resnet18, resnet50, wide_resnet28_10, efficientnet_lite0
    )
}  # fmt: skip

# How many stages each announces to its method, by `enter`.
for _backbone, _stages in (
    (mlp, 1), (lenet, 2), (cifarnet, 2), (resnet20, 3), (resnet18, 4), (resnet50, 4), (wide_resnet28_10, 3),
    (efficientnet_lite0, 7),
):  # fmt: skip
    _backbone.stages = _stages

__all__ = ["BACKBONES", *BACKBONES]
