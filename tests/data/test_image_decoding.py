"""Decoding and cropping of encoded images: Pillow's pixels, and boxes that pixels themselves show."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers.images import encode

tf = pytest.importorskip("tensorflow")

from zoo.data import image_decoding  # noqa: E402


def places(height, width):
    """An image whose pixels tell where they are: red the column, green the row."""
    image = np.zeros((height, width, 3), "uint8")
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return encode(image, quality=100, subsampling=0)


def blank():
    return tf.fill((1, 1, 3), tf.constant(128, tf.uint8))


@pytest.fixture(scope="module")
def photograph():
    """(41, 64, 3) uint8, smooth, with edges."""
    rows, columns = np.mgrid[:41, :64]
    waves = [np.sin(rows / 9 + k) * np.cos(columns / (7 + k)) * 60 + 120 for k in range(3)]
    image = np.stack(waves, -1)
    image[10:20, 30:50] += 60
    return np.clip(image, 0, 255).astype("uint8")


def files(array):
    return {
        "plain": encode(array, quality=95),
        "progressive": encode(array, quality=95, progressive=True),
        "cmyk": encode(array, mode="CMYK", quality=95),
        "grey": encode(array, mode="L", quality=95),
        "png": encode(array, "PNG"),
        "grey png": encode(array, "PNG", mode="L"),
        "palette png": encode(array, "PNG", mode="P"),
        "alpha png": encode(array, "PNG", mode="RGBA"),
        "bmp": encode(array, "BMP"),
        "garbage": encode(array, quality=95) + b"something",
    }


@pytest.mark.parametrize("kind", files(np.zeros((1, 1, 3), "uint8")))
def test_kinds_of_files(photograph, kind):
    encoded = files(photograph)[kind]
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype("int32")
    pixels = image_decoding.decode(tf.constant(encoded), 3, None, blank).numpy()
    assert pixels.dtype == "uint8"
    assert np.abs(pixels - expected).max() <= 1
    crop = image_decoding.centre_crop((16, 16))
    part = image_decoding.decode(tf.constant(encoded), 3, crop, blank).numpy()
    assert part.shape == (16, 16, 3) and abs(part.mean() - expected[3:38, 14:50].mean()) < 2
    if kind.startswith("grey"):
        pixels = image_decoding.decode(tf.constant(encoded), 1, None, blank).numpy()
        assert pixels.shape == (41, 64, 1) and np.abs(pixels - expected[..., :1]).max() <= 1


@pytest.mark.fast("True-0.5-JPEG", "False-0.5-PNG", "False-0.0-JPEG")
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("cropped", [True, False])
def test_truncated_files(photograph, form, share, cropped):
    encoded = encode(photograph, form)
    encoded = tf.constant(encoded[: int(share * len(encoded))])
    crop = image_decoding.centre_crop((16, 16)) if cropped else None
    assert (image_decoding.decode(encoded, 3, crop, blank).numpy() == 128).all()

    def named():
        tf.debugging.Assert(False, ["record 7 of a file cannot be decoded"])
        return blank()

    with pytest.raises(tf.errors.InvalidArgumentError, match="record 7 of a file"):
        image_decoding.decode(encoded, 3, crop, named)


@pytest.mark.slow
def test_random_crops():
    height, width = 120, 200
    encoded = tf.constant(places(height, width))

    def cropped(i):
        crop = image_decoding.random_resized_crop((16, 16), tf.stack([np.int64(5), i]))
        return image_decoding.decode(encoded, 3, crop, blank)

    images = np.stack(list(tf.data.Dataset.range(300).map(cropped).as_numpy_iterator())).astype(
        "float64"
    )
    again = np.stack(list(tf.data.Dataset.range(300).map(cropped, 4).as_numpy_iterator()))
    np.testing.assert_array_equal(images, again)
    x, y = images[:, 4:12, 4:12, 0].mean(1), images[:, 4:12, 4:12, 1].mean(2)
    wide, high = (x[:, -1] - x[:, 0]) / 7 * 16, (y[:, -1] - y[:, 0]) / 7 * 16
    area, ratio = wide * high / (height * width), wide / high
    assert 0.07 < area.min() < 0.12 and 0.7 < area.max() < 0.82  # 160 x 120 is the largest that fits
    assert 0.3 < area.mean() < 0.5
    large = ratio[area > 0.15]  # of few pixels, sides are measured badly
    assert 0.72 < large.min() < 0.8 and 1.25 < large.max() < 1.39
    for centre, extent, side in ((x.mean(1), wide, width), (y.mean(1), high, height)):
        assert (centre - extent / 2).min() > -3 and (centre + extent / 2).max() < side + 3
        assert (centre - extent / 2).std() > 0.1 * side


def test_an_image_too_long_for_any_draw_is_taken_whole():
    encoded = tf.constant(encode(np.full((10, 2000, 3), 90, "uint8")))
    crop = image_decoding.random_resized_crop((8, 8), tf.constant([1, 2]))
    assert tuple(crop(tf.image.extract_jpeg_shape(encoded))[0].numpy()) == (0, 0, 10, 2000)
    assert image_decoding.decode(encoded, 3, crop, blank).shape == (8, 8, 3)


def test_centre_crop():
    encoded = tf.constant(places(128, 200))
    image = image_decoding.decode(encoded, 3, image_decoding.centre_crop((28, 28)), blank).numpy()
    steps = (np.arange(28) + 0.5) * 4 - 0.5  # 112 of the 128 rows, and as many columns
    np.testing.assert_allclose(image[14, :, 0], steps + 44, atol=2)
    np.testing.assert_allclose(image[:, 14, 1], steps + 8, atol=2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (375, 500), (500, 375), (224, 224)])
@pytest.mark.parametrize("size", [(224, 224), (32, 64), (7, 3)])
def test_centre_crops_lie_within_images(shape, size):
    box, given = image_decoding.centre_crop(size)(tf.constant([*shape, 3]))
    top, left, height, width = box.numpy()
    assert given == size and top >= 0 and left >= 0 and height >= 1 and width >= 1
    assert top + height <= shape[0] and left + width <= shape[1]
    if min(shape) > 1:
        assert abs(top - (shape[0] - height) / 2) <= 1 and abs(left - (shape[1] - width) / 2) <= 1
        assert min(shape[0] / height, shape[1] / width) == pytest.approx(256 / 224, 0.02)
