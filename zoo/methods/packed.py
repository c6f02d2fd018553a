"""Packed-Ensembles (Laurent et al., ICLR 2023, arXiv 2210.09184)."""

import dataclasses

import keras

from zoo.layers import PackedConv2D, PackedDense, PackedDepthwiseConv2D, PackedFlatten, PerMember
from zoo.layers.grouped_convolution import separate_members
from zoo.methods.single import Single


@dataclasses.dataclass(frozen=True)
class Packed(Single):
    """`num_members` small networks side by side, of `alpha` times the single network's width.

    Parameters and FLOPs are about alpha^2 / (gamma * M) of the single network's.  As published:
    the stem is dense over the image, the first convolution of a residual block and the head keep
    gamma = 1, and gamma falls back under 64 channels a group.  What flows from the stem to the head is
    one tensor a member or one for all, whichever the backend computes faster; weights are the same.

    Args:
        num_members: M >= 1.
        alpha: width of all members together, > 0.
        gamma: groups inside each member, an integer >= 1.

    Raises:
        ValueError: for an argument out of range.
    """

    num_members: int = 4
    alpha: float = 2
    gamma: int = 1
    name = "packed"

    def __post_init__(self):
        self.dense(1)  # its checks are ours

    def _layer(self, layer, size, role, options):
        gamma = 1 if role in ("stem", "entry", "head") else self.gamma
        role = "hidden" if role == "entry" else role
        options["separate_outputs"] = role == "stem" and separate_members()
        return layer(*size, self.num_members, self.alpha, gamma, role=role, **options)

    def conv(self, filters, kernel_size, role="hidden", **options):
        return self._layer(PackedConv2D, (filters, kernel_size), role, options)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        return PackedDepthwiseConv2D(kernel_size, **options)

    def dense(self, units, role="hidden", **options):
        return self._layer(PackedDense, (units,), role, options)

    def per_member(self, layer):
        if separate_members():
            return PerMember(layer, name=layer.name)
        flatten = isinstance(layer, keras.layers.Flatten)
        return PackedFlatten(self.num_members, name=layer.name) if flatten else layer

    def members(self, logits):
        return logits
