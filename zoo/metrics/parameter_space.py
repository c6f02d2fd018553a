"""Diversity of members in parameter space: their own weights, out of however layers share them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from zoo import layers as zoo_layers
from zoo.layers.batch_ensemble import _FastWeights
from zoo.layers.hyper_batch import _HyperBatchEnsemble
from zoo.layers.masksembles import _Masked
from zoo.layers.packed import _Packed

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


def member_weights(model: EnsembleClassifier) -> dict[str, np.ndarray]:
    """Return the trainable weights that each member of a model computes with.

    Of layers that members share each gets its effective kernel: BatchEnsemble the kernel times its
    rank-1 factors, hyper-batch ensembles that of its mean hyperparameters, Masksembles the kernel with 0
    for inputs that the member does not see, MIMO its own part of the first layer and of the head. MC
    dropout's members share all weights.

    Args:
        model: an `EnsembleClassifier`, `zoo.ensemble`'s included, or its network.

    Returns:
        {"layer/variable": float32 array (M, *shape)}, in the order of the layers.

    Raises:
        ValueError: for joined models whose members are of different architectures, a layer that has
            another number of members than the model, or a model all of which is frozen.

    Example:
        >>> model = zoo.build(zoo.methods.BatchEnsemble(3), "mlp", input_shape=(4, 4, 1))
        >>> zoo.metrics.member_weights(model)["head/kernel"].shape
        (3, 200, 10)
    """
    network = getattr(model, "network", model)
    if len(network.output_shape) != 3:
        raise ValueError(f"the model must give member logits (B, M, K); it gives {network.output_shape}")
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if nested:
        return _joined([member_weights(part) for part in nested])
    view = _View(network)
    weights = {}
    for layer in network.layers:
        if layer.trainable_variables:
            parts = _members(layer, view)
            for name, values in parts.items():
                if len(values) != view.members:
                    raise ValueError(
                        f"{layer.name} has {len(values)} members in a model of {view.members}; their weights "
                        "cannot be separated"
                    )
                weights[f"{layer.name}/{name}"] = values
    if not weights:
        raise ValueError("the model has no trainable weights; set trainable = True where it is frozen")
    return weights


def weight_cosine(model: EnsembleClassifier) -> np.ndarray:
    """Return the cosine of every two members' weights, each member's taken as one vector.

    Shared weights count with the rest, so that members that share much are alike. Networks that compute
    the same with units in another order have a small cosine: compare what they compute by CKA or disagreement.

    Args:
        model: an `EnsembleClassifier`, or its network.

    Returns:
        Float64 array (M, M).

    Raises:
        ValueError: as `member_weights`.

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
        ValueError: as `member_weights`.

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


class _View:
    """What a layer's weights mean depends on its network: members side by side, MIMO, hyperparameters."""

    def __init__(self, network):
        self.members = network.output_shape[1]
        kinds = {type(layer): layer for layer in network.layers}
        self.packed = any(issubclass(kind, _Packed) for kind in kinds)
        self.hyperparameters = kinds.get(zoo_layers.LogUniformHyperparameters)
        self.mimo_stem = None
        if zoo_layers.MIMOExpand in kinds:
            after = network.layers[network.layers.index(kinds[zoo_layers.MIMOExpand]) :]
            self.mimo_stem = next(layer for layer in after if hasattr(layer, "kernel"))

    def shared(self, value):
        """One value for all members, without copies."""
        return np.broadcast_to(value, (self.members, *value.shape))

    def side_by_side(self, value, axis=-1):
        """Equal slices of an axis, one a member."""
        return np.stack(np.array_split(value, self.members, axis=axis))


def _joined(parts):
    """Members of several networks under one another."""
    shapes = [[(v.shape[1:]) for v in part.values()] for part in parts]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("members of different architectures have no weights that could be compared")
    rows = zip(*(part.values() for part in parts))
    return {name: np.concatenate(row) for name, row in zip(parts[0], rows)}


def _values(layer):
    """{name: NumPy array} of a layer's trainable variables."""
    variables = layer.trainable_variables
    unique = len({v.name for v in variables}) == len(variables)
    names = [v.name if unique else f"{v.name}_{i}" for i, v in enumerate(variables)]
    return {n: ops.convert_to_numpy(v).astype("float32") for n, v in zip(names, variables)}


