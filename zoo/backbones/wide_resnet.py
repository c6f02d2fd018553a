"""Wide ResNet 28-10 (Zagoruyko & Komodakis, 2016), pre-activation.

As in uncertainty-baselines, whose parameter count (36,497,146 with moving statistics for CIFAR-10)
this network reproduces: no normalisation in the stem, and the 1x1 shortcut takes the block's raw
input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import layers

from zoo.layers.initializers import HeNormal

if TYPE_CHECKING:
    from zoo.methods import Method


def _conv(method, x, filters, kernel_size, strides, role, name):
    return method.conv(
        filters, kernel_size, role, strides=strides, padding="same", use_bias=False,
        kernel_initializer=HeNormal(), name=f"{name}_conv",
    )(x)  # fmt: skip


def _norm_relu(method, x, name):
    x = method.norm(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return method.per_member(layers.ReLU(name=f"{name}_relu"))(x)


def _block(method, x, filters, strides, project, name):
    y = _norm_relu(method, x, f"{name}_1")
    y = _conv(method, y, filters, 3, strides, "hidden", f"{name}_1")
    y = _norm_relu(method, y, f"{name}_2")
    y = _conv(method, y, filters, 3, 1, "hidden", f"{name}_2")
    if project:
        x = _conv(method, x, filters, 1, strides, "shortcut", f"{name}_shortcut")
    return method.per_member(layers.Add(name=f"{name}_add"))([x, y])


def wide_resnet28_10(method: Method, images: Any, stem: str | None = "cifar") -> Any:
    """Wide ResNet 28-10: three stages of four blocks with 160, 320 and 640 filters.

    Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146.

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: str, "cifar" or "imagenet". Default: "cifar".

    Returns:
        The features that the head takes.
    """
    large = stem == "imagenet"
    x = _conv(method, images, 16, 7 if large else 3, 2 if large else 1, "stem", "stem")
    if large:
        x = method.per_member(layers.MaxPooling2D(3, 2, padding="same", name="stem_pool"))(x)
    for stage, filters in enumerate((160, 320, 640)):
        x = method.begin_stage(stage + 1, x)
        for index in range(4):
            strides = 2 if stage and not index else 1
            name = f"stage{stage + 1}_block{index + 1}"
            x = _block(method, x, filters, strides, not index, name)
    x = _norm_relu(method, x, "final")
    return method.per_member(layers.GlobalAveragePooling2D(name="pool"))(x)


# The stages that it announces to its method by `begin_stage`.
wide_resnet28_10.stages = 3  # type: ignore[attr-defined]
