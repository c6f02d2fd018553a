"""The 15 corruptions of CIFAR-10-C and ImageNet-C at five severities, made on the fly from any images.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
ICLR 2019, arXiv 1903.12261.  Written anew on NumPy, SciPy and Pillow, many images at a time; existing
libraries need OpenCV, and have only ImageNet-C's parameters.

Parameters are those published for CIFAR-10-C (32x32) where the shorter side is under 112 pixels, else
those of ImageNet-C (224x224).  From 32 pixels up, radii, blurs and shifts are in proportion to the
shorter side, so they are the published ones at exactly 32 and 224; noise, which is per pixel, does not
scale.

Known differences from the published files:
* frost: they lay photographs over the image.  Here needles of ice are drawn, with the mean colours and
  contrasts of those photographs.
* glass blur above 32x32: every pixel takes a neighbour's value at once, not one after another.
* random numbers, and rounding inside OpenCV and ImageMagick.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.data import arrays
from zoo.evaluation import corruption_effects as effects

SEVERITIES = (1, 2, 3, 4, 5)
_LARGE = 112  # pixels of the shorter side from which ImageNet-C's parameters hold
_CHUNK = 3 * 256 * 32 * 32  # numbers worked on at a time

# Parameters by severity: of CIFAR-10-C, and of ImageNet-C.
_PARAMETERS = {
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    # Radius of the disk, deviation of its soft edge.
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # Deviation of the blur, reach and repetitions of the shuffling.
    "glass_blur": (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    # Radius and deviation.
    "motion_blur": (
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    # Largest zoom and the step to it.
    "zoom_blur": (
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # Mean, deviation, zoom and threshold of flakes, radius and deviation of their motion, share of image.
    "snow": (
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # Shares of image and ice.
    "frost": (
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # Thickness, and how fast the fog's details fade.
    "fog": (
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    # Size and deviation of the waves and size of the affine shifts, in shorter sides.
    "elastic_transform": (
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        tuple(
            tuple(244 / 224 * value for value in values)  # 244 is a slip of the published code
            for values in (
                (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
            )
        ),
    ),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}  # fmt: skip
CORRUPTIONS = tuple(_PARAMETERS)


def corrupt(images: ArrayLike, kind: str, severity: int, seed: int = 0, first: int = 0) -> np.ndarray:
    """Return corrupted copies of images.

    Args:
        images: array (N, H, W, C), uint8 or float in [0, 255]; C is 1 or 3, H and W at least 8.
        kind: str, one of `CORRUPTIONS`.
        severity: int, 1 to 5.
        seed: int >= 0; an image's corruption depends on (seed, kind, severity, its number) and on
            nothing else. Default: 0.
        first: int, the number of images[0], for a data set that is corrupted batch by batch. Default: 0.

    Returns:
        Uint8 array (N, H, W, C).

    Raises:
        ValueError: for an unknown corruption or severity, or for other images.

    Example:
        >>> from zoo.evaluation.corruptions import corrupt
        >>> corrupt(np.zeros((2, 16, 16, 3), "uint8"), "gaussian_noise", severity=3).shape
        (2, 16, 16, 3)
    """
    _check_kind(kind, severity)
    images = _checked(images, seed)
    size = min(images.shape[1:3])
    large = size >= _LARGE
    effect = getattr(effects, kind)
    parameters = _PARAMETERS[kind][large][severity - 1]
    scale = size / 224 if large else max(1, size / 32)
    corrupted = np.empty(images.shape, "uint8")
    step = max(1, _CHUNK // images[0].size)
    number = CORRUPTIONS.index(kind)
    for start in range(0, len(images), step):
        x = images[start : start + step].astype("float64") / 255
        rows = range(first + start, first + start + len(x))
        rngs = [np.random.default_rng([seed, number, severity, row]) for row in rows]
        x = effect(x, parameters, scale, rngs)
        # Cut off, as published, but not for the sake of a rounding error.
        corrupted[start : start + step] = np.clip(x, 0, 1) * 255 + 1e-6
    return corrupted


def corruptions(
    images: ArrayLike,
    kinds: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Generate the corrupted images of all kinds and severities, one copy at a time.

    Args:
        images: array (N, H, W, C), see `corrupt`.
        kinds: names of corruptions. Default: all of `CORRUPTIONS`.
        severities: ints, 1 to 5. Default: all of `SEVERITIES`.
        seed: int >= 0. Default: 0.

    Returns:
        An iterator over (kind, severity, uint8 array (N, H, W, C)).

    Raises:
        ValueError: at once, see `corrupt`.
    """
    pairs = [(kind, severity) for kind in kinds for severity in severities]
    for kind, severity in pairs:
        _check_kind(kind, severity)
    images = _checked(images, seed)
    return ((kind, severity, corrupt(images, kind, severity, seed)) for kind, severity in pairs)