@functools.singledispatch
def _members(layer, view):
    """{name: (M, *shape)} of a layer.  This one: Keras's own layers, shared, or per channel if packed."""
    values = _values(layer)
    if view.packed:
        return {name: view.side_by_side(value) for name, value in values.items()}
    result = {name: view.shared(value) for name, value in values.items()}
    if layer is view.mimo_stem:  # channel c of member m is channel c M + m
        kernel = values["kernel"]
        result["kernel"] = np.stack([kernel[..., m :: view.members, :] for m in range(view.members)])
    return result


@_members.register
def _packed(layer: _Packed, view):
    values = _values(layer)
    kernel = values.pop("kernel")
    if len(kernel) == 1 and view.members > 1:  # the stem: one group, members side by side
        kernels = view.side_by_side(kernel[0])
    else:
        kernels = kernel.reshape(layer.num_members, -1, *kernel.shape[1:])
        if kernels.shape[1] == 1:  # one group a member: its kernel is as a single network's
            kernels = kernels[:, 0]
    return {"kernel": kernels, **{name: view.side_by_side(value) for name, value in values.items()}}


@_members.register
def _packed_depthwise(layer: zoo_layers.PackedDepthwiseConv2D, view):
    values = _values(layer)
    kernels = {"kernel": view.side_by_side(values.pop("kernel"), axis=-2)}
    return {**kernels, **{name: view.side_by_side(value) for name, value in values.items()}}


def _factors(r, s):
    """(M, C, F): sum over the rank of r s^T, for r (R, M, C) and s (R, M, F)."""
    return np.einsum("jmc,jmf->mcf", r, s)


def _over_kernel(factors, kernel):
    """Factors (M, C, F) shaped to broadcast over a kernel (..., C, F)."""
    return factors.reshape(len(factors), *(1,) * (kernel.ndim - 2), *factors.shape[1:])


@_members.register
def _batch_ensemble(layer: _FastWeights, view):
    values = _values(layer)
    factors = _factors(values["r"], values["s"])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # Output channel c * multiplier + d is of input channel c: the diagonal blocks of the factors.
        channels, multiplier = values["kernel"].shape[-2:]
        blocks = factors.reshape(len(factors), channels, channels, multiplier)
        factors = np.einsum("mccd->mcd", blocks)
    kernels = {"kernel": values["kernel"] * _over_kernel(factors, values["kernel"])}
    return {**kernels, **({"bias": values["bias"]} if "bias" in values else {})}


@_members.register
def _hyper_batch(layer: _HyperBatchEnsemble, view):
    values = _values(layer)
    # One row for each member: row i of M belongs to member i.
    rows = view.hyperparameters(np.zeros((view.members, 1), "float32"), training=False)
    e = ops.convert_to_numpy(layer._e(rows))
    outputs = values["s"].shape[-1]
    factors = _factors(values["r"], values["s"])
    delta = factors
    if "delta_r" in values:
        delta = _factors(values["delta_r"], values["delta_s"])
    delta = delta * e[:, None, :outputs]
    kernel, delta_kernel = values["kernel"], values["delta_kernel"]
    kernels = kernel * _over_kernel(factors, kernel) + delta_kernel * _over_kernel(delta, kernel)
    if "bias" not in values:
        return {"kernel": kernels}
    return {"kernel": kernels, "bias": values["bias"] + e[:, outputs:] * values["delta_bias"]}


@_members.register
def _masked(layer: _Masked, view):
    values = _values(layer)
    masks = ops.convert_to_numpy(layer.masks)[..., None]
    kernel = values["kernel"]
    kernels = kernel * _over_kernel(masks, kernel)
    return {"kernel": kernels, **{n: view.shared(v) for n, v in values.items() if n != "kernel"}}


@_members.register
def _mimo_head(layer: zoo_layers.MIMOHead, view):
    return {name: view.side_by_side(value) for name, value in _values(layer).items()}


@_members.register
def _per_member(layer: zoo_layers.PerMemberBatchNormalization, view):
    return _values(layer)


@_members.register
def _bounds(layer: zoo_layers.LogUniformHyperparameters, view):
    return {}  # hyperparameters, not weights of the network
