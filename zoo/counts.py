"""What a network costs, counted from its layers."""

import math
from typing import Any

import keras
from keras import ops

from zoo.converting.graphs import graph_of, rows_of
from zoo.kernel_uses import kernel_uses
from zoo.layers import sparse_layers
from zoo.layers.sparse.layers import Sparse


def parameters(network: keras.Model) -> tuple[int, int]:
    """Count a network's parameters, masked ones included.

    Args:
        network: a `keras.Model`.

    Returns:
        (trainable, all), two ints; "all" adds the moving statistics of normalisations.

    Example:
        >>> from zoo import counts
        >>> counts.parameters(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        (8, 8)
    """
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    numbers = [weight for weight in network.weights if weight.dtype != "bool"]  # the others are masks
    return trainable, sum(math.prod(weight.shape) for weight in numbers)


def nonzeros(network: keras.Model) -> int:
    """Count the trainable parameters that are not masked.

    Args:
        network: a `keras.Model`.

    Returns:
        An int.
    """
    existing = {id(layer.kernel): _existing(layer, layer.kernel) for layer in sparse_layers(network)}
    return sum(existing.get(id(w), math.prod(w.shape)) for w in network.trainable_weights)


def macs(network: keras.Model) -> int:
    """Count the multiply-accumulates (MACs) of convolutions and dense layers per image.

    Masked weights are included. Every kernel weight is used once for each position of the layer's output
    and, where members are rows of the batch, for each member. Multiplying by their rank-1 factors or
    masks is not counted, nor are the products of queries, keys and values in attention.

    Args:
        network: a `keras.Model`.

    Returns:
        An int.

    Example:
        >>> from zoo import counts
        >>> counts.macs(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        6
    """
    return sum(uses * math.prod(kernel.shape) for _, kernel, uses in _uses(network))


def sparse_macs(network: keras.Model) -> int:
    """Count the MACs of unmasked weights per image, which hardware that skips masked ones would need.

    Args:
        network: a `keras.Model`.

    Returns:
        An int.
    """
    return sum(uses * _existing(layer, kernel) for layer, kernel, uses in _uses(network))


def training_flops(
    density: float,
    epochs: float,
    recipe_epochs: float,
    *,
    dense_epochs: float = 0,
    update_every: int | None = None,
    update_batches: int = 1,
) -> float:
    """Return the theoretical FLOPs of training sparse networks, relative to training one dense network.

    A step is a forward pass and a backward pass of twice its size: 3 f instead of 3, with f the density,
    weighted by MACs. A topology update by gradients costs another 2 f + 1 for each of its batches, where
    1 is for the gradients of all weights. With one batch, steps and updates together cost
    (3 f T + 2 f + 1) / (T + 1) per iteration (Evci et al., ICML 2020, arXiv 1911.11134).

    Args:
        density: float in [0, 1], f = sum of density * MACs over layers / sum of MACs, of one network.
        epochs: number of epochs with masks, of all networks together.
        recipe_epochs: number of epochs of the dense network.
        dense_epochs: number of epochs without masks, of all networks together, before they are pruned.
            Default: 0.
        update_every: int, T, steps between two topology updates. Default: None, no updates.
        update_batches: int, the batches whose gradients an update takes; 0 if connections grow at
            random. Default: 1.

    Returns:
        A float; 1 is the cost of training the dense network.

    Example:
        >>> from zoo import counts
        >>> counts.training_flops(0.5, epochs=20, recipe_epochs=10)
        1.0
    """
    updates = update_batches * (2 * density + 1) / update_every if update_every else 0
    return (epochs * (3 * density + updates) + 3 * dense_epochs) / (3 * recipe_epochs)


def ticket_costs(
    network: keras.Model, dense: keras.Model, epochs: float, recipe_epochs: float, **training: Any
) -> dict[str, Any]:
    """Return the counted, theoretical costs of a ticket ensemble, for its card.

    Args:
        network: the ensemble's `keras.Model`, with sparse layers.
        dense: a `keras.Model`, one dense network of the same architecture.
        epochs: number of epochs with masks, of all members together: those of one run for EDST, of M
            runs for other tickets.
        recipe_epochs: number of epochs of one dense network.
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


def _existing(layer, kernel):
    """How many weights of a layer's kernel are not masked."""
    if isinstance(layer, Sparse):
        return int(ops.convert_to_numpy(layer.mask).sum())
    return math.prod(kernel.shape)


def _uses(network, rows=1):
    """(layer, kernel, how often an image makes it use each weight), nested networks' as well."""
    graph = graph_of(getattr(network, "network", network))  # a classifier's, too
    for step, rows_in, _ in rows_of(graph, training=False, rows=rows):
        layer = step.operation
        if isinstance(layer, keras.Model):  # one with a call of its own
            yield from _uses(layer, rows_in)
            continue
        shapes = step.inputs[0].shape if step.inputs else (), step.outputs[0].shape
        for kernel, count in kernel_uses(layer, *shapes):
            yield layer, kernel, int(rows_in * count)
