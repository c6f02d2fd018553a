"""What a network costs, counted from its layers."""

import math

import keras
from keras import ops

from zoo.layers import MemberLogits, TileMembers, sparse_layers
from zoo.layers.sparse.layers import Sparse


def parameters(network):
    """(trainable, all) parameters, masked ones among them; "all" adds normalisations' moving statistics."""
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    numbers = [weight for weight in network.weights if weight.dtype != "bool"]  # others are masks
    return trainable, sum(math.prod(weight.shape) for weight in numbers)


def nonzeros(network):
    """Trainable parameters that exist: those of sparse kernels that are not masked, and all others."""
    existing = {id(layer.kernel): _existing(layer) for layer in sparse_layers(network)}
    return sum(existing.get(id(w), math.prod(w.shape)) for w in network.trainable_weights)


def macs(network):
    """Multiply-accumulates of convolutions and dense layers for one image, masked weights included.

    Every kernel weight is used once for each position of the layer's output and, where members are rows
    of the batch, for each of them; multiplying by their rank-1 factors or masks is not counted.
    """
    return sum(uses * math.prod(layer.kernel.shape) for layer, uses in _uses(network))


def sparse_macs(network):
    """`macs` of the weights that exist: what hardware would need that skips masked ones."""
    return sum(uses * _existing(layer) for layer, uses in _uses(network))


def training_flops(density, epochs, recipe_epochs, *, dense_epochs=0, update_every=None,
                   update_batches=1):  # fmt: skip
    """FLOPs of training sparse networks, relative to training one dense network: theoretical.

    A forward pass and two of its size backward a step: 3 f of 3, with f the density, weighted by MACs.
    A topology update by gradients costs, beside the steps, a batch of 2 f + 1, of which 1 are the
    gradients by all weights; steps and updates together are (3 f T + 2 f + 1) / (T + 1) an
    iteration (Evci et al., ICML 2020, arXiv 1911.11134).

    Args:
        density: f = sum of density * MACs over layers / sum of MACs, of one network.
        epochs: with masks, of all networks together.
        recipe_epochs: of the dense network.
        dense_epochs: without masks, of all networks together, before they are pruned.
        update_every: T, steps between two updates; None for none.
        update_batches: of which an update takes gradients: 0 where connections grow at random.

    Returns:
        A number; 1 is the dense network's.
    """
    updates = update_batches * (2 * density + 1) / update_every if update_every else 0
    return (epochs * (3 * density + updates) + 3 * dense_epochs) / (3 * recipe_epochs)


def ticket_costs(network, dense, epochs, recipe_epochs, **training):
    """What a card says of a ticket ensemble's cost: counted, theoretical.

    Args:
        network: of the ensemble, with sparse layers.
        dense: one dense network of the same architecture.
        epochs: with masks, of all members together: one run's of EDST, M runs' of others.
        recipe_epochs: of one dense network.
        training: `dense_epochs`, `update_every` and `update_batches`, see `training_flops`.

    Returns:
        A dictionary: `nonzeros`; `dense_bytes`, four for each number in M dense networks;
        `inference_flops` and `training_flops`, relative to one dense network.
    """
    existing = sparse_macs(network)
    flops = training_flops(existing / macs(network), epochs, recipe_epochs, **training)
    return {
        "nonzeros": nonzeros(network),
        "dense_bytes": 4 * parameters(dense)[1] * network.output_shape[1],
        "inference_flops": round(existing / macs(dense), 4),
        "training_flops": round(flops, 4),
    }


def _existing(layer):
    """How many weights a layer's kernel has that are not masked."""
    if isinstance(layer, Sparse):
        return int(ops.convert_to_numpy(layer.mask).sum())
    return math.prod(layer.kernel.shape)


def _uses(network, rows=1):
    """(layer with a kernel, how often an image makes it use each weight), nested networks' as well."""
    for layer in network.layers:  # in the order of computation
        if isinstance(layer, TileMembers) and not isinstance(layer, MemberLogits):
            rows = layer.num_members
        elif isinstance(layer, keras.Model):
            yield from _uses(layer, rows)
        elif getattr(layer, "kernel", None) is not None:
            yield layer, rows * getattr(layer, "kernel_passes", 1) * _positions(layer)


def _positions(layer):
    shape = layer.output[0].shape if isinstance(layer.output, list) else layer.output.shape
    rank = getattr(layer, "rank", 0)  # of a convolution; dense layers have one position
    return math.prod(shape[-1 - rank : -1])
