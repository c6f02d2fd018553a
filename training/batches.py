"""Batches of images in memory, in an order that seed and epoch decide."""

import keras
import numpy as np


class EpochShuffle(keras.utils.PyDataset):
    """Batches of a split, whole ones only, in an order that seed and epoch decide: resume is exact.

    Args:
        split: `zoo.training.data.Split`.
        batch_size: of all workers together.
        seed: of the order.
        epoch: to begin with.
        part, parts: which of how many equal, contiguous parts of every batch is given.
    """

    def __init__(self, split, batch_size, seed, epoch=0, part=0, parts=1):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.part, self.parts = part, parts  # Keras's `workers` are threads
        self.start(epoch)

    def start(self, epoch, first=0):
        """Shuffle for an epoch, and begin with its batch `first`."""
        self.epoch, self.first = epoch, first
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split))

    def on_epoch_end(self):
        self.start(self.epoch + 1)

    @property
    def steps(self):
        """Batches of a whole epoch."""
        return len(self.split) // self.batch_size

    def __len__(self):
        return self.steps - self.first

    def __getitem__(self, index):
        size = self.batch_size // self.parts
        start = (self.first + index) * self.batch_size + self.part * size
        rows = self.order[start : start + size]
        return self.split.images[rows], self.split.labels[rows]
