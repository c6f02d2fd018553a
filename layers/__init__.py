"""Keras layers of efficient ensembles.  They know nothing of the zoo and run on any backend."""

from zoo.layers.batch_ensemble import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    RandomSign,
)
from zoo.layers.grouped_convolution import set_grouped_convolution
from zoo.layers.hyper_batch import HyperBatchEnsembleConv2D, HyperBatchEnsembleDense
from zoo.layers.hyperparameters import LogUniformHyperparameters
from zoo.layers.masksembles import MaskedConv2D, MaskedDense
from zoo.layers.member_lists import PackedFlatten, PerMember, SplitMembers
from zoo.layers.mimo import MIMOExpand, MIMOHead
from zoo.layers.monte_carlo import MonteCarloDropout
from zoo.layers.normalization import BatchNormalization, PerMemberBatchNormalization
from zoo.layers.packed import PackedDense
from zoo.layers.packed_convolutions import PackedConv1D, PackedConv2D, PackedDepthwiseConv2D
from zoo.layers.repaired import Repaired as Repaired
from zoo.layers.sparse.dense_gradients import dense_gradients
from zoo.layers.sparse.densities import erk_densities
from zoo.layers.sparse.layers import (
    SparseConv2D,
    SparseDense,
    SparseDepthwiseConv2D,
    SparsePackedConv1D,
    SparsePackedConv2D,
    SparsePackedDense,
    sparse_layers,
)
from zoo.layers.sparse.pruning import MagnitudePruning, prune_by_magnitude
from zoo.layers.sparse.sparsify import densify, sparsify
from zoo.layers.sparse.topology import TopologyUpdates, cosine_drop, update_topology
from zoo.layers.tiling import MemberLogits, TileMembers
from zoo.layers.whitening import PatchWhitening

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
    "MagnitudePruning",
    "MaskedConv2D",
    "MaskedDense",
    "MemberLogits",
    "MonteCarloDropout",
    "PackedConv1D",
    "PackedConv2D",
    "PackedDense",
    "PackedDepthwiseConv2D",
    "PackedFlatten",
    "PatchWhitening",
    "PerMember",
    "PerMemberBatchNormalization",
    "RandomSign",
    "SparseConv2D",
    "SparseDense",
    "SparseDepthwiseConv2D",
    "SparsePackedConv1D",
    "SparsePackedConv2D",
    "SparsePackedDense",
    "SplitMembers",
    "TileMembers",
    "TopologyUpdates",
    "cosine_drop",
    "dense_gradients",
    "densify",
    "erk_densities",
    "prune_by_magnitude",
    "set_grouped_convolution",
    "sparse_layers",
    "sparsify",
    "update_topology",
]
