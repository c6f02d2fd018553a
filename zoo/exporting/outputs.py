"""The dictionary that every exported model answers with."""

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
        (B, M, K); and in nats `predictive_entropy` (B,) of the probabilities and `mutual_information`
        (B,) between the members' plain mean and the member.
    """
    logits = model.network(ops.cast(images, "float32"), training=False)
    return of_logits(logits, model.calibration, images)


def of_logits(logits: Tensor, calibration: Any, images: Tensor) -> dict[str, Tensor]:
    """Return the dictionary of `answers` for member logits: NaN for images that are not finite.

    Args:
        logits: tensor (B, M, K).
        calibration: the model's layer of calibration, or None.
        images: tensor (B, H, W, C), which the logits are of.

    Returns:
        A dictionary of float32 tensors.
    """
    from zoo.classifier import ensemble_log_probabilities, nan_where_not_finite

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
    }
    # At the very end: LiteRT's exponential of NaN is 0.
    return {name: nan_where_not_finite(value, images) for name, value in outputs.items()}


def _entropy(p):
    return -ops.sum(p * ops.log(ops.where(p > 0, p, 1.0)), axis=-1)
