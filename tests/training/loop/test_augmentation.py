"""Augmentation against all images that it may make of one.  Runs on every backend."""

import numpy as np
import pytest
from keras import ops

from zoo.training.loop.augmentation import RandomCutout, RandomShiftFlip


def crops(image, shift, flip):
    """All images that augmentation may make of one."""
    size = image.shape[0]
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)))
    for i in range(2 * shift + 1):
        for j in range(2 * shift + 1):
            crop = padded[i : i + size, j : j + size]
            yield crop
            if flip:
                yield crop[:, ::-1]


@pytest.mark.parametrize(("shift", "flip"), [(2, True), (2, False), (0, True), (0, False)])
def test_augmentation_makes_exactly_the_possible_crops(shift, flip):
    image = np.random.default_rng(7).uniform(1, 255, (6, 6, 3)).astype("float32")
    layer = RandomShiftFlip(shift, flip, seed=1)
    batch = np.repeat(image[None], 400, axis=0)
    possible = {crop.tobytes() for crop in crops(image, shift, flip)}
    given = ops.convert_to_numpy(layer(batch, training=True))
    assert given.shape == batch.shape
    assert {made.tobytes() for made in given} == possible


def test_augmentation_draws_anew_and_repeats_with_its_seed(images):
    x = images.astype("float32")
    layer, twin = (RandomShiftFlip(3, seed=2) for _ in range(2))
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(twin(x, training=True)), first)


def test_augmentation_is_a_good_layer_and_rests_outside_training(images, check_layer):
    x = images.astype("float32")
    layer = RandomShiftFlip(3, seed=2)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    check_layer(lambda: RandomShiftFlip(2, False, seed=3), x / 255)


def blanked(image, size, value):
    """All images that a square of this size, centred on a pixel, may make of one."""
    height, width = image.shape[:2]
    for i in range(height):
        for j in range(width):
            top, left = i - size // 2, j - size // 2
            made = image.copy()
            made[max(top, 0) : top + size, max(left, 0) : left + size] = value
            yield made


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_blanks_exactly_the_possible_squares(size):
    image = np.random.default_rng(7).uniform(1, 255, (5, 4, 3)).astype("float32")
    layer = RandomCutout(size, value=0.5, seed=1)
    given = ops.convert_to_numpy(layer(np.repeat(image[None], 400, axis=0), training=True))
    possible = {made.tobytes() for made in blanked(image, size, 0.5)}
    assert {made.tobytes() for made in given} == possible


def test_cutout_is_a_good_layer_repeats_with_its_seed_and_rests_outside_training(images, check_layer):
    x = images.astype("float32")
    layer, twin = RandomCutout(5, seed=2), RandomCutout(5, seed=2)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(twin(x, training=True)), first)
    check_layer(lambda: RandomCutout(3, seed=3), x / 255)
