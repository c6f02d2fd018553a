"""Encoded images to uint8 pixels, within tf.data: decode, crop and resize, with draws that depend on a key.

JPEGs are decoded no further than their crop needs.  Grey and CMYK JPEGs and PNGs named .JPEG, all of which
ImageNet has, come out with the channels that are asked for.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SHARE = 224 / 256  # of the shorter side, that a centre crop keeps
DCT = "INTEGER_ACCURATE"  # as Pillow and torchvision; TensorFlow's default is a grey level darker


def random_resized_crop(size: tuple[int, int], key: Any) -> Callable:
    """Make a random crop that is resized to a fixed size (Szegedy et al., 2015, arXiv 1409.4842).

    The crop has .08 to 1 of the image's area and a ratio of sides between 3/4 and 4/3; it is the
    whole image if none of ten draws fits.

    Args:
        size: two ints, (height, width) of the result, in pixels.
        key: int tensor (2,), which decides the draw.

    Returns:
        A function from an image's (height, width, channels) to ((top, left, height, width), size).
    """

    def crop(shape):
        corner, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, tf.zeros((1, 0, 4)), key, min_object_covered=0.0, aspect_ratio_range=RATIO,
            area_range=AREA, max_attempts=10, use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        return tf.concat([corner[:2], extent[:2]], 0), size

    return crop


def centre_crop(size: tuple[int, int]) -> Callable:
    """Make a centre crop: as if the image were resized to 256/224 of `size` or a bit more, then cropped.

    Args:
        size: two ints, (height, width) of the result, in pixels.

    Returns:
        A function from an image's (height, width, channels) to ((top, left, height, width), size).
    """

    def crop(shape):
        shape = tf.cast(shape[:2], tf.float32)
        extent = (
            tf.reduce_min(shape / tf.constant(size, tf.float32)) * SHARE * tf.constant(size, tf.float32)
        )
        extent = tf.cast(tf.clip_by_value(tf.round(extent), 1.0, shape), tf.int32)
        corner = (tf.cast(shape, tf.int32) - extent) // 2
        return tf.concat([corner, extent], 0), size

    return crop


def decode(encoded: Any, channels: int, crop: Callable | None, otherwise: Callable) -> Any:
    """Decode an image.

    Args:
        encoded: string tensor, the bytes of a JPEG, PNG, BMP or GIF.
        channels: int, 1 or 3.
        crop: None, or what `random_resized_crop` or `centre_crop` returned.
        otherwise: function without arguments that gives the pixels of an image that cannot be decoded,
            or fails with a message that names it.

    Returns:
        Uint8 tensor (H, W, channels).
    """
    jpeg = tf.io.is_jpeg(encoded)
    whole = jpeg & _ends_with(encoded, b"\xff\xd9") | _ends_with(encoded, b"IEND\xaeB`\x82")

    def pixels():
        return tf.cond(
            jpeg,
            lambda: _jpeg(encoded, channels, crop),
            lambda: _any(encoded, channels, crop),
        )

    # Decoders skip what is below a crop, so a truncated image would fail for some crops only, and an
    # error does not say of which image it is: images without an end are decoded whole, and guarded.
    return tf.cond(whole, pixels, lambda: _guarded(encoded, channels, crop, otherwise))


def _ends_with(encoded, end):
    position = tf.maximum(tf.strings.length(encoded) - len(end), 0)
    return tf.strings.substr(encoded, position, len(end)) == end


def _jpeg(encoded, channels, crop):
    if crop is None:
        return tf.io.decode_jpeg(encoded, channels, dct_method=DCT)
    box, size = crop(tf.image.extract_jpeg_shape(encoded))
    return _resized(tf.image.decode_and_crop_jpeg(encoded, box, channels, dct_method=DCT), size)


def _any(encoded, channels, crop):
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _jpeg(encoded, channels, None),
        lambda: tf.io.decode_image(encoded, channels, expand_animations=False),
    )
    if crop is None:
        return image
    box, size = crop(tf.shape(image))
    top, left, height, width = tf.unstack(box, 4)
    return _resized(image[top : top + height, left : left + width], size)


def _resized(image, size):
    return tf.cast(tf.round(tf.image.resize(image, size)), tf.uint8)


def _guarded(encoded, channels, crop, otherwise):
    """`_any`, or `otherwise` where it fails: only data sets can go on after an error."""
    decoded = tf.data.Dataset.from_tensors(encoded).map(lambda x: _any(x, channels, crop))
    instead = tf.data.Dataset.from_tensors(0).map(lambda _: otherwise())
    return decoded.ignore_errors().concatenate(instead).take(1).get_single_element()
