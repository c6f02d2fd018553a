"""Packed-Ensembles (Laurent et al., ICLR 2023, arXiv 2210.09184)."""

import dataclasses
from typing import Any

import keras

from zoo.array_types import LayerLike, Tensor
from zoo.layers import PackedConv2D, PackedDense, PackedDepthwiseConv2D, PackedFlatten, PerMember
from zoo.layers.grouped_convolution import separate_members
from zoo.layers.packed_rules import check_packed
from zoo.methods.method import Method


@dataclasses.dataclass(frozen=True)
class Packed(Method):
    """Packed-Ensembles: M small networks side by side, together `alpha` times as wide as one.

    Laurent et al., Packed-Ensembles for Efficient Uncertainty Estimation, ICLR 2023, arXiv 2210.09184.

    Parameters and FLOPs are about alpha^2 / (gamma * M) of the single network's. As published: the stem
    is dense over the image, the first convolution of a residual block and the head keep gamma = 1, and
    gamma falls back where a group would have fewer than 64 channels. Between the stem and the head flows
    one tensor per member or one for all, whichever the backend computes faster; weights are the same.

    Args:
        num_members: int >= 1, M. Default: 4.
        alpha: float > 0, the width of all members together, relative to the single network. Default: 2.
        gamma: int >= 1, groups inside each member. Default: 1.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> method = zoo.methods.Packed(4, alpha=2, gamma=1)
        >>> model = zoo.build(method, "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('packed_mlp', (None, 4, 3))
    """

    num_members: int = 4
    alpha: float = 2
    gamma: int = 1
    name = "packed"

    def __post_init__(self):
        check_packed(self.num_members, self.alpha, self.gamma)

    def _layer(self, layer, size, role, options):
        gamma = 1 if role in ("stem", "entry", "head") else self.gamma
        role = "hidden" if role == "entry" else role
        options["separate_outputs"] = role == "stem" and separate_members()
        return layer(*size, self.num_members, self.alpha, gamma, role=role, **options)

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._layer(PackedConv2D, (filters, kernel_size), role, options)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return PackedDepthwiseConv2D(kernel_size, **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self._layer(PackedDense, (units,), role, options)

    def per_member(self, layer: keras.Layer) -> LayerLike:
        if separate_members():
            return PerMember(layer, name=layer.name)
        flatten = isinstance(layer, keras.layers.Flatten)
        return PackedFlatten(self.num_members, name=layer.name) if flatten else layer

    def members(self, logits: Any) -> Tensor:
        return logits
