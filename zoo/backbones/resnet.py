"""ResNets (He et al., 2016): 20 for CIFAR, 18 and 50 with either stem, stride on the 3x3 (v1.5).

Every shortcut that changes shape is a 1x1 convolution, as in torch-uncertainty, whose parameter
counts these networks reproduce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import layers

from zoo.layers.initializers import HeNormal

if TYPE_CHECKING:
    from zoo.methods import Method


def _conv_norm(method, x, filters, kernel_size, strides, role, name):
    x = method.conv(
        filters, kernel_size, role, strides=strides, padding="same", use_bias=False,
        kernel_initializer=HeNormal(), name=f"{name}_conv",
    )(x)  # fmt: skip
    return method.norm(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def _relu(method, x, name):
    return method.per_member(layers.ReLU(name=f"{name}_relu"))(x)


def _join(method, x, shortcut, filters, strides, project, name):
    if project:
        shortcut = _conv_norm(method, shortcut, filters, 1, strides, "shortcut", f"{name}_shortcut")
    x = method.per_member(layers.Add(name=f"{name}_add"))([x, shortcut])
    return _relu(method, x, name)


def _basic(method, x, filters, strides, project, name):
    y = _conv_norm(method, x, filters, 3, strides, "entry", f"{name}_1")
    y = _relu(method, y, f"{name}_1")
    y = _conv_norm(method, y, filters, 3, 1, "hidden", f"{name}_2")
    return _join(method, y, x, filters, strides, project, name)


def _bottleneck(method, x, filters, strides, project, name):
    y = _conv_norm(method, x, filters, 1, 1, "entry", f"{name}_1")
    y = _relu(method, y, f"{name}_1")
    y = _conv_norm(method, y, filters, 3, strides, "hidden", f"{name}_2")
    y = _relu(method, y, f"{name}_2")
    y = _conv_norm(method, y, 4 * filters, 1, 1, "hidden", f"{name}_3")
    return _join(method, y, x, 4 * filters, strides, project, name)


def _stem(method, images, filters, stem):
    large = stem == "imagenet"
    x = _conv_norm(method, images, filters, 7 if large else 3, 2 if large else 1, "stem", "stem")
    x = _relu(method, x, "stem")
    if large:
        x = method.per_member(layers.MaxPooling2D(3, 2, padding="same", name="stem_pool"))(x)
    return x


def _resnet(method, images, stem, block, widths, depths):
    x = _stem(method, images, widths[0], stem)
    for stage, (filters, depth) in enumerate(zip(widths, depths)):
        x = method.begin_stage(stage + 1, x)
        for index in range(depth):
            strides = 2 if stage and not index else 1
            project = strides > 1 or (not index and block is _bottleneck)
            x = block(method, x, filters, strides, project, f"stage{stage + 1}_block{index + 1}")
    return method.per_member(layers.GlobalAveragePooling2D(name="pool"))(x)


def resnet20(method: Method, images: Any, stem: str | None = "cifar") -> Any:
    """ResNet-20: three stages of three basic blocks with 16, 32 and 64 filters (He et al., CVPR 2016).

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: str, "cifar" or "imagenet". Default: "cifar".

    Returns:
        The features that the head takes.
    """
    return _resnet(method, images, stem, _basic, (16, 32, 64), (3, 3, 3))


def resnet18(method: Method, images: Any, stem: str | None = "cifar") -> Any:
    """ResNet-18: four stages of two basic blocks with 64 to 512 filters (He et al., CVPR 2016).

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: str, "cifar" or "imagenet". Default: "cifar".

    Returns:
        The features that the head takes.
    """
    return _resnet(method, images, stem, _basic, (64, 128, 256, 512), (2, 2, 2, 2))


def resnet50(method: Method, images: Any, stem: str | None = "cifar") -> Any:
    """ResNet-50: four stages of 3, 4, 6 and 3 bottlenecks, 256 to 2048 outputs (He et al., CVPR 2016).

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: str, "cifar" or "imagenet". Default: "cifar".

    Returns:
        The features that the head takes.
    """
    return _resnet(method, images, stem, _bottleneck, (64, 128, 256, 512), (3, 4, 6, 3))


# The stages that each announces to its method by `begin_stage`.
resnet20.stages = 3  # type: ignore[attr-defined]
resnet18.stages = 4  # type: ignore[attr-defined]
resnet50.stages = 4  # type: ignore[attr-defined]
