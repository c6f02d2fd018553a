"""Images from folders, files, Pillow, arrays or data sets, in batches of a model's size."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from zoo.checks import as_array, warn_of_range
from zoo.data import pixels
from zoo.data.resizing import resized


@dataclasses.dataclass
class Images:
    """Images of any size and kind, which become float32 batches of one shape when they are needed.

    Args:
        source: iterable of images (paths, Pillow images or arrays (h, w, C)), or of batches.
        shape: three ints, (H, W, C) of the batches.
        resize: str, "crop" or "squash"; None refuses other sizes than (H, W).
        batched: bool, whether `source` consists of batches: images (B, h, w, C), or tuples that begin
            with images and labels.
        count: int, the number of images. Default: None, not known.
        paths: list of paths, one for each image. Default: None, no files.
        skips: bool, whether files that cannot be read are left out, of `paths` too, and put into
            `unreadable`, (path, reason) each. Default: False, they raise.
        advice: str, what the error about images of another size says first. Default: to set the model's
            `resize`.
    """

    source: Iterable
    shape: tuple
    resize: str | None
    batched: bool
    count: int | None = None
    paths: list | None = None
    skips: bool = False
    advice: str = 'set model.resize to "crop" or "squash"'

    def __post_init__(self):
        self.labels: list[np.ndarray] = []  # of the batches that `batches` has given
        self.unreadable: list[tuple] = []
        self.low, self.high, self.floats = 0.0, 0.0, True  # of all pixels so far
        self.turned = 0  # photographs that `pixels.is_turned`

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """Give the images batch by batch; `labels` grows where the source has labels.

        Args:
            batch_size: int >= 1; batches of a data set keep their own size.

        Returns:
            An iterator of float32 arrays (B, H, W, C).

        Raises:
            ValueError: for images of another size without `resize`, of other channels, not finite, or
                unreadable.

        Warns:
            UserWarning: at the end, for values outside [0, 255], for float images whose values are all
                in [0, 1], and for photographs that `pixels.is_turned`.
        """
        yield from map(self._of_dataset, self.source) if self.batched else self._of_images(batch_size)
        # The caller of zoo.predict is four calls up.
        warn_of_range(self.low, self.high, self.floats, stacklevel=6)
        if self.turned:
            warnings.warn(
                f"photographs that are stored turned (by their EXIF orientation): {self.turned}; they are answered as "
                "they are stored, as Keras reads them; turn them first, as PIL.ImageOps.exif_transpose does",
                stacklevel=5,
            )

    def _of_images(self, batch_size):
        batch: list[np.ndarray] = []
        for name, image in self._named():
            try:
                array = self._array(image, name)
            except ValueError as error:
                if not self.skips:
                    raise
                self.unreadable.append((image, str(error)))
                continue
            batch.append(self._fitted(array, name)[0])
            if len(batch) == batch_size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)
        bad = {path for path, _ in self.unreadable}
        if bad:
            self.paths = [path for path in self.paths or () if path not in bad]

    def _named(self):
        for index, image in enumerate(self.source):
            known = self.paths is not None and self.paths[index] is not None
            yield (str(self.paths[index]) if known else f"image {index}"), image

    def _array(self, image, name):
        if isinstance(image, (str, os.PathLike)):
            array = pixels.read(image, self.shape[-1])
            self.turned += pixels.is_turned(image)
        elif pixels.is_pillow(image):
            self.turned += pixels.is_turned(image)
            array = pixels.from_pillow(image, self.shape[-1])
        else:
            array = as_array(image, f"rows of {name}")
        if array.ndim == 3 and not array.size:
            raise ValueError(f"{name} has shape {array.shape}, which has no pixels; leave it out")
        return array[None]

    def _of_dataset(self, batch):
        labels = None
        if isinstance(batch, (tuple, list)):
            batch, labels = batch[0], batch[1] if len(batch) > 1 else None
        images = as_array(batch, "images")
        if images.ndim == 3:
            raise ValueError(
                "the data set gives single images; batch it, as by dataset.batch(32), and pass it again"
            )
        if labels is not None:
            self.labels.append(as_array(labels, "labels"))
        return self._fitted(images, "a batch of the data set")

    def _fitted(self, images, name):
        """Images (B, h, w, C) at the model's size, checked."""
        if images.dtype.name == "bfloat16":
            images = images.astype("float32")
        height, width, channels = self.shape
        if images.ndim != 4 or images.shape[-1] != channels:
            raise ValueError(
                f"{name} has shape {images.shape[1:]}; this model takes (height, width, {channels})"
            )
        if images.dtype.kind not in "uif":
            raise ValueError(f"{name} has dtype {images.dtype}; pass uint8 or float in [0, 255]")
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise ValueError(f"{name} holds NaN or infinite values; remove or repair it")
        self.floats = self.floats and images.dtype.kind == "f"
        if images.size and images.dtype != "uint8":
            self.low, self.high = min(self.low, float(images.min())), max(self.high, float(images.max()))
        if images.shape[1:3] == (height, width):
            return images.astype("float32")
        if self.resize is None:
            raise ValueError(
                f"{name} is {images.shape[1]}x{images.shape[2]}, and this model takes {height}x{width}: "
                f"{self.advice}, or resize the images"
            )
        return resized(images, (height, width), self.resize)


