"""Batches in an order that seed and epoch decide.  Runs on every backend."""

import numpy as np

from zoo.data import arrays
from zoo.data.epoch_shuffle import EpochShuffle


def split(count):
    images = np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")
    return arrays.Split(images, np.arange(count, dtype="int32"))


def test_shuffle_is_decided_by_seed_and_epoch():
    batches, twin = (
        EpochShuffle(split(23), 5, seed=3),
        EpochShuffle(split(23), 5, seed=3, epoch=1),
    )
    assert len(batches) == 4
    epochs = []
    for _ in range(2):
        seen = [batches[i] for i in range(len(batches))]
        assert all((x[:, 0, 0, 0] == y).all() and len(y) == 5 for x, y in seen)
        epochs.append(np.concatenate([y for _, y in seen]))
        assert len(set(epochs[-1])) == 20
        batches.on_epoch_end()
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(np.concatenate([twin[i][1] for i in range(4)]), epochs[1])
    other = EpochShuffle(split(23), 5, seed=4)
    assert (np.concatenate([other[i][1] for i in range(4)]) != epochs[0]).any()
