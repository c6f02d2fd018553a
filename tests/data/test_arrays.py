"""Data sets in `.npz` files, and parts held out.  Runs on every backend."""

import io

import numpy as np
import pytest

from helpers.images import split
from zoo.data import arrays


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


def _changed(**changes):
    """The contents of a data set's file with these arrays; those that are None are left out."""
    whole = {"x_train": np.ones((3, 2, 2, 1), "uint8"), "y_train": np.arange(3)} | changes
    file = io.BytesIO()
    np.savez(file, **{name: value for name, value in whole.items() if value is not None})
    return file.getvalue()


def _npy():
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


DAMAGED = {
    "cut zip": (b"PK\3\4" + bytes(200), "BadZipFile"),
    "empty": (b"", "No data left in file"),
    "text": (b"hello", "ValueError"),
    "npy": (_npy(), "TypeError"),
    "no labels": (_changed(y_train=None), "y_train"),
    "no images": (_changed(x_train=np.ones((0, 2, 2, 1)), y_train=[]), "0 images and 0 labels"),
    "rows": (_changed(x_train=np.ones((3, 4))), r"images must be \(N, H, W, C\); got \(3, 4\)"),
    "objects": (_changed(y_train=np.array([{}] * 3)), "Object arrays"),
    "words": (_changed(y_train=np.array(["cat", "dog", "cat"])), "integer labels expected, got 'cat'"),
    "fractions": (_changed(y_train=np.arange(3) + 0.5), "integer labels expected, got fractions"),
    "negative": (_changed(y_train=np.arange(3) - 1), "labels must be >= 0 .*got -1 to 1"),
    "wrapped": (_changed(y_train=np.arange(3) + 2**32), "less than .*got 4294967296 to 4294967298"),
    "unsigned": (_changed(y_train=np.full(3, 2**64 - 1, "uint64")), "less than .*18446744073709551615"),
    "infinite": (_changed(y_train=np.full(3, np.inf)), "less than .*got inf to inf"),
    "names twice": (_changed(class_names=np.array(["a", "b", "a"])), "'a' more than once"),
    "control": (_changed(class_names=np.array(["\x1b[2J", "b", "c"])), "control characters"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_an_incomplete_data_set_is_refused_in_one_line(kind, tmp_path, raises_line):
    contents, line = DAMAGED[kind]
    (tmp_path / "mnist.npz").write_bytes(contents)
    with raises_line(
        ValueError, rf"mnist.npz is not a complete data set \(.*{line}.*\); prepare it again"
    ):
        arrays.load("mnist", "train", tmp_path)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "uint64", "float32"])
def test_labels_of_any_type_that_hold_class_indices_are_taken(kind, tmp_path):
    (tmp_path / "mnist.npz").write_bytes(_changed(y_train=np.array([0, 1, 1], kind)))
    labels = arrays.load("mnist", "train", tmp_path).labels
    assert labels.dtype == np.int32 and labels.tolist() == [0, 1, 1]
