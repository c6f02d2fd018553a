"""EfficientNet-Lite0: an EfficientNet (Tan & Le, ICML 2019, arXiv 1905.11946) for mobile processors.

Without squeeze-and-excitation, and with ReLU6 in place of swish; the stem and the last convolution
keep their widths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import layers

from zoo.layers.initializers import HeNormal

if TYPE_CHECKING:
    from zoo.methods import Method

# (blocks, kernel size, stride of the first block, expansion, filters) of every stage.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


def _norm(method, x, name):
    return method.norm(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)


def _relu6(method, x, name):
    return method.per_member(layers.ReLU(6.0, name=f"{name}_relu"))(x)


def _conv_norm(method, x, filters, kernel_size, strides, role, name):
    x = method.conv(
        filters, kernel_size, role, strides=strides, padding="same", use_bias=False,
        kernel_initializer=HeNormal(), name=f"{name}_conv",
    )(x)  # fmt: skip
    return _norm(method, x, name)


def _depthwise_norm(method, x, kernel_size, strides, name):
    x = method.depthwise_conv(
        kernel_size, "hidden", strides=strides, padding="same", use_bias=False,
        depthwise_initializer=HeNormal(), name=f"{name}_conv",
    )(x)  # fmt: skip
    return _norm(method, x, name)


def _block(method, x, inputs, filters, kernel_size, strides, expansion, name):
    """A 1x1 convolution that widens, a depthwise one, and a linear 1x1 convolution that narrows."""
    y = x
    if expansion > 1:
        y = _conv_norm(method, y, expansion * inputs, 1, 1, "entry", f"{name}_expand")
        y = _relu6(method, y, f"{name}_expand")
    y = _depthwise_norm(method, y, kernel_size, strides, f"{name}_depthwise")
    y = _relu6(method, y, f"{name}_depthwise")
    y = _conv_norm(method, y, filters, 1, 1, "hidden", f"{name}_project")
    if strides > 1 or inputs != filters:
        return y
    return method.per_member(layers.Add(name=f"{name}_add"))([y, x])


def efficientnet_lite0(method: Method, images: Any, stem: str = "imagenet") -> Any:
    """Seven stages of 16 inverted residual blocks, 16 to 320 filters, and 1280 features.

    The stem has stride 2, for small images (`stem="cifar"`) stride 1.  Padding is TensorFlow's "same",
    which for sides that are multiples of 32 is the static padding of the PyTorch implementations.

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: str, "imagenet" or "cifar". Default: "imagenet".

    Returns:
        The features that the head takes.
    """
    x = _conv_norm(method, images, 32, 3, 2 if stem == "imagenet" else 1, "stem", "stem")
    x, inputs = _relu6(method, x, "stem"), 32
    for stage, (blocks, kernel_size, first_strides, expansion, filters) in enumerate(_STAGES, 1):
        x = method.begin_stage(stage, x)
        for index in range(1, blocks + 1):
            strides = first_strides if index == 1 else 1
            name = f"stage{stage}_block{index}"
            x = _block(method, x, inputs, filters, kernel_size, strides, expansion, name)
            inputs = filters
    x = _conv_norm(method, x, 1280, 1, 1, "hidden", "top")
    return method.per_member(layers.GlobalAveragePooling2D(name="pool"))(_relu6(method, x, "top"))


# The stages that it announces to its method by `begin_stage`.
efficientnet_lite0.stages = 7  # type: ignore[attr-defined]
