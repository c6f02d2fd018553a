"""What each corruption does to images (N, H, W, C) in [0, 1], many at a time.

Every function takes the images, its parameters at a severity, the scale that lengths in pixels are
multiplied by, and a random generator for each image; values it returns may leave [0, 1].
"""

import functools
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage, signal

_GREY = (0.299, 0.587, 0.114)

# Mean colour and contrast of ice, as in the five photographs that the published corruption draws from.
_ICE = (
    ((78, 149, 166), 14),
    ((201, 205, 214), 18),
    ((201, 205, 214), 18),
    ((138, 153, 165), 26),
    ((112, 123, 135), 35),
)


def _draw(rngs, name, shape, *arguments):
    """A draw of `shape` from each image's generator, stacked."""
    return np.stack([getattr(rng, name)(*arguments, size=shape) for rng in rngs])


def gaussian_noise(
    x: np.ndarray, deviation: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Add Gaussian noise.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        deviation: float, the standard deviation of the noise.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    return x + _draw(rngs, "normal", x.shape[1:], 0, deviation)


def shot_noise(
    x: np.ndarray, photons: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Add shot noise: Poisson-distributed counts of photons.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        photons: float, photons at full brightness.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    return np.stack([rng.poisson(image * photons) for rng, image in zip(rngs, x)]) / photons


def impulse_noise(
    x: np.ndarray, amount: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Add salt-and-pepper noise.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        amount: float in [0, 1], the share of values that become 0 or 1.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    draw = _draw(rngs, "random", x.shape[1:])
    return np.where(draw < amount, draw < amount / 2, x)


def _blur(x, deviation, mode="nearest", truncate=4.0):
    return ndimage.gaussian_filter(x, deviation, axes=(1, 2), mode=mode, truncate=truncate)


def defocus_blur(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Blur with a disk, as a lens out of focus.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (radius of the disk, deviation of its soft edge), in pixels.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    radius, edge = parameters
    radius *= scale
    reach = math.ceil(radius) + (1 if radius <= 8 else 2)
    axis = np.arange(-reach, reach + 1)
    disk = (axis[:, None] ** 2 + axis**2 <= radius**2) / 1.0
    soft = np.exp(-(np.arange(-2, 3) ** 2) / (2 * edge**2))
    soft = soft[1:4] if radius <= 8 else soft
    disk = signal.convolve2d(disk, np.outer(soft, soft), mode="same")
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return signal.oaconvolve(padded, (disk / disk.sum())[None, :, :, None], "valid", axes=(1, 2))


def glass_blur(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Blur as through frosted glass: neighbouring pixels are swapped at random.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (deviation of the blur in pixels, reach of a swap in pixels, repetitions).
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    deviation, reach, repetitions = parameters
    deviation, reach = deviation * scale, max(1, round(reach * scale))
    height, width = x.shape[1:3]
    x = np.floor(_blur(x, deviation) * 255 + 1e-6) / 255
    rows, columns = np.mgrid[:height, :width]
    inside = (rows > reach) & (rows <= height - reach) & (columns > reach) & (columns <= width - reach)
    pick = np.arange(len(x))[:, None, None]
    for _ in range(repetitions):
        # From the neighbours up to `reach` before, and one less after: the published asymmetry.
        moves = _draw(rngs, "integers", (2, height, width), -reach, reach) * inside
        x = x[pick, rows + moves[:, 0], columns + moves[:, 1]]
    return _blur(x, deviation)


def _motion(x, radius, deviation, angles):
    """ImageMagick's motion blur: half a Gaussian along a line, an angle (degrees) for each image."""
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    pick = np.arange(len(x))[:, None, None]
    rows, columns = np.arange(x.shape[1])[:, None], np.arange(x.shape[2])
    total = np.zeros_like(x)
    for i, weight in enumerate(weights):
        down = np.ceil(i * np.sin(np.deg2rad(angles)) - 0.5).astype(int)[:, None, None]
        right = np.ceil(i * np.cos(np.deg2rad(angles)) - 0.5).astype(int)[:, None, None]
        r, c = (rows + down).clip(0, x.shape[1] - 1), (columns + right).clip(0, x.shape[2] - 1)
        total += weight * x[pick, r, c]
    return total


def motion_blur(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Blur along a line of random direction.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (radius, deviation), in pixels.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    radius, deviation = parameters
    return _motion(x, radius * scale, deviation * scale, _draw(rngs, "uniform", (), -45, 45))


@functools.lru_cache(maxsize=256)
def _zoom_matrix(size, factor):
    """Linear interpolation that enlarges the middle of a line, as SciPy's zoom and a cut do."""
    kept = math.ceil(size / factor)
    zoomed = round(kept * factor)
    places = (np.arange(size) + (zoomed - size) // 2) * (kept - 1) / max(zoomed - 1, 1)
    places = places.clip(0, kept - 1) + (size - kept) // 2
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


def _zoom(x, factor):
    rows, columns = (_zoom_matrix(size, float(factor)) for size in x.shape[1:3])
    return np.einsum("hi,nijc,wj->nhwc", rows, x, columns, optimize=True)


def zoom_blur(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Average the image with enlarged copies of itself.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (largest zoom factor, step between factors).
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    end, step = parameters
    factors = np.arange(1, end, step)
    return (x + sum(_zoom(x, factor) for factor in factors)) / (len(factors) + 1)


def _grey(x):
    return x if x.shape[-1] == 1 else (x @ np.array(_GREY))[..., None]


def snow(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Add snowflakes and whiten the image.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (mean and deviation of the flakes' noise, zoom, threshold, radius and deviation of
            their motion in pixels, share of the image).
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    mean, deviation, zoom, threshold, radius, spread, share = parameters
    flakes = _zoom(_draw(rngs, "normal", (*x.shape[1:3], 1), mean, deviation), max(1, zoom * scale))
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = _motion(flakes, radius * scale, spread * scale, _draw(rngs, "uniform", (), -135, -45))
    x = share * x + (1 - share) * np.maximum(x, _grey(x) * 1.5 + 0.5)
    return x + flakes + flakes[:, ::-1, ::-1]


def frost(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Overlay generated ice.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (share of the image, share of the ice).
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    image_share, ice_share = parameters
    noise = _draw(rngs, "random", (*x.shape[1:3], 4)) ** 8  # few bright seeds, from which needles grow
    angles = _draw(rngs, "uniform", (4,), 0, 360)
    needles = [_motion(noise[..., [i]], 5 * scale, 2.5 * scale, angles[:, i]) for i in range(4)]
    texture = np.max(needles, axis=0) + 0.15 * _plasma(x.shape[1:3], 2.0, rngs)
    texture -= texture.mean(axis=(1, 2), keepdims=True)
    texture /= texture.std(axis=(1, 2), keepdims=True)
    kinds = _draw(rngs, "integers", (), 0, len(_ICE))
    colours = np.array([_ICE[kind][0] for kind in kinds])[:, None, None] / 255
    contrasts = np.array([_ICE[kind][1] for kind in kinds])[:, None, None, None] / 255
    ice = (colours + contrasts * texture).clip(0, 1)
    return image_share * x + ice_share * (ice if x.shape[-1] == 3 else _grey(ice))


def _plasma(shape, decay, rngs):
    """Clouds (N, H, W, 1) in [0, 1] by the diamond-square algorithm on a torus, one for each image."""
    size = 2 ** math.ceil(math.log2(max(shape)))
    field = np.zeros((len(rngs), size, size))
    wobble, step = 100.0, size

    def mean(corners):
        return corners / 4 + wobble**2 * _draw(rngs, "uniform", corners.shape[1:], -1, 1)

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        middles = mean(pairs + np.roll(pairs, -1, axis=2))
        field[:, half::step, half::step] = middles
        across, down = corners + np.roll(corners, -1, axis=2), corners + np.roll(corners, -1, axis=1)
        field[:, ::step, half::step] = mean(middles + np.roll(middles, 1, axis=1) + across)
        field[:, half::step, ::step] = mean(middles + np.roll(middles, 1, axis=2) + down)
        step, wobble = half, wobble / decay
    field -= field.min(axis=(1, 2), keepdims=True)
    field /= field.max(axis=(1, 2), keepdims=True)
    return field[:, : shape[0], : shape[1], None]


def fog(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Add fog, a plasma fractal.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (amount of fog, decay of its roughness).
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    thickness, decay = parameters
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    fogged = x + thickness * _plasma(x.shape[1:3], decay, rngs)
    return fogged * brightest / (brightest + thickness)


def brightness(
    x: np.ndarray, change: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Brighten the image.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        change: float, what is added.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    value = x.max(axis=-1, keepdims=True)  # V of HSV; hue and saturation stay
    brighter = (value + change).clip(0, 1)
    return np.where(value > 0, x * brighter / np.where(value > 0, value, 1), brighter)


def contrast(
    x: np.ndarray, share: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Lower the contrast.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        share: float in [0, 1], the share of contrast that stays.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    means = x.mean(axis=(1, 2), keepdims=True)
    return (x - means) * share + means


def _bilinear(x, rows, columns, period):
    """Values of images at places (N, H, W), continued by reflection: about the edge or its pixel."""
    n = np.arange(len(x))[:, None, None]

    def corner(r, c):
        return x[n, _fold(r, x.shape[1], period), _fold(c, x.shape[2], period)]

    r, c = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - r)[..., None], (columns - c)[..., None]
    above = corner(r, c) * (1 - right) + corner(r, c + 1) * right
    below = corner(r + 1, c) * (1 - right) + corner(r + 1, c + 1) * right
    return above * (1 - down) + below * down


def _fold(i, size, mode):
    if mode == "mirror":  # d c b | a b c d | c b a
        i = np.abs(i) % (2 * size - 2)
        return np.minimum(i, 2 * size - 2 - i)
    i = i % (2 * size)  # c b a | a b c d | d c b
    return np.minimum(i, 2 * size - 1 - i)


def elastic_transform(
    x: np.ndarray, parameters: tuple, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Stretch regions by a smooth random displacement.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        parameters: (size and deviation of the waves, size of the affine shifts), in multiples of the
            shorter side.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """
    wave, deviation, shift = (value * min(x.shape[1:3]) for value in parameters)
    height, width = x.shape[1:3]
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    centre, side = np.array([height, width]) // 2, min(height, width) // 3
    start = centre + side * np.array([[1, 1], [-1, 1], [-1, -1]])
    end = start + _draw(rngs, "uniform", (3, 2), -shift, shift)
    # The affine map that takes `end` back to `start`, in homogeneous coordinates.
    affine = np.linalg.solve(np.concatenate([end, np.ones_like(end[..., :1])], axis=-1), start)
    back = np.einsum("hwi,nij->nhwj", places, affine[:, :2]) + affine[:, None, None, 2]
    x = _bilinear(x, back[..., 0], back[..., 1], "mirror")
    waves = _draw(rngs, "uniform", (height, width, 2), -1, 1)
    moved = places + wave * _blur(waves, deviation, "reflect", truncate=3)
    return _bilinear(x, moved[..., 0], moved[..., 1], "reflect")


def _by_pillow(x, change):
    """Apply a function of Pillow images to each image."""
    results = []
    for image in (x * 255 + 1e-6).astype("uint8"):
        picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
        results.append(np.asarray(change(picture)).reshape(image.shape))
    return np.stack(results) / 255


def pixelate(
    x: np.ndarray, share: float, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Pixelate: shrink and enlarge.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        share: float in (0, 1], the share of the side that stays.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """

    def change(picture):
        small = picture.resize(
            [max(1, int(side * share)) for side in picture.size], Image.Resampling.BOX
        )
        return small.resize(picture.size, Image.Resampling.BOX)

    return _by_pillow(x, change)


def jpeg_compression(
    x: np.ndarray, quality: int, scale: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Compress as JPEG.

    Args:
        x: float array (N, H, W, C) in [0, 1].
        quality: int, 1 to 100, JPEG's quality.
        scale: float, the factor of lengths in pixels.
        rngs: N `numpy.random.Generator`s, one for each image.

    Returns:
        Float array (N, H, W, C), which may leave [0, 1].
    """

    def change(picture):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(x, change)
