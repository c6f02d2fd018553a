"""Batches in an order that seed and epoch decide.  Runs on every backend."""

import numpy as np

from helpers.images import split
from zoo.data import arrays
from zoo.data.epoch_shuffle import EpochShuffle


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


def sides(batches):
    """{label: whether its image is mirrored} of an epoch of images that are darker on the left."""
    return {
        int(label): bool(image[0, 0, 0] > image[0, 1, 0])
        for i in range(len(batches))
        for image, label in zip(*batches[i], strict=True)
    }


def test_alternating_flips_show_every_image_both_ways_in_two_epochs():
    images = np.zeros((40, 2, 2, 1), "uint8")
    images[:, :, 1] = 9
    whole = arrays.Split(images, np.arange(40, dtype="int32"))
    batches = EpochShuffle(whole, 8, seed=3, alternate_flips=True)
    epochs = []
    for _ in range(3):
        epochs.append(sides(batches))
        batches.on_epoch_end()
    assert epochs[0].keys() == set(range(40)) and 10 < sum(epochs[0].values()) < 30
    assert epochs[1] == {label: not mirrored for label, mirrored in epochs[0].items()}
    assert epochs[2] == epochs[0]
    resumed = EpochShuffle(whole, 8, seed=3, epoch=1, alternate_flips=True)
    assert sides(resumed) == epochs[1]
    assert sides(EpochShuffle(whole, 8, seed=4, alternate_flips=True)) != epochs[0]
    assert not any(sides(EpochShuffle(whole, 8, seed=3)).values())
