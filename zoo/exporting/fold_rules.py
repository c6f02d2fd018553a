"""Into which layers a normalisation can be multiplied, and what becomes of their weights."""

import keras
import numpy as np
from keras import layers

from zoo.layers import BatchNormalization, PerMemberBatchNormalization

NORMS = (layers.BatchNormalization, BatchNormalization, PerMemberBatchNormalization)


def _kernel(weights, factor):
    return {"kernel": weights["kernel"] * factor}


def _depthwise(weights, factor):
    return {"kernel": weights["kernel"] * factor.reshape(weights["kernel"].shape[-2:])}


def _pointwise(weights, factor):
    return {"pointwise_kernel": weights["pointwise_kernel"] * factor}


# For Keras's own layers; the layers of this zoo, and anybody's, have a method `scaled_outputs`.
_SCALED_OUTPUTS = {
    layers.Dense: _kernel,
    layers.Conv1D: _kernel,
    layers.Conv2D: _kernel,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv2D: _pointwise,
}


def fits(layer: keras.Layer, norm: keras.Layer, rank: int) -> bool:
    """Tell whether a normalisation can be multiplied into the layer whose outputs it takes.

    Args:
        layer: a `keras.Layer`.
        norm: a batch normalisation.
        rank: int, axes of the tensor between them, the batch included.

    Returns:
        A bool.
    """
    if _rule(layer) is None or not has_plain_kernel(layer):
        return False
    if getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
        return False
    factor, _ = affine(norm)
    if factor.ndim == 2 and not (
        getattr(layer, "folds_per_member", False) and layer.num_members == len(factor)
    ):
        return False
    last_axis = factor.ndim == 2 or norm.axis in (-1, rank - 1)
    return last_axis and _rule(layer)(_values(layer), factor) is not None


def _rule(layer):
    """The function of (weights, factor) that says how outputs are scaled by weights; None without one."""
    return getattr(layer, "scaled_outputs", None) or _SCALED_OUTPUTS.get(type(layer))


def _values(layer):
    return {weight.name: _numbers(weight) for weight in layer.weights}


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
    found = _values(layer)
    if copies > 1:
        *before, inputs, outputs = found["kernel"].shape
        found["kernel"] = found["kernel"].reshape(*before, inputs // copies, copies, outputs).sum(-2)
    if norm is not None:
        factor, offset = affine(norm)
        found |= _rule(layer)(found, factor)
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
