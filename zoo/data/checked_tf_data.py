"""The check of batches inside a `tf.data` pipeline: a few operations a batch, Python only for bad ones."""

from typing import Any

import numpy as np
import tensorflow as tf

from zoo.checks import LABEL_TOLERANCE, check_images, check_labels


def checked_tf_data(data: tf.data.Dataset, check: Any) -> tf.data.Dataset:
    """Return a data set whose batches are checked as they come.

    Args:
        data: a `tf.data.Dataset`.
        check: a `zoo.data.checked_data.BatchCheck`, called with every batch that looks bad.

    Returns:
        A `tf.data.Dataset` of the same elements.

    Raises:
        ValueError: for elements that cannot be batches of this model, as far as their structure and
            shapes are known.
    """
    parts = data.element_spec if isinstance(data.element_spec, (tuple, list)) else (data.element_spec,)
    if check.labelled and len(parts) not in (2, 3):
        check(data.element_spec)
    for name, part in zip(("images", "labels", "weights") if check.labelled else ("images",), parts):
        if not isinstance(part, tf.TensorSpec):
            raise ValueError(f"{check.name}: {name} must be one dense tensor; got {type(part).__name__}")
    if not all(isinstance(part, tf.TensorSpec) for part in parts):
        return data  # for `predict`, which reads no labels
    try:
        _check_shapes(parts, check)
    except ValueError as error:
        raise ValueError(f"{check.name}: {error}") from None

    def on_batch(number, batch):
        tensors = tf.nest.flatten(batch)

        def look(number, *tensors):
            arrays = [tensor.numpy() for tensor in tensors]
            check(arrays if check.labelled else arrays[0], int(number))
            return True

        looked = tf.cond(
            _looks_good(tensors, check, number),
            lambda: True,
            lambda: tf.py_function(look, [number, *tensors], tf.bool),
        )
        with tf.control_dependencies([looked]):
            return tf.nest.map_structure(tf.identity, batch)

    return data.enumerate().map(on_batch)


def _check_shapes(parts, check):
    """ValueError for what shapes and types tell before there is a batch."""
    images, shapes = parts[0], [part.shape for part in parts]
    if images.shape.rank == 3:
        raise ValueError(
            f"images come one by one, {tuple(images.shape)}; batch the data set: .batch(32)"
        )
    if images.shape.rank is not None:
        wanted = [1, *check.input_shape][: images.shape.rank]
        wanted += [1] * (images.shape.rank - len(wanted))
        sizes = [want or 1 if size is None else size for want, size in zip(wanted, images.shape)]
        check_images(np.zeros([1, *sizes[1:]], images.dtype.as_numpy_dtype), check.input_shape)
    if check.labelled and shapes[1].rank is not None and None not in shapes[1][1:] and shapes[1].rank:
        labels = np.zeros([1, *shapes[1][1:]], parts[1].dtype.as_numpy_dtype)
        if labels.ndim == 2 and labels.shape[1] == check.num_classes and labels.dtype.kind in "biuf":
            labels[:, 0] = 1
        check_labels(labels, check.num_classes)
    for weights in parts[2:]:
        if weights.shape.rank is not None and tuple(weights.shape[1:]) not in ((), (1,)):
            raise ValueError(
                f"sample weights must be (N,), one for each image; got {tuple(weights.shape)}"
            )


def _looks_good(tensors, check, number):
    """A boolean: whether a batch is as most are. Others are looked at in Python, and may still be good."""
    images = tensors[0]
    if images.shape.rank != 4:
        return tf.constant(False)
    good = tf.size(images) > 0
    for axis, size in enumerate(check.input_shape, 1):
        if size is not None and images.shape[axis] is None:
            good &= tf.shape(images)[axis] == size
    if images.dtype.is_floating:
        total = tf.reduce_sum(tf.cast(images, tf.float32))  # above their number unless all are in [0, 1]
        if check.finite:
            good &= tf.math.is_finite(total)
        good &= (number > 0) | (total > tf.cast(tf.size(images), tf.float32))
    if images.dtype != tf.uint8:  # the first batch, which is warned of
        good &= (number > 0) | (tf.reduce_all(images >= 0) & tf.reduce_all(images <= 255))
    if check.labelled:
        good &= _labels_look_good(tensors[1], check.num_classes)
        for values in tensors[1:]:
            good &= tf.reduce_all(tf.shape(values)[:1] == tf.shape(images)[:1])
        for weights in tensors[2:]:
            if weights.dtype.is_floating:
                good &= tf.reduce_all(tf.math.is_finite(weights))
    return good


def _labels_look_good(labels, classes):
    if labels.shape.rank not in (1, 2) or (labels.shape.rank == 2 and labels.shape[1] is None):
        return tf.constant(False)
    if labels.dtype.is_bool:
        return tf.constant(False)
    if labels.shape.rank == 2 and labels.shape[1] == classes and classes > 1:
        soft = tf.cast(labels, tf.float32)
        off = tf.abs(tf.reduce_sum(soft, axis=1) - 1)
        return tf.reduce_all(soft >= 0) & tf.reduce_all(off <= LABEL_TOLERANCE)
    inside = tf.reduce_all((labels >= 0) & (tf.cast(labels, tf.float32) < classes))
    return inside & tf.reduce_all(labels == tf.floor(labels)) if labels.dtype.is_floating else inside
