"""Batches of images in memory, in an order that seed and epoch decide."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from zoo.data.arrays import Split


class EpochShuffle(keras.utils.PyDataset):
    """Whole batches of images in memory, in an order decided by seed and epoch: resuming is exact.

    Args:
        split: a `zoo.data.arrays.Split`.
        batch_size: int >= 1, images per batch of all workers together.
        seed: int, decides the order.
        epoch: int, the epoch to begin with. Default: 0.
        part: int, which of `parts` equal, contiguous parts of every batch is given. Default: 0.
        parts: int >= 1. Default: 1.
        alternate_flips: bool, whether to mirror a random half of the images in the first epoch, and then
            every image every other epoch (Jordan, 2024, arXiv 2404.00498, section 3.6), so that two
            epochs show each image both ways. Default: False.
    """

    is_checked = True  # as a whole, when it was loaded

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        part: int = 0,
        parts: int = 1,
        alternate_flips: bool = False,
    ):
        super().__init__()
        self.mirrored = None
        if alternate_flips:
            self.mirrored = np.random.default_rng([seed, 0xF11B]).integers(0, 2, len(split))
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.part, self.parts = part, parts  # Keras's `workers` are threads
        self.start(epoch)

    def start(self, epoch: int, first: int = 0) -> None:
        """Shuffle for an epoch.

        Args:
            epoch: int.
            first: int, the batch to begin with. Default: 0.
        """
        self.epoch, self.first = epoch, first
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split))

    def on_epoch_end(self) -> None:
        self.start(self.epoch + 1)

    @property
    def steps(self) -> int:
        """The number of batches in a whole epoch."""
        return len(self.split) // self.batch_size

    def __len__(self):
        return self.steps - self.first

    def __getitem__(self, index):
        size = self.batch_size // self.parts
        start = (self.first + index) * self.batch_size + self.part * size
        rows = self.order[start : start + size]
        images = self.split.images[rows]
        if self.mirrored is not None:
            mirrored = (self.mirrored[rows] + self.epoch) % 2 == 1
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images, self.split.labels[rows]

    def feed(self) -> dict:
        """Return the arguments for `keras.Model.fit`, {"x": these batches}."""
        return {"x": self}

    def dataset(self, replicas: int = 1) -> Any:
        """Return this part of the batches without end, for `tf.distribute`.

        Args:
            replicas: int >= 1, devices, each of which gets its own batches. Default: 1.

        Returns:
            A `tf.data.Dataset` of (images, labels).
        """
        import tensorflow as tf

        size = self.batch_size // self.parts // replicas
        images, labels = self.split

        def rows():
            ahead = copy.copy(self)  # what is fetched in advance may be of the next epoch
            while True:
                for index in range(len(ahead)):
                    x, y = ahead[index]
                    for replica in range(replicas):
                        own = slice(replica * size, (replica + 1) * size)
                        yield x[own], y[own]
                ahead.start(ahead.epoch + 1)

        signature = (
            tf.TensorSpec((size, *images.shape[1:]), images.dtype),
            tf.TensorSpec((size,), labels.dtype),
        )
        dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
