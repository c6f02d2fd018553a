"""`fit`, `evaluate` and `predict` that check their data, and stop at numbers that are not finite.

Arrays are checked once, before anything begins; data sets batch by batch (`zoo.data.checked_data`).
"""

import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.checks import as_array, check_batch_size, check_images, check_labels, check_lengths, is_array
from zoo.data.checked_data import BatchCheck, checked, in_one_line, number_of_batches
from zoo.layers.argument_checks import check_number
from zoo.layers.keras_internals import distribute_strategy


class NotFiniteError(ValueError):
    """A loss or a weight became NaN or infinite in training."""


class ChecksInputs:
    """A mix-in before `keras.Model` for classifiers with `num_classes` and `input_shape`."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `keras.Model.fit` does, on checked data.

        Args:
            args: arguments of `keras.Model.fit`.
            kwargs: the same by name.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: for images or labels that do not fit the model, or data that end early or never.
            NotFiniteError: for a loss or weights that become NaN or infinite.
        """
        given = arguments(super().fit, *args, **kwargs)
        check_batch_size(given.get("batch_size"))
        check_batch_size(given.get("validation_batch_size"))
        _check_split(given.get("validation_split", 0))
        _check_ends(given, x="steps_per_epoch", validation_data="validation_steps")
        if not (is_array(given.get("x")) or isinstance(given.get("x"), keras.utils.PyDataset)):
            given.setdefault(
                "shuffle", False
            )  # data sets and generators have an order; Keras warns of its default
        checks = [self._check_argument(given)]
        if given.get("validation_data") is not None:
            checks.append(self._check_validation(given))
        _check_epochs(given)
        stop = StopAtTrouble(given.get("steps_per_epoch"), given.get("validation_steps"))
        given["callbacks"] = first_in(given.get("callbacks"), stop, self)
        with in_one_line(*checks), _left_usable(self, "train_function", "test_function"):
            return super().fit(**given)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as `keras.Model.evaluate` does, on checked data.

        Args:
            args: arguments of `keras.Model.evaluate`.
            kwargs: the same by name.

        Returns:
            The loss and the metrics, as `keras.Model.evaluate` returns them.

        Raises:
            ValueError: for images or labels that do not fit the model, or data that end early or never.
        """
        given = arguments(super().evaluate, *args, **kwargs)
        if given.get("_use_cached_eval_dataset"):  # called by `fit`, which has looked already
            return super().evaluate(**given)
        check_batch_size(given.get("batch_size"))
        _check_ends(given, x="steps")
        check = self._check_argument(given)
        stop = StopAtTrouble(None, given.get("steps"), tested="x", test_argument="steps")
        given["callbacks"] = first_in(given.get("callbacks"), stop, self)
        with in_one_line(check), _left_usable(self, "test_function"):
            return super().evaluate(**given)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict as `keras.Model.predict` does, on checked images.

        Images with NaN are answered with NaN, and no images with an empty array.

        Args:
            args: arguments of `keras.Model.predict`.
            kwargs: the same by name.

        Returns:
            Float array (N, K).

        Raises:
            ValueError: for images of another shape or type, or data without an end.
        """
        given = arguments(super().predict, *args, **kwargs)
        check_batch_size(given.get("batch_size"))
        images = given.get("x")
        _check_kind(images)
        if isinstance(images, (list, tuple)):
            images = given["x"] = as_array(images, "images")
        if number_of_batches(images) == 0 or (is_array(images) and not len(images)):
            return np.zeros((0, self.num_classes), "float32")
        _check_ends(given, x="steps")
        check_images(images, self._image_shape(), finite=False)
        check = self._batch_check("x", labelled=False, finite=False)
        given["x"] = self._checked(images, check)
        with in_one_line(check), _left_usable(self, "predict_function"):
            return super().predict(**given)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch after a check.

        Args:
            x: images (B, H, W, C).
            y: labels, as in `fit`. Default: None, which is refused.
            args: further arguments of `keras.Model.train_on_batch`.
            kwargs: the same by name.

        Returns:
            The loss and the metrics, as `keras.Model.train_on_batch` returns them.

        Raises:
            ValueError: for images or labels that do not fit the model.
        """
        x, y = self._checked_arrays(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch after a check.

        Args:
            x: images (B, H, W, C).
            y: labels, as in `fit`. Default: None, which is refused.
            args: further arguments of `keras.Model.test_on_batch`.
            kwargs: the same by name.

        Returns:
            The loss and the metrics, as `keras.Model.test_on_batch` returns them.

        Raises:
            ValueError: for images or labels that do not fit the model.
        """
        x, y = self._checked_arrays(x, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def _image_shape(self):
        """(H, W, C), with a free height and width where the model resizes."""
        shape = self.input_shape[1:]
        return (None, None, shape[-1]) if getattr(self, "resize", None) else shape

    def _batch_check(self, name, **options):
        return BatchCheck(self._image_shape(), self.num_classes, name, **options)

    def _checked(self, data, check):
        """A data set that is checked, but for those that `tf.distribute` divides among devices."""
        strategy = distribute_strategy(self)
        return (
            data if strategy is not None and strategy.num_replicas_in_sync > 1 else checked(data, check)
        )

    def _checked_arrays(self, images, labels, weights=None):
        """Images and labels after the checks, lists among them as arrays."""
        if is_array(images) and labels is None:
            raise ValueError("there are no labels: pass y, an integer or a distribution for each image")
        if isinstance(images, (list, tuple)):
            images = as_array(images, "images")
        if isinstance(labels, (list, tuple, range)):
            labels = as_array(labels, "labels")
        if is_array(images) and not is_array(labels):
            raise ValueError(
                f"y must be an array or a list, a label for each image; got {type(labels).__name__}"
            )
        check_images(images, self._image_shape())
        check_labels(labels, self.num_classes)
        check_lengths(images, labels, weights)
        return images, labels

    def _check_argument(self, given):
        """Check x, y and sample_weight of a call, in place; returns the check of a data set's batches."""
        check, data = self._batch_check("x"), given.get("x")
        _check_kind(data)
        if is_array(data):
            weights = given.get("sample_weight")
            given["x"], given["y"] = self._checked_arrays(data, given.get("y"), weights)
        else:
            check_labels(given.get("y"), self.num_classes)
            given["x"] = self._checked(data, check)
        return check

    def _check_validation(self, given):
        data, check = given["validation_data"], self._batch_check("validation_data")
        if not isinstance(data, (tuple, list)):
            _check_kind(data, "validation_data")
            given["validation_data"] = self._checked(data, check)
            return check
        if len(data) not in (2, 3):
            raise ValueError(
                f"validation_data must be (images, labels) or a data set; got {len(data)} parts"
            )
        _check_kind(data[0], "validation_data")
        if is_array(data[0]):
            try:
                given["validation_data"] = (*self._checked_arrays(*data), *data[2:])
            except ValueError as error:
                raise ValueError(f"validation_data: {error}") from None
        return check


@contextlib.contextmanager
def _left_usable(model, *functions):
    """A context in which an error leaves the model usable.

    A function of TensorFlow that was traced by half cannot make variables again, so the next call builds
    it anew; and while JAX trains, variables live elsewhere.
    """
    try:
        yield
    except BaseException:
        for function in functions:
            setattr(model, function, None)
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        raise


def _check_kind(images, name="x"):
    """ValueError for what is neither an array nor a data set; Keras takes a dict as several inputs."""
    if images is None or isinstance(images, (dict, set, frozenset, str, bytes)):
        raise ValueError(
            f"{name} must hold images as an array (N, H, W, C), or be a data set; got "
            f"{type(images).__name__}"
        )


def _check_split(share):
    """ValueError for a part of the data that leaves nothing to train on."""
    if share is not None:
        check_number(share, "validation_split", "a number >= 0 and < 1", lambda share: 0 <= share < 1)


def _check_ends(given, **limits):
    """ValueError for data sets that say that they are empty, or have no end where no limit is given."""
    for name, steps in limits.items():
        count = number_of_batches(given.get(name))
        if count == 0:
            raise ValueError(f"{name} is a data set without a batch; there must be at least one")
        if count == np.inf and given.get(steps) is None:
            raise ValueError(f"{name} is a data set without an end; pass {steps}, or data that end")


def _check_epochs(given):
    """ValueError for a generator that would have to begin again; Keras repeats its first batches."""
    if given.get("epochs", 1) - given.get("initial_epoch", 0) <= 1:
        return
    for name, steps in (("x", "steps_per_epoch"), ("validation_data", "validation_steps")):
        if inspect.isgenerator(given.get(name)) and given.get(steps) is None:
            raise ValueError(
                f"{name} is a generator, which cannot begin again for a second epoch; pass {steps}, or a "
                "data set (keras.utils.PyDataset, tf.data)"
            )


def check_finite_weights(model: keras.Model) -> None:
    """Check that the trained weights of a model are finite.

    Args:
        model: a `keras.Model`.

    Raises:
        NotFiniteError: naming the first weight that is not.
    """
    for weight in model.trainable_variables:
        if "float" not in weight.dtype:
            continue
        values = ops.cast(weight, "float32")
        if not np.isfinite(ops.convert_to_numpy(ops.sum(values))):  # the sum of finite ones may overflow
            if not np.isfinite(ops.convert_to_numpy(values)).all():
                raise NotFiniteError(
                    f"the weight {weight.path} became NaN or infinite: training is lost; lower the learning "
                    "rate, clip gradients (clip_norm), or look for extreme images"
                )


class StopAtTrouble(keras.callbacks.Callback):
    """Stop training at a loss or weights that are not finite, and at data that end too early.

    It runs before all other callbacks, so that none of them saves a broken model.  Keras calls it after each
    batch in threads of its own, where no step waits for the loss of the step before; the calls of an epoch may come
    in any order.

    Args:
        steps: int, the expected number of batches in an epoch, or None.
        test_steps: int, the expected number of batches to evaluate on, or None. Default: None.
        tested: str, the argument with the data to evaluate on. Default: "validation_data".
        test_argument: str, the argument that gave `test_steps`. Default: "validation_steps".
    """

    async_safe = True

    def __init__(
        self,
        steps: int | None,
        test_steps: int | None = None,
        tested: str = "validation_data",
        test_argument: str = "validation_steps",
    ):
        super().__init__()
        self.steps, self.test_steps = steps, test_steps
        self.test_data, self.test_argument = tested, test_argument
        self.seen, self.tested, self.epoch = 0, 0, 0
        self.counting = threading.Lock()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.seen = epoch, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise NotFiniteError(
                f"the loss became {loss} at step {batch + 1} of epoch {self.epoch + 1}: training is lost; lower "
                "the learning rate, or look for NaN in the images and labels"
            )
        with self.counting:
            self.seen = max(self.seen, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        _check_count("x", self.seen, self.steps, f" in epoch {epoch + 1}", "steps_per_epoch")
        check_finite_weights(self.model)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.tested = 0

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        with self.counting:
            self.tested = max(self.tested, batch + 1)

    def on_test_end(self, logs: dict | None = None) -> None:
        _check_count(self.test_data, self.tested, self.test_steps, "", self.test_argument)


def _check_count(name, seen, steps, where, argument):
    if seen < (steps or 1):
        promised = f"{argument}={steps}" if steps else "at least one"
        raise ValueError(
            f"{name} ended after {seen} batches{where}, and {promised} was expected; repeat the data, "
            f"or lower {argument}"
        )


def first_in(callbacks: Any, first: keras.callbacks.Callback, model: keras.Model) -> Any:
    """Return the callbacks of `fit` with one more in front.

    Args:
        callbacks: None, a callback, a list of them, or a `keras.callbacks.CallbackList`.
        first: the callback that comes first.
        model: the `keras.Model` that is trained.

    Returns:
        A list, or the same `CallbackList` with `first` inserted if it has no `StopAtTrouble` yet.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        if not any(isinstance(callback, StopAtTrouble) for callback in callbacks.callbacks):
            first.set_model(model)
            callbacks.callbacks.insert(0, first)
        return callbacks
    return [first, *(keras.tree.flatten(callbacks) if callbacks else [])]


def arguments(function: Callable, *args: Any, **kwargs: Any) -> dict:
    """Return the arguments of a call of a function by name, including those in `**kwargs`.

    Args:
        function: function or bound method.
        args: its arguments by position.
        kwargs: its arguments by name.

    Returns:
        {name: value}, without arguments that were not given.

    Raises:
        TypeError: for arguments that the function does not take.
    """
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    others = bound.pop("kwargs", {})
    return {**bound, **others}
