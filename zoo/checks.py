"""Checks of what users pass in, each failing with one line that says what to do."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.errors import is_one_line

LABEL_TOLERANCE = 1e-2  # of a sum of soft labels: half precision and a thousand classes pass
_CHUNK = 1 << 22  # pixels that are looked at in one go


def is_array(values: Any) -> bool:
    """Tell whether values can be checked: an array, a tensor with values, or a list.

    Args:
        values: any object.

    Returns:
        A bool.
    """
    if isinstance(values, (list, tuple)):
        return True
    return hasattr(values, "__array__") and not isinstance(values, type)


def as_array(values: Any, name: str) -> np.ndarray:
    """Return values as a NumPy array.

    Args:
        values: an array, a tensor of any backend, or a list.
        name: str, what they are, for the message.

    Returns:
        A NumPy array.

    Raises:
        ValueError: for lists of different lengths.
    """
    try:
        if hasattr(values, "detach"):  # a tensor of PyTorch, maybe on another device
            values = values.detach().cpu()
        return np.asarray(values)
    except ValueError:
        raise ValueError(
            f"{name} of different shapes cannot form a batch; bring them to one shape"
        ) from None


def check_images(
    images: Any, input_shape: Iterable[int | None], finite: bool = True, scaled: bool = True
) -> None:
    """Check images for training or prediction, and warn of values that are not pixels in [0, 255].

    Args:
        images: array or list (N, H, W, C), N >= 1. Anything that is not an array passes.
        input_shape: (H, W, C), what the model takes; None for a size that is free.
        finite: bool, whether NaN and infinite values are refused. Default: True.
        scaled: bool, whether to warn. Default: True.

    Raises:
        ValueError: for images that the model cannot take.

    Warns:
        UserWarning: for values outside [0, 255], and for float images whose values are all in [0, 1].

    Example:
        >>> zoo.checks.check_images(np.zeros((4, 8, 8, 3), "uint8"), (8, 8, 1))
        Traceback (most recent call last):
        ValueError: images must be (N, 8, 8, 1); got (4, 8, 8, 3)
    """
    if not is_array(images):
        return
    if isinstance(images, (list, tuple)):
        images = as_array(images, "images")
    shape, wanted = tuple(images.shape), tuple(input_shape)
    free = tuple(here if size is None else size for here, size in zip(shape[1:], wanted))
    if len(shape) != 4 or shape[1:] != free:
        named = ", ".join("any" if size is None else str(size) for size in wanted)
        hint = "; add a batch axis: images[None]" if shape == wanted else ""
        raise ValueError(f"images must be (N, {named}); got {shape}{hint}")
    if not shape[0]:
        raise ValueError("the images are empty: there is nothing to learn from or to answer")
    dtype = as_array(images[:1], "images").dtype
    if dtype.kind not in "uif" and dtype.name != "bfloat16":
        raise ValueError(f"images must be uint8 or float in [0, 255]; got dtype {dtype}")
    if dtype.kind in "ui":
        if scaled and dtype != "uint8":
            values = as_array(images, "images")
            warn_of_range(int(values.min()), int(values.max()), False, stacklevel=5)
        return
    bad, first, low, high = 0, 0, 0.0, 0.0
    step = max(_CHUNK // math.prod(shape[1:]), 1)
    for start in range(0, shape[0], step):
        part = as_array(images[start : start + step], "images").reshape(-1, math.prod(shape[1:]))
        # A sum is finite exactly where all pixels are; one pass, no copy.
        sums = part.sum(axis=1, dtype="float32")
        broken = ~np.isfinite(sums)
        if broken.any():
            first, bad = first if bad else start + broken.argmax(), bad + broken.sum()
        if scaled and not broken.any():
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    if bad and finite:
        raise ValueError(
            f"{bad} of {shape[0]} images hold NaN or infinite values (first: image {first}); remove or "
            "repair them"
        )
    if scaled and not bad:
        warn_of_range(low, high, True, stacklevel=5)


def warn_of_range(low: float, high: float, floats: bool, stacklevel: int) -> None:
    """Warn of images whose values are not pixels in [0, 255].

    Args:
        low: float, the least value of all images.
        high: float, the largest; images that are all zero say nothing.
        floats: bool, whether all images are of floats.
        stacklevel: int, as in `warnings.warn`.

    Warns:
        UserWarning: for values outside [0, 255], and for floats that are all in [0, 1].
    """
    if low < 0 or high > 255:
        seen = f"[{low:.4g}, {high:.4g}]"
        warnings.warn(f"images have values in {seen}; this zoo takes [0, 255]", stacklevel=stacklevel)
    elif floats and 0 < high <= 1:
        warnings.warn("images look scaled to [0, 1]; this zoo takes [0, 255]", stacklevel=stacklevel)


def check_lengths(images: Any, labels: Any, weights: Any = None) -> None:
    """Check that each image has a label, and a weight if there are weights.

    Args:
        images: array or list (N, ...).
        labels: array or list (N, ...).
        weights: array or list (N,) or (N, 1), or None. Default: None.

    Raises:
        ValueError: for different numbers, and for weights of another shape, NaN or infinite.
    """
    for name, values in (("labels", labels), ("sample weights", weights)):
        if is_array(images) and is_array(values) and np.ndim(values) and len(values) != len(images):
            raise ValueError(
                f"{len(images)} images and {len(values)} {name}; there must be one for each image"
            )
    if not is_array(weights):
        return
    weights = as_array(weights, "sample weights")
    if weights.ndim > 2 or weights.shape[1:] not in ((), (1,)):
        raise ValueError(f"sample weights must be (N,), one for each image; got {weights.shape}")
    if weights.dtype.kind == "f" and not np.isfinite(weights).all():
        raise ValueError("sample weights must be finite; got NaN or infinite values")


def check_batch_size(batch_size: Any) -> None:
    """Check a number of images per step.

    Args:
        batch_size: int >= 1, or None for the default.

    Raises:
        ValueError: for anything else.
    """
    integer = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
    if batch_size is not None and not (integer and batch_size >= 1):
        raise ValueError(f"batch_size must be an integer >= 1; got {batch_size!r}")


def check_labels(labels: Any, num_classes: int) -> None:
    """Check labels for training.

    Args:
        labels: array or list of integers (N,) or (N, 1), or one-hot or soft labels (N, K). Anything that
            is not an array (None, a symbolic tensor) passes: the loss turns NaN for bad labels met
            later.
        num_classes: int >= 1, K.

    Raises:
        ValueError: for labels that do not fit a model of K classes.
    """
    if not is_array(labels):
        return
    labels = as_array(labels, "labels")
    if not labels.size:
        raise ValueError("the labels are empty: there is nothing to learn from or to measure")
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"labels must be integer class indices or distributions; got dtype {labels.dtype}"
        )
    if labels.ndim == 2 and labels.shape[1] == num_classes and num_classes > 1:
        if not np.isfinite(labels).all() or labels.min() < 0:
            raise ValueError("soft labels must be finite and not negative")
        sums = labels.sum(axis=1, dtype="float32")
        off = np.abs(sums - 1) > LABEL_TOLERANCE
        if off.any():
            raise ValueError(
                f"{off.sum()} of {len(labels)} soft labels do not sum to 1 (first: label {off.argmax()} sums "
                f"to {sums[off.argmax()]:.6g}); divide each by its sum"
            )
        return
    if not labels.ndim:
        raise ValueError(f"labels must be (N,), one for each image; got the single number {labels}")
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        raise ValueError(
            f"labels of shape {labels.shape} do not fit a model of {num_classes} classes; pass integers "
            f"(N,) or distributions (N, {num_classes})"
        )
    if not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
        raise ValueError(
            "integer labels expected, got fractions or NaN; pass the class index of each image"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        mend = "correct the labels"
        mend = mend if low < 0 else f"load it with num_classes={high + 1} or {mend}"
        raise ValueError(
            f"labels run from {low} to {high}, but this model has {num_classes} classes (0 to "
            f"{num_classes - 1}); {mend}"
        )


def check_class_names(names: Iterable[str] | None, num_classes: int) -> list[str] | None:
    """Check class names and return them as a list.

    Args:
        names: K strings, or None.
        num_classes: int, K.

    Returns:
        A list of strings, or None.

    Raises:
        ValueError: if the number of names is not K, or a name occurs twice or cannot be printed.
    """
    if names is None:
        return None
    names = [str(name) for name in names]
    if len(names) != num_classes:
        raise ValueError(f"class_names has {len(names)} names for {num_classes} classes")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"class_names holds {twice[0]!r} more than once; names must differ")
    for name in names:
        if not is_one_line(name):
            raise ValueError(f"class_names holds {name!r}, which has control characters; remove them")
    return names


def check_size(images: Any, input_shape: Iterable[int | None]) -> None:
    """Check that images have the size of a model that does not resize.

    Args:
        images: array or tensor (B, h, w, C), or a data set of TensorFlow; anything else passes.
        input_shape: (None, H, W, C).

    Raises:
        ValueError: for images of another size, where it is known.
    """
    spec = getattr(images, "element_spec", images)  # of a tf.data.Dataset
    spec = spec[0] if isinstance(spec, (tuple, list)) and len(spec) else spec
    shape = tuple(getattr(spec, "shape", None) or ())
    height, width, channels = tuple(input_shape)[1:]
    if len(shape) != 4 or shape[3] != channels or None in shape[1:3]:
        return
    if shape[1:3] != (height, width):
        raise ValueError(
            f"images are {shape[1]}x{shape[2]}, and this model takes {height}x{width}; load it with "
            'resize="crop" or resize="squash", or resize the images'
        )


def check_batch(spec: dict | None, batch_size: int | None) -> None:
    """Check that a batch has an image for each member if it is split among them.

    Args:
        spec: dict, a model's `spec`, or None.
        batch_size: int, images per training batch; None where it is not known, as for data sets.

    Raises:
        ValueError: for a batch that is smaller than the number of members.
    """
    method = (spec or {}).get("method", {})
    members = method.get("num_members", 1)
    if method.get("training_mode") == "split" and batch_size is not None and batch_size < members:
        raise ValueError(
            f"batch_size={batch_size} leaves some of {members} members without images, as a batch is shared "
            f'out among them; take at least {members}, or training_mode="tile"'
        )


def check_loss(loss: Any, activation: str | None) -> None:
    """Check that a Keras cross-entropy takes the kind of answer that the model gives.

    Args:
        loss: str or `keras.losses.Loss`.
        activation: None or "softmax", the model's.

    Raises:
        ValueError: if the loss takes logits and the model gives probabilities, or the reverse.
    """
    if isinstance(loss, str):
        from_logits = False if loss.endswith("categorical_crossentropy") else None
    else:
        from_logits = getattr(loss, "from_logits", None)
    if from_logits is False and activation is None:
        raise ValueError(
            "this model answers with log-probabilities, and the loss takes probabilities; pass "
            'from_logits=True to the loss, or activation="softmax" to the model'
        )
    if from_logits is True and activation == "softmax":
        raise ValueError(
            "this model answers with probabilities, and the loss takes logits; pass from_logits=False"
        )


def check_dense(models: Iterable[Any], what: str) -> None:
    """Check that no model is sparse.

    Args:
        models: `EnsembleClassifier`s.
        what: str, the function that would lose their masks, for the message.

    Raises:
        ValueError: for a sparse model.
    """
    from zoo.layers.sparse.layers import sparse_layers

    if any(sparse_layers(model.network) for model in models):
        raise ValueError(f"{what} would lose a sparse model's masks; pass zoo.layers.densify(model)")


def check_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Check probabilities and return them in float64.

    Args:
        probabilities: array (N, ..., K), N >= 1.

    Returns:
        Float64 array of the same shape.

    Raises:
        ValueError: for no rows, fewer than two axes, NaN, negative values, or rows whose sum is further
            than 1e-3 from one.
    """
    p = np.asarray(probabilities, dtype="float64")
    if p.ndim < 2 or not p.size:
        raise ValueError(f"probabilities must be (N, K) with N >= 1; got shape {p.shape}")
    if not np.isfinite(p).all():
        bad = ~np.isfinite(p).reshape(len(p), -1).all(axis=1)
        raise ValueError(f"{bad.sum()} of {len(p)} rows of probabilities hold NaN or infinite values "
                         f"(first: row {bad.argmax()}); repair or remove them")  # fmt: skip
    if p.min() < 0:
        raise ValueError(
            f"probabilities must be >= 0; got {p.min():.6g}: pass probabilities, not logits"
        )
    sums = p.sum(axis=-1).reshape(len(p), -1)
    off = np.abs(sums - 1).max(axis=1)
    if off.max() > 1e-3:
        row = off.argmax()
        total = sums[row][np.abs(sums[row] - 1).argmax()]
        raise ValueError(
            f"probabilities must sum to 1; row {row} sums to {total:.6g}: normalise them (softmax)"
        )
    return p


def check_integer_labels(labels: ArrayLike, count: int, classes: int) -> np.ndarray:
    """Check integer labels and return them as one vector.

    Args:
        labels: array (N,) or (N, 1).
        count: int, N.
        classes: int, K.

    Returns:
        Int array (N,), values in [0, K).

    Raises:
        ValueError: if there are not N labels, or they are out of range, fractions or NaN.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise ValueError(f"{count} rows of predictions need {count} integer labels; got {labels.shape}")
    if labels.dtype.kind not in "iuf" or not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise ValueError("labels must be integers; got fractions, NaN or another type")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels run from {labels.min():g} to {labels.max():g}, but there are {classes} classes (0 to "
            f"{classes - 1}); correct the labels"
        )
    return labels.astype(int)