def published(kind: str, severity: int, data_dir: Any) -> Any:
    """Read the published CIFAR-10-C images and labels, if they have been prepared.

    Args:
        kind: str, one of `CORRUPTIONS`.
        severity: int, 1 to 5.
        data_dir: str or path of a folder with TensorFlow Datasets' `cifar10_corrupted`, or with a folder
            of that name that holds files `KIND_SEVERITY.npz` (TFDS's names of the kinds) of `x_test` and
            `y_test`.

    Returns:
        A `zoo.data.arrays.Split`.

    Raises:
        ValueError: for an unknown corruption or severity, or files that cannot be read.
        FileNotFoundError: if they are not there.
    """
    _check_kind(kind, severity)
    return arrays.load(_published_name(kind, severity), "test", data_dir)


def unpublished(
    data_dir: Any, kinds: Sequence[str] = CORRUPTIONS, severities: Sequence[int] = SEVERITIES
) -> list[str]:
    """Return the names of the published sets that have not been prepared.

    Args:
        data_dir: str or path, see `published`.
        kinds: names of corruptions. Default: all of `CORRUPTIONS`.
        severities: ints, 1 to 5. Default: all of `SEVERITIES`.

    Returns:
        A list of strings, empty if all have been prepared.
    """
    data_dir = pathlib.Path(data_dir).expanduser()
    names = [_published_name(kind, severity) for kind in kinds for severity in severities]
    return [name for name in names
            if not ((data_dir / f"{name}.npz").is_file() or (data_dir / name).is_dir())]  # fmt: skip


def _published_name(kind, severity):
    """As TensorFlow Datasets has it."""
    theirs = {"elastic_transform": "elastic", "glass_blur": "frosted_glass_blur"}.get(kind, kind)
    return f"cifar10_corrupted/{theirs}_{severity}"


def average(results: dict[tuple[str, int], float]) -> dict[str, Any]:
    """Average values over all corruptions, for each kind, and for each severity.

    Args:
        results: {(kind, severity): value}.

    Returns:
        {"mean": float, "kinds": {kind: float}, "severities": {severity: float}}.

    Raises:
        ValueError: for no results.

    Example:
        >>> from zoo.evaluation.corruptions import average
        >>> average({("fog", 1): 0.5, ("fog", 2): 1.0})["kinds"]
        {'fog': 0.75}
    """
    if not results:
        raise ValueError("there are no results to average")
    kinds, severities = (list(dict.fromkeys(key[i] for key in results)) for i in (0, 1))
    return {
        "mean": float(np.mean(list(results.values()))),
        "kinds": {k: float(np.mean([v for key, v in results.items() if key[0] == k])) for k in kinds},
        "severities": {
            s: float(np.mean([v for key, v in results.items() if key[1] == s])) for s in severities
        },
    }


def _check_kind(kind, severity):
    if kind not in CORRUPTIONS:
        raise ValueError(f"no corruption {kind!r}; there are {', '.join(CORRUPTIONS)}")
    if not isinstance(severity, int) or severity not in SEVERITIES:
        raise ValueError(f"severity must be an integer from 1 to 5; got {severity!r}")


def _checked(images, seed):
    if not (isinstance(seed, int) and seed >= 0):
        raise ValueError(f"seed must be an integer >= 0; got {seed!r}")
    images = np.asarray(images)
    shape = images.shape
    if len(shape) != 4 or not shape[0] or min(shape[1:3]) < 8 or shape[3] not in (1, 3):
        raise ValueError(f"images must be (N, H, W, 1 or 3), N >= 1, H and W >= 8; got {shape}")
    if images.dtype.kind not in "uif":
        raise ValueError(f"images must be uint8 or float in [0, 255]; got dtype {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"images must be in [0, 255], without NaN; they run from {low:g} to {high:g}")
    return images
