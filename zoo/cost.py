"""What a network costs, counted from its layers."""

import math


def parameters(network):
    """(trainable, all) parameters; "all" adds the moving statistics of normalisations."""
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    return trainable, sum(math.prod(weight.shape) for weight in network.weights)


def macs(network):
    """Multiply-accumulates of convolutions and dense layers for one image.

    Every kernel weight is used once for each position of the layer's output.
    """
    return sum(
        math.prod(layer.kernel.shape) * _positions(layer)
        for layer in network.layers
        if getattr(layer, "kernel", None) is not None
    )


def _positions(layer):
    shape = layer.output[0].shape if isinstance(layer.output, list) else layer.output.shape
    rank = getattr(layer, "rank", 0)  # of a convolution; dense layers have one position
    return math.prod(shape[-1 - rank : -1])
