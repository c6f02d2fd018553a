"""Into which layers a normalisation can be multiplied, and what becomes of their weights."""

import keras
import numpy as np
from keras import layers

from zoo.layers import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    BatchNormalization,
    HyperBatchEnsembleConv2D,
    HyperBatchEnsembleDense,
    MaskedConv2D,
    MaskedDense,
    PackedConv1D,
    PackedConv2D,
    PackedDense,
    PackedDepthwiseConv2D,
    PerMemberBatchNormalization,
)

NORMS = (layers.BatchNormalization, BatchNormalization, PerMemberBatchNormalization)
_HYPER = (HyperBatchEnsembleConv2D, HyperBatchEnsembleDense)
_FAST = (BatchEnsembleConv2D, BatchEnsembleDense, BatchEnsembleDepthwiseConv2D, *_HYPER)
_PACKED = (PackedConv1D, PackedConv2D, PackedDense)
_DEPTHWISE = (layers.DepthwiseConv2D, PackedDepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv2D,)
_PLAIN = (layers.Conv1D, layers.Conv2D, layers.Dense, MaskedConv2D, MaskedDense)
_FOLDABLE = (*_PLAIN, *_FAST, *_PACKED, *_DEPTHWISE, *_SEPARABLE)


def fits(layer: keras.Layer, norm: keras.Layer, rank: int) -> bool:
    """Tell whether a normalisation can be multiplied into the layer whose outputs it takes.

    Args:
        layer: a `keras.Layer`.
        norm: a batch normalisation.
        rank: int, axes of the tensor between them, the batch included.

    Returns:
        A bool.
    """
    if type(layer) not in _FOLDABLE or not has_plain_kernel(layer):
        return False
    if layer.activation is not keras.activations.linear:
        return False
    if type(norm) is PerMemberBatchNormalization:
        return type(layer) in _FAST and layer.num_members == norm.num_members
    # Members of a packed head would share a normalisation's values.
    return norm.axis in (-1, rank - 1) and getattr(layer, "role", None) not in ("head", "last")


def has_plain_kernel(layer: keras.Layer) -> bool:
    """Tell whether channels are last and the kernel is used as it is: no LoRA, not quantized.

    Args:
        layer: a `keras.Layer`.

    Returns:
        A bool.
    """
    return (
        getattr(layer, "data_format", None) in (None, "channels_last")
        and not getattr(layer, "lora_enabled", False)
        and not getattr(layer, "quantization_mode", None)
    )


def affine(norm: keras.Layer) -> tuple:
    """Return the factor and offset that a normalisation applies at inference.

        factor = gamma / sqrt(moving_variance + epsilon), offset = beta - moving_mean * factor.

    Args:
        norm: a batch normalisation.

    Returns:
        (factor, offset), float64 arrays (C,) or, for per-member normalisations, (M, C).
    """
    factor = 1 / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor = factor * _numbers(norm.gamma)
    beta = _numbers(norm.beta) if norm.center else 0.0
    return factor, beta - _numbers(norm.moving_mean) * factor


def values(
    layer: keras.Layer, norm: keras.Layer | None = None, copies: int = 1
) -> dict[str, np.ndarray]:
    """Return the weights of a layer that also does the work of the layers around it.

    Args:
        layer: a `keras.Layer`.
        norm: a normalisation of the layer's outputs, after which it has a bias in any case. Default:
            None.
        copies: int >= 1, how many copies of each input channel, side by side, the layer has seen and now
            sees once. Default: 1.

    Returns:
        {name: float64 array}.
    """
    found = {weight.name: _numbers(weight) for weight in layer.weights}
    if copies > 1:
        *before, inputs, outputs = found["kernel"].shape
        found["kernel"] = found["kernel"].reshape(*before, inputs // copies, copies, outputs).sum(-2)
    if norm is not None:
        factor, offset = affine(norm)
        found |= _scaled(layer, found, factor)
        found["bias"] = found.get("bias", 0.0) * factor + offset
    return found


def assign(layer: keras.Layer, found: dict[str, np.ndarray]) -> None:
    """Give a layer the weights that `values` computed.

    Args:
        layer: a `keras.Layer`.
        found: {name: float64 array}.
    """
    for weight in layer.weights:
        wide = "float64" if weight.dtype == "float64" else "float32"
        weight.assign(np.broadcast_to(found[weight.name], weight.shape).astype(wide))


def _numbers(weight):
    return keras.ops.convert_to_numpy(weight).astype("float64")


def _scaled(layer, found, factor):
    """The weights that make a layer's outputs `factor` times what they were, but for its bias."""
    kind = type(layer)
    if kind in _HYPER:
        scaled = {name: found[name] * factor for name in ("s", "delta_s", "delta_bias") if name in found}
        if not layer.use_bias:  # e has a column for every bias, too
            e = found["e_kernel"]
            scaled |= {"delta_bias": 0.0, "e_kernel": np.concatenate([e, 0 * e], axis=-1)}
        return scaled
    if kind in _FAST:
        return {"s": found["s"] * factor}
    if kind in _SEPARABLE:
        return {"pointwise_kernel": found["pointwise_kernel"] * factor}
    kernel = found["kernel"]
    if kind in _DEPTHWISE:
        factor = factor.reshape(kernel.shape[-2:])
    if kind in _PACKED:  # (G, ..., outputs / G), the outputs of a group side by side
        factor = factor.reshape(kernel.shape[0], *(1,) * (kernel.ndim - 2), kernel.shape[-1])
    return {"kernel": kernel * factor}
