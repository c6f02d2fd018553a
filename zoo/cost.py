"""What a network costs, counted from its layers."""

import math

from zoo.layers import MemberLogits, TileMembers


def parameters(network):
    """(trainable, all) parameters; "all" adds the moving statistics of normalisations."""
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    return trainable, sum(math.prod(weight.shape) for weight in network.weights)


def macs(network):
    """Multiply-accumulates of convolutions and dense layers for one image.

    Every kernel weight is used once for each position of the layer's output and, where members are rows
    of the batch, for each of them; multiplying by their rank-1 factors or masks is not counted.
    """
    total, rows = 0, 1
    for layer in network.layers:  # in the order of computation
        if isinstance(layer, TileMembers) and not isinstance(layer, MemberLogits):
            rows = layer.num_members
        elif getattr(layer, "kernel", None) is not None:
            passes = getattr(layer, "kernel_passes", 1)
            total += rows * passes * math.prod(layer.kernel.shape) * _positions(layer)
    return total


def _positions(layer):
    shape = layer.output[0].shape if isinstance(layer.output, list) else layer.output.shape
    rank = getattr(layer, "rank", 0)  # of a convolution; dense layers have one position
    return math.prod(shape[-1 - rank : -1])
