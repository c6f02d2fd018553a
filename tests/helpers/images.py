"""Small data sets, and images in files' formats."""

import io

import numpy as np
from PIL import Image

from zoo.data import arrays


def split(count):
    """Images 2x2 whose pixels are their label, 0 to count - 1."""
    images = np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")
    return arrays.Split(images, np.arange(count, dtype="int32"))


def encode(array, form="JPEG", mode=None, **options):
    """The contents of an image's file."""
    encoded = io.BytesIO()
    image = Image.fromarray(array)
    image.convert(mode or image.mode).save(encoded, form, **options)
    return encoded.getvalue()
