"""Images from folders, files, Pillow, arrays or data sets, in batches of a model's size."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from zoo.checks import warn_of_range
from zoo.data.resizing import resized

BY_TENSORFLOW = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # what Keras's directory reader takes
WITH_EXIF = (".jpeg", ".jpg", ".tif", ".tiff", ".webp")  # in a PNG Pillow would look behind all pixels
SUFFIXES = (*BY_TENSORFLOW, ".tif", ".tiff", ".webp")


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
        self.turned = 0  # photographs that `is_turned`

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
                in [0, 1], and for photographs that `is_turned`.
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
            pixels = read(image, self.shape[-1])
            self.turned += is_turned(image)
        elif is_pillow(image):
            self.turned += is_turned(image)
            pixels = from_pillow(image, self.shape[-1])
        else:
            pixels = to_numpy(image)
        if pixels.ndim == 3 and not pixels.size:
            raise ValueError(f"{name} has shape {pixels.shape}, so no pixels; leave it out")
        return pixels[None]

    def _of_dataset(self, batch):
        labels = None
        if isinstance(batch, (tuple, list)):
            batch, labels = batch[0], batch[1] if len(batch) > 1 else None
        images = to_numpy(batch)
        if images.ndim == 3:
            raise ValueError(
                "the data set gives single images; batch it, as by dataset.batch(32), and pass it again"
            )
        if labels is not None:
            self.labels.append(np.asarray(to_numpy(labels)))
        return self._fitted(images, "a batch of the data set")

    def _fitted(self, images, name):
        """Images (B, h, w, C) at the model's size, checked."""
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


def of(images: Any, shape: tuple, resize: str | None) -> Images:
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
        ValueError: for a folder without images, or what is no images.
    """
    if isinstance(images, (str, os.PathLike)) or is_pillow(images):
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
        return of(list(items), shape, resize)
    return Images(items, shape, resize, not (first and is_pillow(first[0])))


def is_pillow(image: Any) -> bool:
    """Tell whether something is a `PIL.Image.Image`, without importing Pillow."""
    return hasattr(image, "convert") and hasattr(image, "mode")


def is_column(images: Any) -> bool:
    """Tell whether something is a 1-D array or a `pandas.Series` of paths or other objects."""
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
    return files(path) if pathlib.Path(path).is_dir() else [_existing(pathlib.Path(path))]


def _existing(path):
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; check the path")
    return path


def files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """List the images of a folder and its subfolders, in the order of `image_dataset_from_directory`.

    Args:
        folder: str or path.

    Returns:
        A list of paths; hidden files are left out.

    Raises:
        ValueError: if there is none.
    """
    found = [
        path
        for path in pathlib.Path(folder).rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(SUFFIXES)}); check the path")
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


def read(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Read an image file as `keras.utils.image_dataset_from_directory` does, pixel for pixel.

    The orientation in a photograph's EXIF data is not applied, because Keras does not apply it (see
    `is_turned`).
    Formats that Keras does not read (TIFF, WebP) are read by Pillow, and so are files that TensorFlow
    refuses, such as a GIF for one channel, and all files without TensorFlow.

    Args:
        path: str or path.
        channels: int, 1, 3 or 4.

    Returns:
        Uint8 array (h, w, channels).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image.
    """
    path = _existing(pathlib.Path(path))
    by_tensorflow = path.suffix.lower() in BY_TENSORFLOW and _tensorflow()
    reasons = []
    for reader in (_by_tensorflow, _by_pillow) if by_tensorflow else (_by_pillow,):
        try:
            return reader(path, channels)
        except Exception as error:  # whatever a decoder raises
            reasons.append(_reason(error))
    raise ValueError(f"{path} cannot be read as an image ({reasons[0]}); repair or remove it")


def _reason(error):
    """The beginning of what a decoder says, without the names of TensorFlow's operations around it."""
    text = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error), flags=re.DOTALL).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _by_pillow(path, channels):
    from PIL import Image

    with Image.open(path) as image:
        return from_pillow(image, channels)


def _by_tensorflow(path, channels):
    import tensorflow as tf

    with tf.device("CPU"):
        content = tf.io.read_file(str(path))
        return tf.io.decode_image(content, channels, expand_animations=False).numpy()


def _tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


def is_turned(image: Any) -> bool:
    """Tell whether a photograph is stored rotated or mirrored, by the orientation in its EXIF data.

    Args:
        image: path of an image file, or a `PIL.Image.Image`.

    Returns:
        A bool; False for a file whose EXIF data Pillow cannot read, or of a format that rarely has any.
    """
    from PIL import ExifTags, Image

    try:
        if not isinstance(image, (str, os.PathLike)):
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if pathlib.Path(image).suffix.lower() not in WITH_EXIF:
            return False
        with Image.open(image) as opened:
            return is_turned(opened)
    except Exception:  # whatever Pillow raises of damaged EXIF data
        return False


def from_pillow(image: Any, channels: int) -> np.ndarray:
    """Return the pixels of a Pillow image.

    Args:
        image: a `PIL.Image.Image` of any mode.
        channels: int, 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns:
        Uint8 array (h, w, channels). Values of 16 bits are scaled to [0, 255], and so are those of 32
        bits if one is above 255.

    Raises:
        ValueError: for another number of channels, values that 16 bits do not hold, or floats that are
            not finite or not in [0, 255].
    """
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise ValueError(f"Pillow images have 1, 3 or 4 channels, and this model takes {channels}")
    if image.mode.startswith("I"):  # Pillow would clip, not scale
        from PIL import Image

        image = Image.fromarray(_of_integers(np.asarray(image), image.mode))
    elif image.mode == "F":  # Pillow would clip, and turn NaN into a number
        _check_floats(np.asarray(image))
    pixels = np.asarray(image.convert(modes[channels]))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _of_integers(pixels, mode):
    """Uint8 values of integers of 16 or 32 bits."""
    low, high = int(pixels.min(initial=0)), int(pixels.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"the image's values run from {low} to {high}; scale them to [0, 255]")
    scale = 1 if mode == "I" and high <= 255 else 257
    return (pixels / scale).round().astype("uint8")


def _check_floats(pixels):
    """Check that the values of a floating-point image are pixels in [0, 255]."""
    if not np.isfinite(pixels).all():
        raise ValueError("the image holds NaN or infinite values; remove or repair it")
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if low < 0 or high > 255 or 0 < high <= 1:
        raise ValueError(f"the image's values run from {low:.4g} to {high:.4g}; scale them to [0, 255]")


def to_numpy(values: Any) -> np.ndarray:
    """Return a tensor of any framework, or anything else that NumPy takes, as an array.

    Args:
        values: a tensor or array-like.

    Returns:
        A NumPy array.
    """
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "detach"):  # PyTorch
        values = values.detach().cpu()
    return np.asarray(values)
