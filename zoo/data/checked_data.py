"""Data sets whose batches are checked as they come, so that a bad one stops with one line."""

import contextlib
import copy
import inspect
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from zoo.checks import check_images, check_labels, check_lengths, is_array

_END = object()
_RAISED = re.compile(r"\w*(Error|Exception|Warning|Interrupt): ")
KINDS = "(images, labels) or (images, labels, weights)"


class BatchCheck:
    """The check of one batch; it keeps the first error, which a backend may wrap in its own.

    Args:
        input_shape: (H, W, C), the model's; None for a size that is free.
        num_classes: int, K.
        name: str, the argument that the data were passed as. Default: "x".
        labelled: bool, whether batches have labels. Default: True.
        finite: bool, whether NaN and infinite pixels are refused. Default: True.
    """

    def __init__(
        self, input_shape: tuple, num_classes: int, name: str = "x", labelled: bool = True, finite: bool = True
    ):  # fmt: skip
        self.input_shape, self.num_classes = input_shape, num_classes
        self.name, self.labelled, self.finite = name, labelled, finite
        self.error: Exception | None = None
        self.seen, self.form = 0, None

    def __call__(self, batch: Any, number: int | None = None) -> Any:
        """Check a batch and return it.

        Args:
            batch: what a data set gives for one step.
            number: int, which batch it is. Default: None, the next one.

        Raises:
            ValueError: for a bad batch, in one line.
        """
        try:
            self._check(batch)
        except ValueError as error:
            number = self.seen if number is None else number
            raise self.keep(ValueError(f"{self.name}, batch {number}: {error}")) from None
        except Warning as warning:  # where warnings are errors
            raise self.keep(warning) from None
        self.seen += 1
        return batch

    def keep(self, error: Exception) -> Exception:
        """Remember an error as the reason why data ended, and return it.

        Args:
            error: an exception; the first one that is kept stays.

        Returns:
            The same exception.
        """
        self.error = self.error or error
        return error

    def _check(self, batch):
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if self.labelled and not (isinstance(batch, (tuple, list)) and len(parts) in (2, 3)):
            raise ValueError(f"each batch must be {KINDS}; got {_described(batch)}")
        if not is_array(parts[0]):
            raise ValueError(f"images must be an array (N, H, W, C); got {_described(parts[0])}")
        check_images(parts[0], self.input_shape, self.finite, scaled=not self.seen)
        if self.labelled:
            if not is_array(parts[1]):
                raise ValueError(
                    f"labels must be an array, one for each image; got {_described(parts[1])}"
                )
            check_labels(parts[1], self.num_classes)
            check_lengths(*parts)
            self._check_form(f"{len(parts)} parts with labels of rank {np.ndim(parts[1])}")

    def _check_form(self, form):
        """ValueError for a batch of another form than the first: Keras would print all its pixels."""
        self.form = self.form or form
        if form != self.form:
            raise ValueError(f"every batch must be like the first, {self.form}; got {form}")


def _described(value):
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__}" + (f" {tuple(value.shape)}" if hasattr(value, "shape") else "")


def checked(data: Any, check: BatchCheck) -> Any:
    """Return a data set whose batches are checked; anything but a data set is returned unchanged.

    Args:
        data: `tf.data.Dataset`, `keras.utils.PyDataset`, `torch.utils.data.DataLoader`, generator or
            other.
        check: a `BatchCheck`.

    Raises:
        ValueError: for a data set whose batches cannot fit, where their shapes are known.
    """
    tf, torch = sys.modules.get("tensorflow"), sys.modules.get("torch")
    if getattr(data, "is_checked", False):
        return data
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedPyDataset(data, check)
    if tf is not None and isinstance(data, tf.data.Dataset):
        from zoo.data.checked_tf_data import checked_tf_data

        return checked_tf_data(data, check)
    if torch is not None and isinstance(data, torch.utils.data.DataLoader):
        return _checked_loader(data, check)
    if inspect.isgenerator(data) or (hasattr(data, "__next__") and hasattr(data, "__iter__")):
        return _checked_generator(data, check)
    return data


def number_of_batches(data: Any) -> float | None:
    """Return how many batches a data set says it has.

    Args:
        data: `tf.data.Dataset`, `keras.utils.PyDataset` or other.

    Returns:
        An int, infinity for data without an end, or None where it is not known.
    """
    tf = sys.modules.get("tensorflow")
    if isinstance(data, keras.utils.PyDataset):
        return math.inf if data.num_batches is None else data.num_batches
    if tf is None or not isinstance(data, tf.data.Dataset):
        return None
    count = int(data.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        return math.inf
    return None if count == tf.data.UNKNOWN_CARDINALITY else count


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are checked."""

    is_checked = True

    def __init__(self, data, check):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.check = data, check

    def __getitem__(self, index):
        with _told(self.check, f"batch {index}"):
            batch = self.data[index]
        return self.check(batch, index)

    @property
    def num_batches(self):
        return self.data.num_batches

    def __len__(self):
        return len(self.data)

    def on_epoch_begin(self):
        self.data.on_epoch_begin()

    def on_epoch_end(self):
        self.data.on_epoch_end()


def _checked_generator(data, check) -> Iterator:
    while True:
        with _told(check, f"batch {check.seen}"):
            batch = next(data, _END)
        if batch is _END:
            return
        check(batch)
        yield (
            batch if isinstance(batch, tuple) else (batch,) if hasattr(batch, "shape") else tuple(batch)
        )


def _checked_loader(loader, check):
    """A copy of a PyTorch loader whose batches are checked in this process."""

    class Checked(type(loader)):
        def __iter__(self):
            batches = super().__iter__()
            while True:
                with _told(check, f"batch {check.seen}"):
                    batch = next(batches, _END)
                if batch is _END:
                    return
                yield check(batch)

    twin = copy.copy(loader)
    twin.__class__ = Checked
    twin.is_checked = True
    return twin


@contextlib.contextmanager
def _told(check, where):
    """Turn whatever a data set raises into one line that says where."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
        raise check.keep(ValueError(f"{check.name}: the data set raised {what} at {where}")) from error


@contextlib.contextmanager
def in_one_line(*checks: BatchCheck) -> Iterator[None]:
    """A context in which an error of the data is raised in one line, however a backend wrapped it.

    Args:
        checks: the `BatchCheck`s of the data that are used inside.
    """
    try:
        yield
    except Exception as error:
        kept = [check.error for check in checks if check.error is not None]
        if kept and error is not kept[0]:
            raise kept[0] from kept[0].__cause__
        if not kept and (line := _of_pipeline(error)):
            raise ValueError(f"{checks[0].name}: the data set raised {line}") from error
        raise


def _of_pipeline(error):
    """The line that says what went wrong in a user's `tf.data` pipeline; None for any other error."""
    tf, text = sys.modules.get("tensorflow"), str(error)
    inside = ("IteratorGetNext", "Dataset", "PyFunc")
    if (
        tf is None
        or not isinstance(error, tf.errors.OpError)
        or not any(word in text for word in inside)
    ):
        return None
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if _RAISED.match(line)]
    return said[0] if said else next((line for line in lines if line), type(error).__name__)
