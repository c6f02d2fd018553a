"""Pixels of image files, Pillow images and tensors, as NumPy arrays."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import numpy as np

BY_TENSORFLOW = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # what Keras's directory reader takes
WITH_EXIF = (".jpeg", ".jpg", ".tif", ".tiff", ".webp")  # in a PNG Pillow would look behind all pixels
SUFFIXES = (*BY_TENSORFLOW, ".tif", ".tiff", ".webp")


def existing(path: pathlib.Path) -> pathlib.Path:
    """Return a path if it is a file.

    Args:
        path: path.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; check the path")
    return path


def read(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Read an image file as `keras.utils.image_dataset_from_directory` does, pixel for pixel.

    The orientation in a photograph's EXIF data is not applied, because Keras does not apply it (see
    `is_turned`).
    Formats that Keras does not read (TIFF, WebP) are read by Pillow, and so are files that TensorFlow
    refuses, such as a GIF for one channel, and all files without TensorFlow.

    Args:
        path: str or path.
        channels: int, 1, 3 or 4.

    Returns:
        Uint8 array (h, w, channels).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an image.
    """
    path = existing(pathlib.Path(path))
    by_tensorflow = path.suffix.lower() in BY_TENSORFLOW and _tensorflow()
    reasons = []
    for reader in (_by_tensorflow, _by_pillow) if by_tensorflow else (_by_pillow,):
        try:
            return reader(path, channels)
        except Exception as error:  # whatever a decoder raises
            reasons.append(_reason(error))
    raise ValueError(f"{path} cannot be read as an image ({reasons[0]}); repair or remove it")


def _reason(error):
    """The beginning of what a decoder says, without the names of TensorFlow's operations around it."""
    text = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error), flags=re.DOTALL).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _by_pillow(path, channels):
    from PIL import Image

    with Image.open(path) as image:
        return from_pillow(image, channels)


def _by_tensorflow(path, channels):
    import tensorflow as tf

    with tf.device("CPU"):
        content = tf.io.read_file(str(path))
        return tf.io.decode_image(content, channels, expand_animations=False).numpy()


def _tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


def is_pillow(image: Any) -> bool:
    """Tell whether something is a `PIL.Image.Image`, without importing Pillow.

    Args:
        image: anything.

    Returns:
        A bool.
    """
    return hasattr(image, "convert") and hasattr(image, "mode")


def is_turned(image: Any) -> bool:
    """Tell whether a photograph is stored rotated or mirrored, by the orientation in its EXIF data.

    Args:
        image: path of an image file, or a `PIL.Image.Image`.

    Returns:
        A bool; False for a file whose EXIF data Pillow cannot read, or of a format that rarely has any.
    """
    from PIL import ExifTags, Image

    try:
        if not isinstance(image, (str, os.PathLike)):
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if pathlib.Path(image).suffix.lower() not in WITH_EXIF:
            return False
        with Image.open(image) as opened:
            return is_turned(opened)
    except Exception:  # whatever Pillow raises of damaged EXIF data
        return False


def from_pillow(image: Any, channels: int) -> np.ndarray:
    """Return the pixels of a Pillow image.

    Args:
        image: a `PIL.Image.Image` of any mode.
        channels: int, 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns:
        Uint8 array (h, w, channels). Values of 16 bits are scaled to [0, 255], and so are those of 32
        bits if one is above 255.

    Raises:
        ValueError: for another number of channels, values that 16 bits do not hold, or floats that are
            not finite or not in [0, 255].
    """
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise ValueError(f"Pillow images have 1, 3 or 4 channels, and this model takes {channels}")
    if image.mode.startswith("I"):  # Pillow would clip, not scale
        from PIL import Image

        image = Image.fromarray(_of_integers(np.asarray(image), image.mode))
    elif image.mode == "F":  # Pillow would clip, and turn NaN into a number
        _check_floats(np.asarray(image))
    pixels = np.asarray(image.convert(modes[channels]))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _of_integers(pixels, mode):
    """Uint8 values of integers of 16 or 32 bits."""
    low, high = int(pixels.min(initial=0)), int(pixels.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"the image's values run from {low} to {high}; scale them to [0, 255]")
    scale = 1 if mode == "I" and high <= 255 else 257
    return (pixels / scale).round().astype("uint8")


def _check_floats(pixels):
    """Check that the values of a floating-point image are pixels in [0, 255]."""
    if not np.isfinite(pixels).all():
        raise ValueError("the image holds NaN or infinite values; remove or repair it")
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if low < 0 or high > 255 or 0 < high <= 1:
        raise ValueError(f"the image's values run from {low:.4g} to {high:.4g}; scale them to [0, 255]")
