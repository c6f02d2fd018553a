"""The dictionary that every exported model returns."""

from typing import Any

from keras import ops

from zoo.array_types import Tensor


def answers(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Return what an exported model answers.

    Args:
        model: an `EnsembleClassifier`.
        images: tensor (B, H, W, C) in [0, 255].

    Returns:
        A dictionary of float32 tensors: `probabilities` (B, K), calibrated where the model is; `members`
        (B, M, K); in nats `predictive_entropy` (B,) of the probabilities and `mutual_information` (B,)
        of the members, not calibrated; and `suspect_range` (B,), 1 for images that look as if they were
        not in [0, 255], else 0. All are NaN for an image with a NaN or infinite pixel.
    """
    images = ops.cast(images, "float32")
    return of_logits(model.network(images, training=False), model.calibration, images)


def of_logits(
    logits: Tensor, calibration: Any, images: Tensor, brightness: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the dictionary of `answers` for member logits.

    Args:
        logits: tensor (B, M, K).
        calibration: the model's layer of calibration, or None.
        images: float32 tensor (B, H, W, C), which the logits are of.
        brightness: tensor (B,), the mean of each image's pixels. Default: None, to compute it here.

    Returns:
        A dictionary of float32 tensors.
    """
    from zoo.classifier import ensemble_log_probabilities

    log_members = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    members = ops.exp(log_members)
    mean = ops.mean(members, axis=1)
    information = _entropy(mean) - ops.mean(_entropy(members), axis=1)
    probabilities = mean
    if calibration is not None:
        probabilities = ops.exp(calibration(ensemble_log_probabilities(logits)))
    outputs = {
        "probabilities": probabilities,
        "members": members,
        "predictive_entropy": _entropy(probabilities),
        "mutual_information": ops.maximum(information, 0.0),
        "suspect_range": _suspect(images),
    }
    brightness = ops.mean(images, axis=(1, 2, 3)) if brightness is None else brightness
    # At the very end, as LiteRT's exponential of NaN is 0.
    return {name: _nan_unless_finite(value, brightness) for name, value in outputs.items()}


def _nan_unless_finite(value, brightness):
    """The value, or NaN for images whose mean is not finite, by a division that every converter keeps.

    It is by 1, or by infinity / infinity. LiteRT's converter takes `isfinite` for always true, int8
    makes 0 of a NaN that is chosen or added, and tf2onnx chooses by adding a product with 0. A sum of
    pixels would overflow in half precision, in which LiteRT may compute.
    """
    size = 1 + ops.abs(ops.reshape(brightness, (-1,) + (1,) * (len(value.shape) - 1)))
    return value / (size / size)


def _suspect(images):
    """1 where pixels are outside [0, 255], or none is above 1 though the image is not black; else 0."""
    low, high = ops.min(images, axis=(1, 2, 3)), ops.max(images, axis=(1, 2, 3))
    scaled = ops.logical_and(high > 0, high <= 1)
    outside = ops.logical_or(low < 0, high > 255)
    return ops.cast(ops.logical_or(scaled, outside), "float32")


def _entropy(p):
    return -ops.sum(p * ops.log(ops.where(p > 0, p, 1.0)), axis=-1)
