"""Corruptions against plain formulas and SciPy's own functions, their seeds, shapes and refusals."""

import colorsys
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from zoo.evaluation import corruption_effects as effects
from zoo.evaluation.corruptions import CORRUPTIONS, SEVERITIES, average, corrupt, corruptions, published

RNG = np.random.default_rng(5)
NOISY = RNG.integers(0, 256, (3, 32, 32, 3), "uint8")


@pytest.fixture(scope="module")
def smooth():
    """Images with edges and slopes, as photographs have."""
    x = ndimage.gaussian_filter(RNG.normal(size=(12, 32, 32, 3)), (0, 3, 3, 0))
    x = (x - x.min()) / np.ptp(x) * 255
    x[:, 8:20, 10:25] *= 0.5
    return x.astype("uint8")


def generators(count):
    return [np.random.default_rng(i) for i in range(count)]


def test_the_fifteen_of_the_paper():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 15 and SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 28, 28, 1), (1, 9, 40, 3), (1, 113, 120, 3)])
def test_any_size_and_channels(kind, shape):
    x = np.random.default_rng(1).integers(0, 256, shape, "uint8")
    before = x.copy()
    for severity in SEVERITIES:
        y = corrupt(x, kind, severity, seed=4)
        assert y.shape == shape and y.dtype == np.uint8
        if severity == 5:
            assert (y != x).mean() > 0.05
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(corrupt(x.astype("float32"), kind, 3), corrupt(x, kind, 3))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_depends_on_its_number_alone(kind):
    x = np.repeat(NOISY[:1], 6, axis=0)
    whole = corrupt(x, kind, 4, seed=7)
    parts = [corrupt(x[:4], kind, 4, 7), corrupt(x[4:], kind, 4, 7, first=4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    for other in (whole[1], corrupt(x[:1], kind, 4, seed=8)[0]):
        assert (other == whole[0]).all() == (kind in fixed)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severities_rise(kind, smooth):
    def damage(severity):
        y = corrupt(smooth, kind, severity, seed=1).astype(float)
        return np.abs(y - smooth).mean()

    low, high = (damage(1) + damage(2)) / 2, (damage(4) + damage(5)) / 2
    if kind == "elastic_transform":  # the published table trades the affine shift for waves
        assert 2 < high < low * 1.5
    elif kind == "frost":  # severity 5 draws the ice over a darkened image
        assert high > 0.8 * low > 10
    else:
        assert high > 1.1 * low > 0


def test_large_batches_are_chunked_without_a_trace():
    x = np.repeat(NOISY, 90, axis=0)  # 270 images: more than a chunk
    y = corrupt(x, "shot_noise", 2)
    np.testing.assert_array_equal(y[269:], corrupt(x[269:], "shot_noise", 2, first=269))


def test_noise_has_its_moments():
    grey = np.full((40, 32, 32, 3), 128, "uint8")
    for severity, (gauss, photons, share) in enumerate(((0.04, 500, 0.01), (0.06, 250, 0.02)), 1):
        y = corrupt(grey, "gaussian_noise", severity) / 255
        assert y.std() == pytest.approx(gauss, rel=0.02)
        y = corrupt(grey, "shot_noise", severity) / 255
        assert y.std() == pytest.approx(math.sqrt(128 / 255 / photons), rel=0.02)
        y = corrupt(grey, "impulse_noise", severity)
        assert set(np.unique(y)) == {0, 128, 255}
        assert (y != 128).mean() == pytest.approx(share, rel=0.05)
        assert (y == 0).sum() == pytest.approx((y == 255).sum(), rel=0.1)


def test_brightness_contrast_pixelate_jpeg_are_their_formulas():
    bright, flat = (corrupt(NOISY, kind, 4) for kind in ("brightness", "contrast"))
    for pixel, given_ in zip(NOISY[0, :8].reshape(-1, 3), bright[0, :8].reshape(-1, 3)):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        np.testing.assert_allclose(
            given_, 255 * np.array(colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1))), atol=1
        )
    means = NOISY.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(flat, means + 0.3 * (NOISY - means), atol=1)
    file = io.BytesIO()
    Image.fromarray(NOISY[1]).save(file, "JPEG", quality=50)
    np.testing.assert_array_equal(corrupt(NOISY, "jpeg_compression", 4)[1], Image.open(file))
    small = Image.fromarray(NOISY[1]).resize((24, 24), Image.Resampling.BOX)
    expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_array_equal(corrupt(NOISY, "pixelate", 4)[1], expected)


