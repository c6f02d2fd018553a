"""Checks of what users pass in, each failing with one line that says what to do."""

import numpy as np


def check_labels(labels, num_classes):
    """Raise ValueError for label arrays that a model of `num_classes` cannot learn from.

    Integer labels (N,) or (N, 1), one-hot or soft labels (N, K).  Anything that is not an array
    (None, a symbolic tensor) passes: the loss turns NaN for bad labels met later.
    """
    if labels is None or (not hasattr(labels, "__array__") and not isinstance(labels, (list, tuple))):
        return
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("the labels are empty: there is nothing to learn from or to measure")
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"labels must be integer class indices or distributions; got dtype {labels.dtype}"
        )
    if labels.ndim == 2 and labels.shape[1] == num_classes and num_classes > 1:
        if not np.isfinite(labels).all() or labels.min() < 0:
            raise ValueError("soft labels must be finite and not negative")
        return
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        raise ValueError(
            f"labels of shape {labels.shape} fit no model of {num_classes} classes; pass integers "
            f"(N,) or distributions (N, {num_classes})"
        )
    if not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
        raise ValueError(
            "integer labels expected, got fractions or NaN; pass the class index of each image"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels run from {low} to {high}, but this model has {num_classes} classes (0 to "
            f"{num_classes - 1}); load it with num_classes={max(high + 1, 1)} or correct the labels"
        )


def check_batch(spec, batch_size):
    """Raise ValueError where a batch is shared out among members and is smaller than their number.

    Args:
        spec: a model's, or None.
        batch_size: of training; None where it is not known, as for data sets.
    """
    method = (spec or {}).get("method", {})
    members = method.get("num_members", 1)
    if method.get("training_mode") == "split" and batch_size is not None and batch_size < members:
        raise ValueError(
            f"batch_size={batch_size} leaves some of {members} members without images, as a batch is shared "
            f'out among them; take at least {members}, or training_mode="tile"'
        )


def check_loss(loss, activation):
    """Raise ValueError for a Keras cross-entropy that takes the model's answers for something else."""
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


def check_dense(models, what):
    """Raise ValueError for sparse models, whose masks `what` would lose."""
    from zoo.layers.sparse import sparse_layers

    if any(sparse_layers(model.network) for model in models):
        raise ValueError(f"{what} would lose a sparse model's masks; pass zoo.layers.densify(model)")
