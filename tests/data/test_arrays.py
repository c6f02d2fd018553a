"""Data sets in `.npz` files, and parts held out.  Runs on every backend."""

import numpy as np

from zoo.data import arrays


def split(count):
    images = np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")
    return arrays.Split(images, np.arange(count, dtype="int32"))


def test_held_out_examples_are_a_fixed_part():
    rest, held = arrays.hold_out(split(50), 0.2, seed=0)
    assert (len(rest), len(held)) == (40, 10)
    assert sorted([*rest.labels, *held.labels]) == list(range(50))
    np.testing.assert_array_equal(held.labels, arrays.hold_out(split(50), 0.2, seed=0)[1].labels)
    np.testing.assert_array_equal(held.images[:, 0, 0, 0], held.labels)
    assert (arrays.hold_out(split(50), 0.2, seed=1)[1].labels != held.labels).any()
    assert [len(part) for part in arrays.hold_out(split(50), 0.0, seed=0)] == [50, 0]


def test_npz_data(data_dir):
    training, test = (arrays.load("cifar10", part, data_dir) for part in ("train", "test"))
    assert training.images.shape == (96, 32, 32, 3) and training.images.dtype == np.uint8
    assert test.labels.shape == (40,) and test.labels.dtype == np.int32
    assert arrays.load("cifar10", "test", str(data_dir)).labels[3] == 3


def test_npz_data_without_a_channel_axis(tmp_path):
    np.savez(
        tmp_path / "mnist.npz", x_train=np.ones((3, 28, 28), "uint8"), y_train=np.ones((3, 1), "uint8")
    )
    loaded = arrays.load("mnist", "train", tmp_path)
    assert loaded.images.shape == (3, 28, 28, 1) and loaded.labels.shape == (3,)


def test_data_that_is_not_there(tmp_path, data_dir, raises_line):
    np.savez(tmp_path / "cifar100.npz", x_test=np.ones((1, 2, 2, 3), "uint8"), y_test=[1])
    with raises_line(FileNotFoundError, "cifar100.npz.*train"):
        arrays.load("cifar100", "train", tmp_path)
    with raises_line(FileNotFoundError, "no mnist in .*npz"):
        arrays.load("mnist", "train", data_dir)