def open_images(images: Any, shape: tuple, resize: str | None) -> Images:
    """Take images in any form.

    Args:
        images: a folder, a file or an iterable of files; a Pillow image or an iterable of them; arrays
            (h, w, C) of any sizes in a sequence; an array (N, h, w, C); or an iterable of batches.
        shape: three ints, (H, W, C) of the model.
        resize: str or None, see `Images`.

    Returns:
        `Images`.

    Raises:
        FileNotFoundError: for a path that does not exist.
        ValueError: for a folder without images, or what are not images.
    """
    if isinstance(images, (str, os.PathLike)) or pixels.is_pillow(images):
        images = [images]
    elif is_column(images):
        images = list(images)
    if isinstance(images, (list, tuple)):
        if any(isinstance(image, (str, os.PathLike)) for image in images):
            images = [file for image in images for file in _files(image)]
            named = [file if isinstance(file, pathlib.Path) else None for file in images]
            return Images(images, shape, resize, False, len(images), named)
        return Images(images, shape, resize, False, len(images))
    if hasattr(images, "ndim") and not hasattr(images, "__next__"):
        return Images(list(images), shape, resize, False, len(images))
    items = _iterated(images)
    first = list(itertools.islice(items, 1))
    items = itertools.chain(first, items)
    if first and isinstance(first[0], (str, os.PathLike)):
        return open_images(list(items), shape, resize)
    return Images(items, shape, resize, not (first and pixels.is_pillow(first[0])))


def is_column(images: Any) -> bool:
    """Tell whether something is a 1-D array or a `pandas.Series` of paths or other objects.

    Args:
        images: anything.

    Returns:
        A bool.
    """
    kind = getattr(getattr(images, "dtype", None), "kind", None)
    return kind in ("O", "T", "U") and len(images.shape) == 1


def _iterated(dataset):
    """The items of an iterable, or the batches of a data set, once over."""
    if hasattr(dataset, "__getitem__") and not hasattr(dataset, "__iter__"):
        return (dataset[index] for index in range(len(dataset)))  # a keras.utils.PyDataset
    if not hasattr(dataset, "__iter__"):
        raise ValueError(
            f"images must be arrays, files, Pillow images or a data set of batches; got {dataset!r}"
        )
    return iter(dataset)


def _files(path):
    if not isinstance(path, (str, os.PathLike)):
        return [path]
    return files(path) if pathlib.Path(path).is_dir() else [pixels.existing(pathlib.Path(path))]


def files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """List the images of a folder and its subfolders, in the order of `image_dataset_from_directory`.

    Args:
        folder: str or path.

    Returns:
        A list of paths; hidden files and folders are left out.

    Raises:
        ValueError: if there is none.
    """
    found = [
        path
        for path in pathlib.Path(folder).rglob("*")
        if path.suffix.lower() in pixels.SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(pixels.SUFFIXES)}); check the path")
    return sorted(found, key=lambda path: (str(path.parent), path.name))


def class_folders(folder: str | os.PathLike) -> list[str]:
    """List the names of a folder's subfolders, sorted, as `image_dataset_from_directory` names classes.

    Args:
        folder: str or path.

    Returns:
        A list of names, which may be empty.
    """
    return sorted(path.name for path in pathlib.Path(folder).iterdir()
                  if path.is_dir() and not path.name.startswith("."))  # fmt: skip


def labels_of(paths: Iterable[Any] | None, class_names: Iterable[str] | None) -> np.ndarray | None:
    """Return the labels of files that lie in folders named after their classes.

    Args:
        paths: paths, or None.
        class_names: K strings, or None.

    Returns:
        Int array (N,), or None unless every path's folder is named after a class.
    """
    index = {name: label for label, name in enumerate(class_names or ())}
    if not paths or not all(path is not None and path.parent.name in index for path in paths):
        return None
    return np.array([index[path.parent.name] for path in paths])
