"""Diversity of members in parameter space: each member's weights, however layers share them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


def member_weights(model: EnsembleClassifier) -> dict[str, np.ndarray]:
    """Return the trainable weights that each member of a model computes with.

    In layers that members share, each has its effective kernel: for BatchEnsemble the kernel times its
    rank-1 factors, for hyper-batch ensembles that of its mean hyperparameters, for Masksembles the
    kernel with 0 for inputs that the member does not see, for MIMO its part of the first layer and of
    the head. MC dropout's members share all weights.

    Args:
        model: an `EnsembleClassifier`, `zoo.ensemble`'s included, or its network.

    Returns:
        {"layer/variable": float32 array (M, *shape)}, in the order of the layers.

    Raises:
        ValueError: for joined models whose members are of different architectures, a layer whose number
            of members is not the model's, or a model that is all frozen.

    Example:
        >>> model = zoo.build(zoo.methods.BatchEnsemble(3), "mlp", input_shape=(4, 4, 1))
        >>> zoo.metrics.member_weights(model)["head/kernel"].shape
        (3, 200, 10)
    """
    network: Any = getattr(model, "network", model)
    if len(network.output_shape) != 3:
        raise ValueError(f"the model must give member logits (B, M, K); it gives {network.output_shape}")
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if nested:
        return _joined([member_weights(part) for part in nested])
    view = _Network(network)
    copies = _copies(network)
    weights = {}
    for layer in network.layers:
        if not layer.trainable_variables or layer.name in copies:
            continue
        for name, values in view.weights_of(layer).items():
            if len(values) != view.members:
                raise ValueError(
                    f"{layer.name} has {len(values)} members in a model of {view.members}; their weights "
                    "cannot be separated"
                )
            weights[f"{layer.name}/{name}"] = values
    weights |= _of_copies(network, copies)
    if not weights:
        raise ValueError("the model has no trainable weights; set trainable = True where it is frozen")
    return weights


def weight_cosine(model: EnsembleClassifier) -> np.ndarray:
    """Return the cosine of every two members' weights, each member's taken as one vector.

    Shared weights are included, so members that share much are similar. Networks that compute the same
    with units in another order have a small cosine: compare those by CKA or disagreement.

    Args:
        model: an `EnsembleClassifier`, or its network.

    Returns:
        Float64 array (M, M).

    Raises:
        ValueError: see `member_weights`.

    Example:
        >>> model = zoo.build(zoo.methods.MCDropout(2), "mlp", input_shape=(4, 4, 1))
        >>> zoo.metrics.weight_cosine(model).round(3).tolist()  # all weights are shared
        [[1.0, 1.0], [1.0, 1.0]]
    """
    products = _products(model)
    norms = np.sqrt(np.diag(products))
    return products / np.outer(norms, norms)


def weight_distance(model: EnsembleClassifier) -> np.ndarray:
    """Return the Euclidean distance of every two members' weights, each member's taken as one vector.

    Args:
        model: an `EnsembleClassifier`, or its network.

    Returns:
        Float64 array (M, M).

    Raises:
        ValueError: see `member_weights`.

    Example:
        >>> model = zoo.build(zoo.methods.MCDropout(2), "mlp", input_shape=(4, 4, 1))
        >>> zoo.metrics.weight_distance(model).tolist()  # all weights are shared
        [[0.0, 0.0], [0.0, 0.0]]
    """
    values = [v.reshape(len(v), -1) for v in member_weights(model).values()]
    members = len(values[0])
    squares = np.zeros((members, members))
    for v in values:
        for i in range(members):
            squares[i] += np.square(v[i].astype("float64") - v).sum(axis=1)
    return np.sqrt(squares)


def _products(model):
    """(M, M) dot products of members' weights."""
    values = (v.reshape(len(v), -1).astype("float64") for v in member_weights(model).values())
    return sum(v @ v.T for v in values)


class _Network:
    """What a plain layer's weights mean depends on its network: members side by side, or MIMO's stem."""

    def __init__(self, network):
        self.network, self.members = network, network.output_shape[1]
        side_by_side = (getattr(layer, "members_side_by_side", False) for layer in network.layers)
        self.packed = any(side_by_side)
        self.mimo_stem = None
        copies = [getattr(layer, "channel_copies", 1) > 1 for layer in network.layers]
        if any(copies):
            after = network.layers[copies.index(True) :]
            self.mimo_stem = next(layer for layer in after if hasattr(layer, "kernel"))

    def weights_of(self, layer):
        """{name: (M, *shape)}; a layer that does not say so is shared, or members' channels side by side."""
        values = _values(layer)
        if hasattr(layer, "member_weights"):
            return layer.member_weights(values, self.network)
        if self.packed:
            return {n: np.stack(np.array_split(v, self.members, axis=-1)) for n, v in values.items()}
        result = {n: np.broadcast_to(v, (self.members, *v.shape)) for n, v in values.items()}
        if layer is self.mimo_stem:  # channel c of member m is channel c M + m
            kernel = values["kernel"]
            result["kernel"] = np.stack([kernel[..., m :: self.members, :] for m in range(self.members)])
        return result


def _joined(parts):
    """Members of several networks under one another."""
    shapes = [[(v.shape[1:]) for v in part.values()] for part in parts]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("members of different architectures have no weights that could be compared")
    rows = zip(*(part.values() for part in parts))
    return {name: np.concatenate(row) for name, row in zip(parts[0], rows)}


def _copies(network):
    """{name: (member, name without it)} of the layers that `zoo.convert` made for each member alone."""
    end = network.layers[-1]
    if not isinstance(end, keras.layers.Concatenate):
        return {}
    found = ((layer.name, re.fullmatch(r"member(\d+)_(.+)", layer.name)) for layer in network.layers)
    return {name: (int(match[1]), match[2]) for name, match in found if match}


def _of_copies(network, copies):
    """{"layer/variable": (M, *shape)} of layers that are copied for each member."""
    by_name = {}
    for name, (member, common) in copies.items():
        by_name.setdefault(common, {})[member] = _values(network.get_layer(name))
    weights = {}
    for common, members in by_name.items():
        ordered = [members[m] for m in sorted(members)]
        weights |= {f"{common}/{name}": np.stack([v[name] for v in ordered]) for name in ordered[0]}
    return weights


def _values(layer):
    """{name: NumPy array} of a layer's trainable variables."""
    variables = layer.trainable_variables
    unique = len({v.name for v in variables}) == len(variables)
    names = [v.name if unique else f"{v.name}_{i}" for i, v in enumerate(variables)]
    return {n: ops.convert_to_numpy(v).astype("float32") for n, v in zip(names, variables)}
