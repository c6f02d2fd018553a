"""What the constructors of layers say to numbers that are none: one line that names the argument."""

import pytest

from zoo import layers

DENSE, CONV = {"units": 8}, {"filters": 8, "kernel_size": 3}
RANGES = {"ranges": [(0.1, 1.0)]}
CASES = [
    (layers.PackedConv2D, CONV, ("filters", "kernel_size", "num_members", "alpha", "gamma", "strides", "padding", "dilation_rate")),
    (layers.PackedConv1D, CONV, ("filters", "kernel_size", "alpha")),
    (layers.PackedDense, DENSE, ("units", "num_members", "alpha", "gamma")),
    (layers.BatchEnsembleDense, DENSE, ("num_members", "rank", "fast_weight_lr_multiplier")),
    (layers.BatchEnsembleConv2D, CONV, ("num_members", "rank", "fast_weight_lr_multiplier")),
    (layers.BatchEnsembleDepthwiseConv2D, {"kernel_size": 3}, ("num_members", "rank")),
    (layers.HyperBatchEnsembleDense, DENSE | RANGES, ("num_members", "ranges", "l2_index", "bias_l2_index")),
    (layers.HyperBatchEnsembleConv2D, CONV | RANGES, ("num_members", "ranges")),
    (layers.LogUniformHyperparameters, {"num_members": 2} | RANGES, ("num_members", "ranges", "initial_width")),
    (layers.MaskedDense, DENSE, ("num_members", "scale")),
    (layers.MaskedConv2D, CONV, ("num_members", "scale")),
    (layers.MIMOExpand, {}, ("num_members", "batch_repetitions", "input_repetition_probability")),
    (layers.MIMOHead, DENSE, ("units", "num_members", "batch_repetitions")),
    (layers.MonteCarloDropout, {}, ("rate", "num_members", "noise")),
    (layers.PerMemberBatchNormalization, {}, ("num_members", "momentum", "epsilon")),
    (layers.PackedFlatten, {"num_members": 2}, ("num_members",)),
    (layers.SplitMembers, {"num_members": 2}, ("num_members",)),
    (layers.TileMembers, {"num_members": 2}, ("num_members",)),
    (layers.MemberLogits, {"num_members": 2}, ("num_members",)),
    (layers.PatchWhitening, {}, ("kernel_size", "epsilon")),
    (layers.RandomSign, {}, ("probability",)),
    (layers.SparseDense, DENSE, ("sparsity", "block_shape")),
    (layers.SparseConv2D, CONV, ("sparsity",)),
    (layers.SparsePackedDense, DENSE, ("sparsity", "alpha")),
    (layers.SparsePackedConv2D, CONV, ("sparsity", "alpha")),
    (layers.TopologyUpdates, {"growth": "set"}, ("every", "drop_fraction", "end_step", "momentum", "batch_size")),
]  # fmt: skip


@pytest.mark.parametrize("value", ["x", float("nan"), -3, [], {}], ids=str)
@pytest.mark.parametrize(("layer", "good", "names"), CASES, ids=[case[0].__name__ for case in CASES])
def test_what_is_not_such_a_number_is_refused_by_name(layer, good, names, value, raises_line):
    layer(**good)
    for name in names:
        with raises_line(ValueError, name):
            layer(**good | {name: value})
