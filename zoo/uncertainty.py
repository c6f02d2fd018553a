"""`zoo.predict` and `Prediction`: what an ensemble answers, and how sure it is."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predictions of M members for N images of K classes; entropies are in nats.

    Args:
        members: float array (N, M, K), the probabilities of each member.
        calibrated: float array (N, K), the calibrated probabilities of the average. Default: None, for a
            model that is not calibrated.
        class_names: K strings. Default: None, for classes without names.

    Example:
        >>> members = np.array([[[0.9, 0.1], [0.7, 0.3]], [[0.8, 0.2], [0.2, 0.8]]])
        >>> prediction = zoo.Prediction(members, class_names=["cat", "dog"])
        >>> len(prediction), prediction.probabilities.round(2).tolist()
        (2, [[0.8, 0.2], [0.5, 0.5]])
        >>> prediction.disagreement.tolist()
        [0.0, 1.0]
        >>> prediction.entropy.round(3).tolist(), prediction.mutual_information.round(3).tolist()
        ([0.5, 0.693], [0.032, 0.193])
    """

    members: np.ndarray
    calibrated: np.ndarray | None = None
    class_names: list | None = None

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """(N, K): the mean of the members' probabilities, calibrated where the model is."""
        return self.members.mean(axis=1) if self.calibrated is None else self.calibrated

    @property
    def labels(self) -> np.ndarray:
        """(N,): the index of the most probable class."""
        return self.probabilities.argmax(axis=-1)

    @property
    def names(self) -> np.ndarray:
        """(N,): the name of the most probable class.

        Raises:
            ValueError: if the classes have no names.
        """
        if self.class_names is None:
            raise ValueError("this model's classes have no names; load it with class_names=[...]")
        return np.asarray(self.class_names)[self.labels]

    @property
    def confidence(self) -> np.ndarray:
        """(N,): the probability of the most probable class."""
        return self.probabilities.max(axis=-1)

    @functools.cached_property
    def entropy(self) -> np.ndarray:
        """(N,): the entropy of the probabilities, in nats: the total uncertainty."""
        return _entropy(self.probabilities)

    @functools.cached_property
    def expected_entropy(self) -> np.ndarray:
        """(N,): the mean of the members' entropies, in nats: the aleatoric uncertainty."""
        return _entropy(self.members).mean(axis=1)

    @property
    def mutual_information(self) -> np.ndarray:
        """(N,): entropy of the mean less `expected_entropy`, in nats: the epistemic uncertainty.

        Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning, ICML 2018, arXiv
        1710.07283.
        """
        return np.maximum(_entropy(self.members.mean(axis=1)) - self.expected_entropy, 0.0)

    @property
    def disagreement(self) -> np.ndarray:
        """(N,): the share of pairs of members that choose different classes; 0 for one member."""
        choices = self.members.argmax(axis=-1)
        pairs = np.triu_indices(choices.shape[1], k=1)
        if not len(pairs[0]):
            return np.zeros(len(choices))
        return (choices[:, pairs[0]] != choices[:, pairs[1]]).mean(axis=1)

    def __len__(self) -> int:
        return len(self.members)


def _entropy(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def predict(
    model: EnsembleClassifier, images: Any, batch_size: int = 128, progress: bool | None = None
) -> Prediction:
    """Predict with every member of a classifier.

    Args:
        model: an `EnsembleClassifier`.
        images: array (N, H, W, C), uint8 or float in [0, 255]; or a data set of batches of images, as
            `keras.Model.predict` takes.
        batch_size: int >= 1, images per step; beyond the result, memory does not grow with N. Data sets
            come in batches of their own. Default: 128.
        progress: bool, whether to show a progress bar on stderr. Default: None, from 20 batches on.

    Returns:
        A `Prediction` in float64.

    Raises:
        ValueError: for images of another shape, or with NaN or infinite values.

    Example:
        >>> model = zoo.load("packed_lenet", weights="fashion_mnist")
        >>> prediction = zoo.predict(model, np.zeros((5, 28, 28, 1), "uint8"))
        >>> prediction.members.shape, prediction.probabilities.shape
        ((5, 4, 10), (5, 10))
        >>> bool(np.all(prediction.mutual_information >= 0))
        True
    """
    if hasattr(images, "shape") or isinstance(images, (list, tuple)):
        images = _checked(images, model.input_shape[1:])
        batches = -(-len(images) // batch_size)
        if not batches:
            nothing = np.zeros((0, model.num_members, model.num_classes))
            return Prediction(nothing, class_names=model.class_names)
        network = model.network
        sizes = {"batch_size": batch_size}
    else:  # a data set comes in batches of its own
        batches, sizes = None, {}
        network = _strict(model.network)
    shown = progress if progress is not None else batches is None or batches >= 20
    callbacks = [_bar(batches)] if shown else []
    logits = network.predict(images, **sizes, verbose=0, callbacks=callbacks)
    logits = np.asarray(logits, dtype="float64")
    bad = ~np.isfinite(logits).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(bad)} predictions are not finite (first: image {bad.argmax()}); look "
            "for NaN or infinite values in the images or the weights"
        )
    logits -= logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits)
    members = exponentials / exponentials.sum(axis=-1, keepdims=True)
    calibrated = None
    if model.calibration is not None:
        calibrated = _calibrated(model.calibration, members.mean(axis=1), batch_size)
    return Prediction(members, calibrated, model.class_names)


def _calibrated(calibration, p, batch_size):
    """Probabilities (N, K) through a model's map of log-probabilities, batch by batch."""
    from keras import ops

    log_p = np.log(np.maximum(p, np.finfo("float32").tiny)).astype("float32")
    parts = [log_p[i : i + batch_size] for i in range(0, len(log_p), batch_size)]
    parts = [ops.convert_to_numpy(calibration(part)).astype("float64") for part in parts]
    return np.exp(np.concatenate(parts))


def _checked(images, shape):
    try:
        images = np.asarray(images)
    except ValueError:
        raise ValueError("images of different shapes make no batch; resize them to one shape") from None
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        hint = "; add a batch axis: images[None]" if images.shape == tuple(shape) else ""
        raise ValueError(f"images must be (N, {', '.join(map(str, shape))}); got {images.shape}{hint}")
    if images.dtype.kind not in "uif":
        raise ValueError(f"images must be uint8 or float in [0, 255]; got dtype {images.dtype}")
    if images.dtype.kind == "f" and len(images):
        bad = ~np.isfinite(images).all(axis=(1, 2, 3))
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(images)} images hold NaN or infinite values (first: image "
                f"{bad.argmax()}); remove or repair them"
            )
        if images.max() <= 1:
            warnings.warn("images look scaled to [0, 1]; this zoo takes [0, 255]", stacklevel=3)
    return images


def _strict(network):
    """The network, with NaN logits for an image that is not finite: an activation may swallow a NaN."""
    import keras
    from keras import ops

    images = keras.Input(network.input_shape[1:])
    finite = ops.all(ops.isfinite(images), axis=(1, 2, 3))
    logits = network(images)
    return keras.Model(images, ops.where(finite[:, None, None], logits, np.nan))


def _bar(batches):
    """A Keras callback with a progress bar."""
    import keras

    from zoo.progress import bars

    class Bar(keras.callbacks.Callback):
        def on_predict_begin(self, logs=None):
            self.progress = bars(shown=True)
            self.task = self.progress.add_task("predicting", total=batches)
            self.progress.start()

        def on_predict_batch_end(self, batch, logs=None):
            self.progress.advance(self.task)

        def on_predict_end(self, logs=None):
            self.progress.stop()

    return Bar()
