"""Pictures show the pixels that there are, whatever their type."""

import numpy as np
import pytest
from PIL import Image

from zoo import pictures


@pytest.mark.parametrize("kind", ["uint8", "float32", "int64", "unit"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_every_type_are_displayed_alike(kind, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, channels), "uint8")
    given = images / np.float32(255) if kind == "unit" else images.astype(kind)
    expected = np.repeat(images, 3, axis=-1) if channels == 1 else images[..., :3]
    np.testing.assert_array_equal(pictures.displayed(given), expected)


def test_what_lies_outside_is_clipped():
    shown = pictures.displayed(np.array([[[-20.0], [300.0], [np.nan]]]))
    assert shown[0, :, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize("kind", ["uint8", "float32", "unit"])
def test_a_grid_of_grey_images_is_grey_and_not_white(kind, tmp_path):
    images = np.full((8, 10, 10, 1), 60, "uint8")
    given = images / np.float32(255) if kind == "unit" else images.astype(kind)
    path = pictures.sorted_by_uncertainty(given, np.arange(8) / 8, tmp_path / "grid.png", 2, 4)
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert (pixels == 60).all(axis=1).mean() > 0.1
