"""A small folder of photographs to try things on, cut from images that scikit-learn ships.

    python -m zoo.data.sample photos

writes photos/train, photos/calibrate and photos/validate, each with a subfolder for the classes digit,
flower and temple, and photos/new without subfolders: 32x32 PNG files, nothing to download.
"""

import functools
import pathlib
import sys
from typing import Any

import numpy as np

from zoo import command_errors

SIDE = 32
CLASSES = ("digit", "flower", "temple")
PARTS = {"train": 80, "calibrate": 60, "validate": 60, "new": 12}  # images of each class


def sample_photographs(folder: Any, seed: int = 0) -> pathlib.Path:
    """Write a folder of small photographs in three classes.

    Photographs to train on are cut from the left half of two large ones, all others from the right half.

    Args:
        folder: str or path, created if missing.
        seed: int, decides where they are cut. Default: 0.

    Returns:
        The path of the folder.
    """
    from PIL import Image

    folder, rng = pathlib.Path(folder), np.random.default_rng(seed)
    digits = _digits(rng)
    for part, count in PARTS.items():
        for name in CLASSES:
            target = folder / part / (name if part != "new" else "")
            target.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image = next(digits) if name == "digit" else _patch(name, part == "train", rng)
                number = index * len(CLASSES) + CLASSES.index(name)
                stem = f"{number:03}" if part == "new" else f"{name}-{index:03}"
                Image.fromarray(image).save(target / f"{stem}.png")
    return folder


def _digits(rng):
    """Scans of handwritten digits, in random order, none twice."""
    from sklearn.datasets import load_digits

    scans = load_digits().images * (255 / 16)
    for index in rng.permutation(len(scans)):
        grey = np.kron(scans[index], np.ones((SIDE // 8, SIDE // 8))).astype("uint8")
        yield np.repeat(grey[..., None], 3, axis=-1)


@functools.cache
def _photo(file):
    from sklearn.datasets import load_sample_image

    return load_sample_image(file)


def _patch(name, left, rng):
    """A small square of one half of a photograph, enlarged and in grey: some show nothing but sky or leaf."""
    photo = _photo({"flower": "flower.jpg", "temple": "china.jpg"}[name])
    middle = photo.shape[1] // 2
    half = photo[:, :middle] if left else photo[:, middle:]
    y, x = (rng.integers(0, size - SIDE // 2) for size in half.shape[:2])
    grey = half[y : y + SIDE // 2, x : x + SIDE // 2].mean(axis=-1).round().astype("uint8")
    return np.repeat(np.kron(grey, np.ones((2, 2), "uint8"))[..., None], 3, axis=-1)


def main(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: list of one str, the folder to write.

    Returns:
        The exit status: 0; 2 after an error, which is one line; 130 after Ctrl-C.
    """
    try:
        if len(arguments) != 1:
            raise ValueError("pass the folder to write, such as photos")
        print(sample_photographs(arguments[0]))
    except (Exception, KeyboardInterrupt) as error:
        return command_errors.report(error, "zoo.data.sample")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
