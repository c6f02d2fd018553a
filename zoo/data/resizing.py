"""Images of any size brought to a model's own, by the same arithmetic in fit, predict and export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.array_types import Tensor

WAYS = ("crop", "squash", None)


def check_resize(resize: Any) -> str | None:
    """Check how a model brings images to its size.

    Args:
        resize: "crop", "squash" or None.

    Returns:
        The same value.

    Raises:
        ValueError: for anything else.
    """
    if resize not in WAYS:
        raise ValueError(f'resize must be "crop", "squash" or None; got {resize!r}')
    return resize


def resized(images: Tensor, size: Sequence[int], resize: str) -> Tensor:
    """Return images of one size: bilinear, without antialiasing, not rounded.

    It is what `keras.layers.Resizing`, `keras.utils.image_dataset_from_directory` and KerasHub's
    `ImageConverter` do by default, so images that one of them resized have the same pixels.

    Args:
        images: array or tensor (B, h, w, C) in [0, 255]; h and w need not be known in a graph of
            TensorFlow. Arrays of NumPy stay arrays, and nothing is compiled for their size.
        size: two ints, (H, W).
        resize: str, "crop", the largest part in the middle with the sides' ratio of `size`; or "squash",
            the whole image, whatever the ratio of its sides.

    Returns:
        Float32 images (B, H, W, C).

    Example:
        >>> from zoo.data.resizing import resized
        >>> images = np.array([[[[0.0], [100.0], [200.0], [255.0]]] * 2])  # 2x4, whose middle is 2x2
        >>> resized(images, (2, 2), "crop")[0, 0, :, 0].tolist()
        [100.0, 200.0]
        >>> resized(images, (2, 2), "squash")[0, 0, :, 0].tolist()
        [50.0, 227.5]
    """
    if isinstance(images, np.ndarray):
        return _bilinear(_cropped(images, size) if resize == "crop" else images, size)
    from keras import ops

    images = ops.cast(images, "float32")
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    return ops.image.resize(
        images, tuple(size), "bilinear", antialias=False, crop_to_aspect_ratio=resize == "crop",
        data_format="channels_last",
    )  # fmt: skip


def _cropped(images, size):
    """The largest middle part of arrays (B, h, w, C) with the ratio of `size`, by Keras's arithmetic."""
    sides = images.shape[1:3]
    part = (int(sides[1] * size[0] / size[1]), int(sides[0] * size[1] / size[0]))
    height, width = (max(min(side, wanted), 1) for side, wanted in zip(sides, part))
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return images[:, top : top + height, left : left + width]


def _bilinear(images, size):
    """Arrays (B, h, w, C) at another size, as `tf.image.resize` computes it."""
    for axis, wanted in ((1, size[0]), (2, size[1])):  # only what is needed of a large photograph
        low, high, share = _neighbours(images.shape[axis], wanted)
        shape = np.ones(4, int)
        shape[axis] = wanted
        first = np.take(images, low, axis).astype("float32")
        images = first + (np.take(images, high, axis) - first) * share.reshape(shape)
    return images


def _neighbours(count, wanted):
    """Of so many new pixels along one side: the two old ones between which each lies, and how far."""
    place = (np.arange(wanted, dtype="float32") + np.float32(0.5)) * np.float32(
        count / wanted
    ) - np.float32(0.5)
    low, high = np.floor(place), np.ceil(place)
    share = place - low
    return np.maximum(low, 0).astype(int), np.minimum(high, count - 1).astype(int), share
