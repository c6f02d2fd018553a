"""Image data sets as arrays in memory: TensorFlow Datasets' folders, or `.npz` without TensorFlow."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from zoo.checks import check_class_names
from zoo.data.epoch_shuffle import EpochShuffle
from zoo.data.presence import check_present
from zoo.errors import one_line

# Mean and deviation of the training images for each channel, in [0, 255].
STATISTICS = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "mnist": ((33.3,), (78.6,)),
    "fashion_mnist": ((72.9,), (90.0,)),
    "tiny_imagenet": ((122.5, 114.3, 101.4), (70.5, 68.6, 71.8)),
    "imagenet2012": ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
}


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels in memory; it unpacks into these two.

    Args:
        images: array (N, H, W, C) of uint8.
        labels: array (N,) of int32.
        class_names: tuple of K str, or empty where the data set does not name its classes. Default: ().
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple = ()

    def __len__(self):
        return len(self.labels)

    def __iter__(self):
        return iter((self.images, self.labels))

    def subset(self, rows: Any) -> Split:
        """Return the split of some rows.

        Args:
            rows: slice, or int array of indices.

        Returns:
            A `Split`.
        """
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])

    @property
    def image_shape(self) -> tuple:
        """The shape of an image, (H, W, C)."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        """The number of classes, K: as many as are named, or one more than the highest label."""
        return len(self.class_names) or int(self.labels.max()) + 1

    def batches(self, size: int) -> Iterator:
        """Generate all (images, labels) in order.

        Args:
            size: int >= 1, images per batch; the last may have fewer.

        Returns:
            An iterator over pairs of arrays.
        """
        for start in range(0, len(self), size):
            yield self.images[start : start + size], self.labels[start : start + size]

    def shuffled(self, recipe: Any, part: int = 0, parts: int = 1) -> EpochShuffle:
        """Return the batches to train on.

        Args:
            recipe: a `zoo.training.recipes.Recipe`, for batch size, seed and flips.
            part: int, which of `parts` equal parts of every batch is given. Default: 0.
            parts: int >= 1. Default: 1.

        Returns:
            An `EpochShuffle`.
        """
        return EpochShuffle(
            self, recipe.batch_size, recipe.seed, part=part, parts=parts,
            alternate_flips=recipe.flip and recipe.alternate_flips,
        )  # fmt: skip


def load(name: str, split: str, data_dir: Any) -> Split:
    """Load a split of a data set from DATA_DIR/NAME.npz, or else from TFDS's folder.

    Args:
        name: str, the data set's name, such as "cifar10".
        split: str, "train" or "test".
        data_dir: str or path of the data sets.

    Returns:
        A `Split`.

    Raises:
        FileNotFoundError: if neither is there.
        ValueError: for a damaged file, no images, labels that are not class indices, and class names that
            are not unique or hold control characters.
    """
    data_dir = pathlib.Path(data_dir).expanduser()
    path = data_dir / f"{name}.npz"
    try:
        if path.is_file():
            return _checked(*_from_npz(path, split))
        path = data_dir / name
        return _checked(*_from_tfds(name, split, data_dir))
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise ValueError(
            f"{path} is not a complete data set ({one_line(error)}); prepare it again"
        ) from None


def _checked(images, labels, names):
    """A `Split` of what was read; ValueError if it cannot be one."""
    if not (images.size and labels.size):
        raise ValueError(f"{len(images)} images and {len(labels)} labels in a split")
    if images.ndim not in (3, 4):
        raise ValueError(f"images must be (N, H, W, C); got {images.shape}")
    if images.ndim == 3:
        images = images[..., None]
    names = [str(name) for name in names]
    check_class_names(names, len(names))
    return Split(images, _class_indices(labels), tuple(names))


def _class_indices(labels):
    """Labels (N,) of int32; ValueError for fractions and what does not fit, before anything wraps."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"integer labels expected, got {labels.reshape(-1)[:1].tolist()[0]!r}")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError("integer labels expected, got fractions or NaN")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= 2**31:
        raise ValueError(f"labels must be >= 0 and less than 2**31, got {low} to {high}")
    return labels.reshape(-1).astype("int32")


def _from_npz(path, split):
    with np.load(path) as arrays:
        if f"x_{split}" not in arrays:
            raise FileNotFoundError(f"{path} has no {split} split")
        names = arrays["class_names"] if "class_names" in arrays else ()
        return arrays[f"x_{split}"], arrays[f"y_{split}"], names


def _from_tfds(name, split, data_dir):
    check_present(name, data_dir)
    try:
        import tensorflow_datasets as tfds

        # One file at a time, so that examples come in the same order on every machine.
        arrays, info = tfds.load(
            name, split=split, data_dir=str(data_dir), download=False, batch_size=-1, with_info=True,
            as_supervised=True, read_config=tfds.ReadConfig(interleave_cycle_length=1),
        )  # fmt: skip
        return *tfds.as_numpy(arrays), info.features["label"].names
    except Exception as error:  # TFDS raises AssertionError, ImportError and errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileNotFoundError(
            f"the folder of {name} in {data_dir} has no {split} split that TensorFlow Datasets can read "
            f"({reason}); prepare it again"
        ) from None


def hold_out(data: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split off held-out examples, the same for every method.

    Args:
        data: a `Split`.
        fraction: float in [0, 1], the share that is held out.
        seed: int, decides which.

    Returns:
        (the rest, held out), two `Split`s.
    """
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(data))
    count = round(len(data) * fraction)
    held, rest = np.sort(order[:count]), np.sort(order[count:])
    return data.subset(rest), data.subset(held)
