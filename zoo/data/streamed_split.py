"""Splits that are streamed from disk, with the interface of splits in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.data import streams


class StreamedSplit:
    """A split on disk, with the interface of `zoo.data.arrays.Split`.

    Args:
        dataset: str, a data set that TFDS has prepared.
        split: str, such as "train" or "train[:95%]".
        data_dir: str or path of TFDS's folder.
        image_size: int, the side in pixels to which images are cropped and resized; 0 keeps their size.
            Default: 0.

    Raises:
        FileNotFoundError: if it is not in `data_dir`.
        ValueError: for images that differ in size and no `image_size`.
    """

    def __init__(self, dataset: str, split: str, data_dir: Any, image_size: int = 0):
        self.source = streams.open_split(dataset, split, data_dir)
        self.image_size = (image_size, image_size) if image_size else None
        if self.image_size is None and self.source.image_shape is None:
            raise ValueError(f"images of {dataset} differ in size: set image_size, such as 224")

    def __len__(self):
        return self.source.num_examples

    @property
    def image_shape(self) -> tuple:
        """The shape of an image, (H, W, C)."""
        if self.image_size is None:
            return tuple(self.source.image_shape)
        return (*self.image_size, self.source.channels)

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """K strings, or empty where the data set does not name its classes."""
        return self.source.class_names

    def batches(self, size: int) -> Iterator:
        """Generate all (images, labels) in order, centre crops where images are resized.

        Args:
            size: int >= 1, images per batch; the last may have fewer.

        Returns:
            An iterator over pairs of arrays.
        """
        options = {"image_size": self.image_size} if self.image_size else {"crop": "none"}
        for images, labels in streams.evaluation(self.source, size, **options):
            yield images.numpy(), labels.numpy()

    def shuffled(self, recipe: Any, part: int = 0, parts: int = 1) -> StreamedBatches:
        """Return the batches to train on.

        Args:
            recipe: a `zoo.training.recipes.Recipe`, for batch size, seed, epochs and flips.
            part: int, which of `parts` equal parts of every batch is given. Default: 0.
            parts: int >= 1. Default: 1.

        Returns:
            A `StreamedBatches`.
        """
        return StreamedBatches(self, recipe, part, parts)


class StreamedBatches:
    """The batches of all epochs from one on, in an order decided by seed and epoch.

    Args:
        split: a `StreamedSplit`.
        recipe: a `zoo.training.recipes.Recipe`, for batch size, seed, epochs and flips.
        part: int, which of `parts` equal, contiguous parts of every batch is given. Default: 0.
        parts: int >= 1. Default: 1.
    """

    def __init__(self, split: StreamedSplit, recipe: Any, part: int = 0, parts: int = 1):
        self.split, self.recipe = split, recipe
        self.part, self.parts = part, parts
        self.start(0)

    def start(self, epoch: int, first: int = 0) -> None:
        """Choose where to begin.

        Args:
            epoch: int.
            first: int, the batch of that epoch. Default: 0.
        """
        self.epoch, self.first = epoch, first

    @property
    def steps(self) -> int:
        """The number of batches in a whole epoch."""
        return len(self.split) // self.recipe.batch_size

    def __len__(self):
        return self.steps - self.first

    def dataset(self, replicas: int = 1) -> Any:
        """Return this part of the batches.

        Args:
            replicas: int >= 1, devices, each of which gets its own batches. Default: 1.

        Returns:
            A `tf.data.Dataset` of (images, labels).
        """
        resized = self.split.image_size
        options = {"image_size": resized} if resized else {"crop": "none"}
        return streams.training(
            self.split.source, self.recipe.batch_size, seed=self.recipe.seed, epoch=self.epoch,
            epochs=self.recipe.epochs + 2 - self.epoch, first_step=self.first, worker=self.part,
            num_workers=self.parts, replicas=replicas, flip=self.recipe.flip and bool(resized), **options,
        )  # fmt: skip

    def feed(self) -> dict:
        """Return the arguments for `keras.Model.fit`: x and steps_per_epoch."""
        return {"x": self.dataset(), "steps_per_epoch": len(self)}
