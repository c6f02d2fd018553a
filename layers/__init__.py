"""Keras layers of efficient ensembles.  They know nothing of the zoo and run on any backend."""

from zoo.layers.members import PackedFlatten, PerMember, SplitMembers
from zoo.layers.normalization import BatchNormalization
from zoo.layers.packed import (
    PackedConv1D,
    PackedConv2D,
    PackedDense,
    PackedDepthwiseConv2D,
)

__all__ = [
    "BatchNormalization",
    "PackedConv1D",
    "PackedConv2D",
    "PackedDense",
    "PackedDepthwiseConv2D",
    "PackedFlatten",
    "PerMember",
    "SplitMembers",
]
