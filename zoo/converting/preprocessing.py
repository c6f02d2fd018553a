"""Preprocessing inside the network: from pixel values in [0, 255] to what a network takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from zoo.layers.nested_layers import copy_weights

_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_NAMED = {
    "tf": lambda x: x / 127.5 - 1,
    "torch": lambda x: (x / 255 - _MEAN) / _STD,
    "caffe": lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
}


def checked_preprocessing(preprocessing: str | keras.Layer | Callable | None, channels: int) -> Any:
    """Recognise a preprocessing before anything is built.

    Args:
        preprocessing: None; "tf", "torch" or "caffe", as in `keras.applications`; a Keras layer or model;
            or a function of images whose channels it scales, shifts and maybe reverses.
        channels: int, C.

    Returns:
        None, a `keras.Layer`, or (reverse, scale, offset) with C values each of the latter two.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(preprocessing, keras.layers.Lambda):
        preprocessing = functools.partial(preprocessing.function, **(preprocessing.arguments or {}))
    if preprocessing is None or isinstance(preprocessing, keras.Layer):
        return preprocessing
    function = _NAMED.get(preprocessing) if isinstance(preprocessing, str) else preprocessing
    if not callable(function):
        raise ValueError(
            'preprocessing must be None, "tf", "torch", "caffe", a Keras layer or a function; '
            f"got {preprocessing!r}"
        )
    try:
        return _affine(function, channels)
    except Exception:  # whatever a user's function raises
        raise ValueError(
            f"preprocessing by {preprocessing!r} does not scale and shift the {channels} channels of NumPy "
            "images; pass a Keras layer that does the same"
        ) from None


def preprocess(preprocessing: Any, images: Any) -> Any:
    """Preprocess symbolic images.

    Args:
        preprocessing: what `checked_preprocessing` returned.
        images: symbolic tensor (B, H, W, C).

    Returns:
        A symbolic tensor.
    """
    if preprocessing is None:
        return images
    if isinstance(preprocessing, keras.Layer):
        twin = type(preprocessing).from_config({**preprocessing.get_config(), "name": "preprocess"})
        outputs = twin(images)
        if preprocessing.built:
            copy_weights(preprocessing, twin)
        return outputs
    reverse, scale, offset = preprocessing
    x = keras.ops.flip(images, axis=-1) if reverse else images
    if (scale, offset) == ([1.0] * len(scale), [0.0] * len(scale)):
        return x
    return keras.layers.Rescaling(scale, offset, name="preprocess")(x)


def _affine(function, channels):
    """(reverse, scale, offset) of a function, from what it does to a few images."""

    def of(images):
        return np.asarray(function(images.astype("float32").copy()), "float64")

    pixels = np.zeros((1 + channels, 1, 1, channels))
    pixels[1:, 0, 0] = 255 * np.eye(channels)
    values = of(pixels).reshape(1 + channels, channels)
    offset, matrix = values[0], (values[1:] - values[0]) / 255
    reverse = channels > 1 and not np.diag(matrix).all()
    matrix = matrix[::-1] if reverse else matrix
    scale = np.diag(matrix)
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, channels))
    expected = (images[..., ::-1] if reverse else images) * scale + offset
    if not np.allclose(of(images), expected, rtol=1e-4, atol=1e-3) or not scale.all():
        raise ValueError
    # Seven digits, as float32 has them, so that 1 / 127.5 is what it was.
    return bool(reverse), *([float(f"{v:.8g}") for v in values] for values in (scale, offset))
