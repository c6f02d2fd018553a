"""Checks of what metrics are given, where values are known: each fails with one line."""

from typing import Any

import keras
import numpy as np

from zoo.checks import check_labels

TOLERANCE = 1e-3  # of a sum of probabilities: half precision and a thousand classes pass


def concrete(value: Any) -> np.ndarray | None:
    """Return a value as a NumPy array, or None for a tensor of a graph or trace, which has none yet.

    Args:
        value: an array, a tensor of any backend, or None.

    Returns:
        An array, or None.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    if isinstance(value, keras.KerasTensor):
        return None
    try:  # TensorFlow, JAX and PyTorch refuse each in its own way
        return np.asarray(keras.ops.convert_to_numpy(value))
    except (NotImplementedError, TypeError, AttributeError, RuntimeError):
        return None


def check_shapes(y_true: Any, y_pred: Any, sample_weight: Any, rank: int) -> None:
    """Check the rank of predictions, and that labels and weights have the same length.

    Args:
        y_true: tensor (B, ...), or None.
        y_pred: tensor (B, ...).
        sample_weight: tensor (B,), (B, 1) or (), or None.
        rank: int, the rank that predictions must have.

    Raises:
        ValueError: for another rank, no predictions, or lengths that differ.
    """
    if y_pred is None:
        raise ValueError("there are no predictions to measure: y_pred is None")
    shape = tuple(y_pred.shape)
    if len(shape) != rank:
        wanted = {1: "(B,), a score for each image", 2: "(B, K)", 3: "(B, M, K), one for each member"}
        raise ValueError(f"predictions must be {wanted[rank]}; got {shape}")
    if 0 in shape:
        raise ValueError(f"there are no predictions to measure: their shape is {shape}")
    for kind, values in (("labels", y_true), ("weights", sample_weight)):
        length = values.shape[0] if values is not None and len(values.shape) else None
        single = kind == "weights" and length == 1
        if None not in (length, shape[0]) and length != shape[0] and not single:
            raise ValueError(f"{length} {kind} for {shape[0]} predictions; there must be one for each")


def check_weights(sample_weight: Any) -> np.ndarray | None:
    """Check sample weights whose values are known.

    Args:
        sample_weight: tensor (B,), (B, 1) or (), or None.

    Returns:
        The weights as a vector, or None where they are not known.

    Raises:
        ValueError: for weights that are negative or not finite.
    """
    weights = concrete(sample_weight)
    if weights is None:
        return None
    weights = weights.reshape(-1)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(weights)} weights are negative or not finite (first: {weights[bad][0]} "
            f"at {bad.argmax()}); weights must be >= 0"
        )
    return weights


def check_predictions(y_pred: Any, weights: np.ndarray | None, from_logits: bool) -> None:
    """Check predictions whose values are known, where their weight is not 0.

    Args:
        y_pred: tensor (B, K) or (B, M, K).
        weights: array (B,), or None.
        from_logits: bool, whether predictions are logits.

    Raises:
        ValueError: for NaN or infinite logits, or rows that are not probability distributions.
    """
    values = concrete(y_pred)
    if values is None:
        return
    values = values[_counted(weights, len(values))].astype("float32", copy=False)
    if from_logits:
        # -inf is a probability of 0, but some class must be possible.
        bad = ~np.isfinite(values.max(axis=-1, initial=-np.inf))
        _refuse(bad, "hold NaN or infinite logits; look for NaN in the images or the weights")
        return
    _refuse(np.isnan(values), "hold NaN; look for NaN in the images or the weights")
    sums = values.sum(axis=-1)
    bad = (np.abs(sums - 1) > TOLERANCE) | (values.min(axis=-1, initial=0) < 0)
    _refuse(
        bad, "are not probabilities, which are >= 0 and sum to 1 (first: sum {:.6g}, least {:.6g}); pass "
        "from_logits=True for logits", sums, values.min(axis=-1),
    )  # fmt: skip


def check_integers(y_true: Any, weights: np.ndarray | None, num_classes: int) -> None:
    """Check labels whose values are known, where their weight is not 0.

    Args:
        y_true: tensor (B,), (B, 1) or (B, K).
        weights: array (B,), or None.
        num_classes: int, K.

    Raises:
        ValueError: for labels that do not fit a model of K classes.
    """
    labels = concrete(y_true)
    if labels is None:
        return
    counted = labels[_counted(weights, len(labels))]
    if len(counted):
        check_labels(counted, num_classes)


def _counted(weights, rows):
    """Which rows have a weight, as an index."""
    if weights is None or len(weights) != rows or weights.all():
        return slice(None)
    return weights > 0


def _refuse(bad, what, *values):
    """Raise ValueError if any of `bad` (rows, ...), with the values at the first."""
    if bad.any():
        rows = bad.reshape(len(bad), -1).any(axis=1)
        first = np.unravel_index(bad.argmax(), bad.shape)
        said = what.format(*(value[first] for value in values))
        raise ValueError(f"{rows.sum()} of {len(bad)} predictions {said} (first: row {rows.argmax()})")
