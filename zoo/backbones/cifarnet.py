"""Cifarnet: a small network that reaches 94 % on CIFAR-10 in minutes (Jordan, 2024, arXiv 2404.00498)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import layers

from zoo.array_types import Tensor
from zoo.layers import PatchWhitening
from zoo.layers.initializers import PartialIdentity

if TYPE_CHECKING:
    from zoo.methods import Method


def whitened(images: Tensor) -> Tensor:
    """Return what every member of a cifarnet reads: fixed features of 2x2 patches.

    Args:
        images: symbolic tensor (B, H, W, C), normalised.

    Returns:
        A symbolic tensor.
    """
    x = PatchWhitening(name="whitening")(images)
    return layers.Activation("gelu", name="whitening_gelu")(x)


def cifarnet(method: Method, images: Any, stem: str | None = None) -> Any:
    """Cifarnet: three stages of two convolutions with 64, 256 and 256 filters, each stage pooled by two.

    The network of airbench94 (Jordan, 2024, arXiv 2404.00498): whitened patches, convolutions that start
    as partial identities, normalisations without a scale, GELU, and features divided by nine before the
    head.

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: ignored. Default: None.

    Returns:
        The features that the head takes.
    """
    x = images
    for stage, filters in enumerate((64, 256, 256)):
        x = method.begin_stage(stage, x) if stage else x
        for index in (1, 2):
            name = f"stage{stage + 1}_{index}"
            x = method.conv(
                filters, 3, "hidden" if stage or index > 1 else "stem", padding="same",
                use_bias=False, kernel_initializer=PartialIdentity(), name=f"{name}_conv",
            )(x)  # fmt: skip
            if index == 1:
                x = method.per_member(layers.MaxPooling2D(name=f"{name}_pool"))(x)
            x = method.norm(scale=False, momentum=0.6, epsilon=1e-5, name=f"{name}_norm")(x)
            x = method.per_member(layers.Activation("gelu", name=f"{name}_gelu"))(x)
    x = method.per_member(layers.GlobalMaxPooling2D(name="pool"))(x)
    return method.per_member(layers.Rescaling(1 / 9, name="scale"))(x)


cifarnet.stages = 2  # type: ignore[attr-defined]
cifarnet.preprocess = whitened  # type: ignore[attr-defined]
