"""The loss that pretrained models are compiled with."""

from typing import Any

import keras
from keras import ops

from zoo.array_types import Tensor
from zoo.checks import LABEL_TOLERANCE


def label_distribution(labels: Tensor, num_classes: int, dtype: str = "float32") -> Tensor:
    """Turn labels of any kind into distributions.

    Args:
        labels: integer (B,) or (B, 1), or one-hot or soft (B, K).
        num_classes: int >= 1, K.
        dtype: str, the type of the result. Default: "float32".

    Returns:
        A tensor (B, K); rows of labels out of range, or of fractions, are zero.

    Example:
        >>> keras.ops.convert_to_numpy(zoo.losses.label_distribution([1, 0], 2)).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 2 and labels.shape[-1] == num_classes and num_classes > 1:
        return ops.cast(labels, dtype)
    if len(labels.shape) == 2 and labels.shape[-1] is None:  # known when it runs, on TensorFlow
        return ops.cond(
            ops.shape(labels)[-1] == num_classes,
            lambda: ops.reshape(ops.cast(labels, dtype), (-1, num_classes)),
            lambda: _one_hot(labels, num_classes, dtype),
        )
    return _one_hot(labels, num_classes, dtype)


def _one_hot(labels, num_classes, dtype):
    given = keras.backend.standardize_dtype(labels.dtype)
    exact = keras.backend.result_type(given, "float32") if "float" in given else "int32"
    labels = ops.reshape(ops.cast(labels, exact), (-1, 1))
    # `ops.one_hot` raises on PyTorch for labels out of range.
    return ops.cast(ops.equal(labels, ops.arange(num_classes, dtype=exact)), dtype)


@keras.saving.register_keras_serializable(package="zoo")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy, in nats, of logits or log-probabilities with labels of any kind.

    Labels are integer (B,) or (B, 1), one-hot or soft (B, K); predictions are logits or probabilities
    (B, K). A label outside [0, K), a fraction, or soft labels that do not sum to 1 make the loss NaN on
    every backend.

    Args:
        label_smoothing: float in [0, 1), the share of a label that is spread over all classes. Default:
            0.
        from_probabilities: bool, whether predictions are probabilities instead of logits. Default:
            False.
        name: str, the Keras name. Default: "cross_entropy".
        kwargs: arguments of `keras.losses.Loss`, such as reduction.

    Raises:
        ValueError: for a `label_smoothing` outside [0, 1).

    Example:
        >>> loss = zoo.losses.CrossEntropy(from_probabilities=True)
        >>> round(float(loss([0, 1], np.array([[0.5, 0.5], [0.75, 0.25]], "float32"))), 3)
        1.04
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        from_probabilities: bool = False,
        name: str = "cross_entropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1); got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.from_probabilities = from_probabilities

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras would cast integer labels to the predictions' type and squeeze a last axis of one.
        y_true = label_distribution(y_true, y_pred.shape[-1], y_pred.dtype)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        mass = ops.sum(ops.cast(y_true, "float32"), axis=-1)
        if self.label_smoothing:
            y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        if self.from_probabilities:
            log_probabilities = ops.log(ops.maximum(y_pred, 1e-37))
        else:
            log_probabilities = ops.log_softmax(y_pred, axis=-1)
        loss = -ops.sum(y_true * log_probabilities, axis=-1)
        return ops.where(ops.abs(mass - 1) <= LABEL_TOLERANCE, loss, float("nan"))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_probabilities": self.from_probabilities,
        }
