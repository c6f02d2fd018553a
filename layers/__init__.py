"""Keras layers of efficient ensembles.  They know nothing of the zoo and run on any backend."""

from zoo.layers.batch_ensemble import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    RandomSign,
)
from zoo.layers.hyper_batch import (
    HyperBatchEnsembleConv2D,
    HyperBatchEnsembleDense,
    LogUniformHyperparameters,
)
from zoo.layers.masksembles import MaskedConv2D, MaskedDense
from zoo.layers.members import PackedFlatten, PerMember, SplitMembers
from zoo.layers.mimo import MIMOExpand, MIMOHead
from zoo.layers.monte_carlo import MonteCarloDropout
from zoo.layers.normalization import BatchNormalization, PerMemberBatchNormalization
from zoo.layers.packed import (
    PackedConv1D,
    PackedConv2D,
    PackedDense,
    PackedDepthwiseConv2D,
)
from zoo.layers.rows import MemberLogits, TileMembers

__all__ = [
    "BatchEnsembleConv2D",
    "BatchEnsembleDense",
    "BatchEnsembleDepthwiseConv2D",
    "BatchNormalization",
    "HyperBatchEnsembleConv2D",
    "HyperBatchEnsembleDense",
    "LogUniformHyperparameters",
    "MIMOExpand",
    "MIMOHead",
    "MaskedConv2D",
    "MaskedDense",
    "MemberLogits",
    "MonteCarloDropout",
    "PackedConv1D",
    "PackedConv2D",
    "PackedDense",
    "PackedDepthwiseConv2D",
    "PackedFlatten",
    "PerMember",
    "PerMemberBatchNormalization",
    "RandomSign",
    "SplitMembers",
    "TileMembers",
]
