"""`zoo.predict` and `Prediction`: what an ensemble answers, and how sure it is."""

import dataclasses
import functools
import warnings

import numpy as np


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions of M members for N images of K classes; entropies in nats.

    Args:
        members: (N, M, K) probabilities of each member.
        calibrated: (N, K) probabilities of a model whose average is calibrated, or None.
        class_names: K strings, or None where the model's classes have no names.
    """

    members: np.ndarray
    calibrated: np.ndarray | None = None
    class_names: list | None = None

    @functools.cached_property
    def probabilities(self):
        """(N, K): mean of the members, calibrated where the model is."""
        return self.members.mean(axis=1) if self.calibrated is None else self.calibrated

    @property
    def labels(self):
        """(N,): the most probable class."""
        return self.probabilities.argmax(axis=-1)

    @property
    def names(self):
        """(N,): name of the most probable class.

        Raises:
            ValueError: where the model's classes have no names.
        """
        if self.class_names is None:
            raise ValueError("this model's classes have no names; load it with class_names=[...]")
        return np.asarray(self.class_names)[self.labels]

    @property
    def confidence(self):
        """(N,): probability of that class."""
        return self.probabilities.max(axis=-1)

    @functools.cached_property
    def entropy(self):
        """(N,): entropy of the probabilities, the total uncertainty."""
        return _entropy(self.probabilities)

    @functools.cached_property
    def expected_entropy(self):
        """(N,): mean of the members' entropies, the uncertainty in the data."""
        return _entropy(self.members).mean(axis=1)

    @property
    def mutual_information(self):
        """(N,): entropy of the members' plain mean - expected_entropy >= 0, what members disagree about
        (Depeweg et al., 2018)."""
        return np.maximum(_entropy(self.members.mean(axis=1)) - self.expected_entropy, 0.0)

    @property
    def disagreement(self):
        """(N,): share of pairs of members that choose different classes; 0 for one member."""
        choices = self.members.argmax(axis=-1)
        pairs = np.triu_indices(choices.shape[1], k=1)
        if not len(pairs[0]):
            return np.zeros(len(choices))
        return (choices[:, pairs[0]] != choices[:, pairs[1]]).mean(axis=1)

    def __len__(self):
        return len(self.members)


def _entropy(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def predict(model, images, batch_size=128, progress=None):
    """Predict with every member of a classifier.

    Args:
        model: an `EnsembleClassifier`.
        images: (N, H, W, C), uint8 or float in [0, 255]; or a data set of batches of images, as
            `keras.Model.predict` takes.
        batch_size: images a step; memory beyond the result does not grow with N.
        progress: whether to show a progress bar on stderr; None shows it from 20 batches on.

    Returns:
        A `Prediction` in float64.

    Raises:
        ValueError: for images of another shape or with NaN or infinite values.
    """
    if hasattr(images, "shape") or isinstance(images, (list, tuple)):
        images = _checked(images, model.input_shape[1:])
        batches = -(-len(images) // batch_size)
        if not batches:
            nothing = np.zeros((0, model.num_members, model.num_classes))
            return Prediction(nothing, class_names=model.class_names)
        network = model.network
    else:
        batches, batch_size = None, None
        network = _strict(model.network)
    shown = progress if progress is not None else batches is None or batches >= 20
    callbacks = [_bar(batches)] if shown else []
    logits = network.predict(images, batch_size=batch_size, verbose=0, callbacks=callbacks)
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
        calibrated = _calibrated(model.calibration, members.mean(axis=1), batch_size or 128)
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
    from rich.console import Console
    from rich.progress import Progress

    class Bar(keras.callbacks.Callback):
        def on_predict_begin(self, logs=None):
            self.progress = Progress(console=Console(stderr=True), transient=False)
            self.task = self.progress.add_task("predicting", total=batches)
            self.progress.start()

        def on_predict_batch_end(self, batch, logs=None):
            self.progress.advance(self.task)

        def on_predict_end(self, logs=None):
            self.progress.stop()

    return Bar()