def test_black_images_stay_sane():
    black = np.zeros((2, 32, 32, 3), "uint8")
    assert (corrupt(black, "brightness", 5) == 76).all()
    for kind in ("contrast", "fog", "shot_noise", "jpeg_compression", "elastic_transform"):
        assert corrupt(black, kind, 5).max() <= 1


def test_defocus_is_a_mirrored_convolution(smooth):
    x = smooth[:2] / 255
    axis = np.arange(-8, 9)
    disk = (axis[:, None] ** 2 + axis**2 <= 1.5**2).astype(float)
    g = np.exp(-np.array([1, 0, 1]) / (2 * 0.1**2))
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(g, g) / g.sum() ** 2, mode="constant")
    expected = ndimage.convolve(x, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(effects.defocus_blur(x, (1.5, 0.1), 1, None), expected, atol=1e-9)


@pytest.mark.parametrize("size", [32, 33, 224])
@pytest.mark.parametrize("factor", [1, 1.01, 1.06, 1.25, 1.75, 4.5])
def test_zoom_is_scipys(size, factor):
    x = RNG.random((1, size, size, 2))
    kept = math.ceil(size / factor)
    top = (size - kept) // 2
    middle = x[0, top : top + kept, top : top + kept]
    zoomed = ndimage.zoom(middle, (factor, factor, 1), order=1)
    trim = (len(zoomed) - size) // 2
    expected = zoomed[trim : trim + size, trim : trim + size]
    np.testing.assert_allclose(effects._zoom(x, factor)[0][: len(expected)], expected, atol=1e-9)


def test_motion_blur_runs_along_its_angle():
    dot = np.zeros((3, 21, 21, 1))
    dot[:, 10, 10] = 1
    y = effects._motion(dot, 4, 3, np.array([0, 90, -45]))[..., 0]
    weights = np.exp(-(np.arange(9) ** 2) / 18)
    weights /= weights.sum()
    np.testing.assert_allclose(y[0, 10, 2:11], weights[::-1])
    np.testing.assert_allclose(y[1, 2:11, 10], weights[::-1])
    np.testing.assert_allclose(y.sum(axis=(1, 2)), 1)
    rows, columns = np.nonzero(y[2])
    np.testing.assert_array_equal(rows - 10, 10 - columns)


def test_glass_blur_is_the_published_loop():
    """Which goes from the last pixel to the first and, for all its swaps, copies."""
    x = NOISY[:1] / 255
    given_ = effects.glass_blur(x, (1e-3, 1, 2), 1, generators(1))
    expected, rng = NOISY[0].copy(), generators(1)[0]
    for _ in range(2):
        moves = rng.integers(-1, 1, size=(2, 32, 32))
        for h in range(31, 1, -1):
            for w in range(31, 1, -1):
                dy, dx = moves[:, h, w]
                expected[h, w], expected[h + dy, w + dx] = expected[h + dy, w + dx], expected[h, w]
    np.testing.assert_allclose(given_[0] * 255, expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["mirror", "reflect"]), st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_sampling_is_scipys(mode, height, width, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((2, height, width, 1))
    rows, columns = rng.uniform(-12, 20, (2, 2, height, width))
    given_ = effects._bilinear(x, rows, columns, mode)[..., 0]
    for i in range(2):
        expected = ndimage.map_coordinates(x[i, ..., 0], [rows[i], columns[i]], order=1, mode=mode)
        np.testing.assert_allclose(given_[i], expected, atol=1e-9)


def test_elastic_without_shifts_and_waves_is_the_image():
    x = NOISY / 255
    np.testing.assert_allclose(effects.elastic_transform(x, (0, 1, 0), 1, generators(3)), x, atol=1e-9)
    ramp = np.broadcast_to(np.arange(32.0)[:, None, None] / 31, (1, 32, 32, 1))
    moved = effects.elastic_transform(ramp, (0, 1, 0.02), 1, generators(1))
    slopes = np.diff(moved[0, 6:26, 6:26, 0], axis=0) * 31  # an affine map keeps a plane a plane
    assert slopes.std() < 1e-6 and 0.9 < slopes.mean() < 1.1


def test_clouds_and_ice():
    clouds = effects._plasma((32, 20), 2.0, generators(50))
    assert clouds.shape == (50, 32, 20, 1) and clouds.min() >= 0 and clouds.max() <= 1
    neighbours = np.abs(np.diff(clouds, axis=1)).mean()
    assert neighbours < 0.5 * np.abs(clouds[1:] - clouds[:-1]).mean()
    ice = effects.frost(np.zeros((60, 32, 32, 3)), (0, 1), 1, generators(60))
    means, spread = ice.mean(axis=(1, 2)) * 255, ice.std(axis=(1, 2)) * 255
    assert (means[:, 2] > means[:, 0]).all()  # blue rather than red
    assert 100 < means.mean() < 190 and 8 < spread.mean() < 40
    snow = corrupt(np.full((20, 32, 32, 3), 90, "uint8"), "snow", 3)
    assert (snow >= 89).all() and (snow > 150).mean() > 0.02


def test_the_generator_gives_all_pairs():
    given_ = list(corruptions(NOISY, ("fog", "contrast"), (1, 5), seed=3))
    assert [pair[:2] for pair in given_] == [(k, s) for k in ("fog", "contrast") for s in (1, 5)]
    for kind, severity, y in given_:
        np.testing.assert_array_equal(y, corrupt(NOISY, kind, severity, seed=3))


def test_averages():
    results = {("fog", 1): 1.0, ("fog", 5): 3.0, ("snow", 1): 5.0, ("snow", 5): 8.0}
    assert average(results) == {
        "mean": 4.25, "kinds": {"fog": 2, "snow": 6.5}, "severities": {1: 3, 5: 5.5}
    }  # fmt: skip


def test_published_images_are_found_or_missed(tmp_path):
    (tmp_path / "cifar10_corrupted").mkdir()
    file = tmp_path / "cifar10_corrupted" / "frosted_glass_blur_3.npz"
    np.savez(file, x_test=NOISY, y_test=np.arange(3))
    np.testing.assert_array_equal(published("glass_blur", 3, tmp_path).images, NOISY)
    with pytest.raises(FileNotFoundError, match="cifar10_corrupted/fog_3"):
        published("fog", 3, tmp_path)


BAD = [
    (lambda: corrupt(NOISY, "rain", 1), "rain.*gaussian_noise"),
    (lambda: corrupt(NOISY, "fog", 6), "1 to 5.*6"),
    (lambda: corrupt(NOISY, "fog", 0), "1 to 5.*0"),
    (lambda: corrupt(NOISY, "fog", 1, seed=-1), "seed.*-1"),
    (lambda: corrupt(NOISY[0], "fog", 1), r"\(32, 32, 3\)"),
    (lambda: corrupt(NOISY[:0], "fog", 1), r"\(0, 32, 32, 3\)"),
    (lambda: corrupt(NOISY[..., :2], "fog", 1), r"32, 2\)"),
    (lambda: corrupt(NOISY[:, :7], "fog", 1), r">= 8; got \(3, 7"),
    (lambda: corrupt(NOISY * 2.0, "fog", 1), "0, 255.*510|50"),
    (lambda: corrupt(np.full((1, 8, 8, 1), np.nan), "fog", 1), "NaN"),
    (lambda: corrupt(NOISY.astype(str), "fog", 1), "dtype"),
    (lambda: corruptions(NOISY, ["fog", "rain"]), "rain"),
    (lambda: corruptions(NOISY[:0]), "N >= 1"),
    (lambda: average({}), "no results"),
]


@pytest.mark.parametrize(("call", "pattern"), BAD)
def test_bad_input_is_refused_in_one_line(call, pattern, raises_line):
    with raises_line(ValueError, pattern):
        call()
