"""`zoo.predict` and `Prediction`: what an ensemble answers, and how sure it is."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from zoo.checks import as_array, check_batch_size, warn_of_range

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier
    from zoo.data.photographs import Images


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predictions of M members for N images of K classes; entropies are in nats.

    Args:
        members: float array (N, M, K), the probabilities of each member.
        calibrated: float array (N, K), the calibrated probabilities of the average. Default: None, for a
            model that is not calibrated.
        class_names: K strings. Default: None, for classes without names.
        paths: N paths, the files of the images. Default: None, for images that are not files.
        targets: int array (N,) or distributions (N, K), the labels, from a data set or from folders
            named after classes. Default: None, not known.

    Example:
        >>> members = np.array([[[0.9, 0.1], [0.7, 0.3]], [[0.8, 0.2], [0.2, 0.8]]])
        >>> prediction = zoo.Prediction(members, class_names=["cat", "dog"])
        >>> len(prediction), prediction.probabilities.round(2).tolist()
        (2, [[0.8, 0.2], [0.5, 0.5]])
        >>> prediction.disagreement.tolist()
        [0.0, 1.0]
        >>> prediction.entropy.round(3).tolist(), prediction.mutual_information.round(3).tolist()
        ([0.5, 0.693], [0.032, 0.193])
        >>> prediction
        Prediction of 2 images by 2 members: 2 classes
          0  cat  0.800  entropy 0.500  mutual information 0.032
          1  cat  0.500  entropy 0.693  mutual information 0.193
        >>> prediction.top(1)
        [[('cat', 0.8)], [('cat', 0.5)]]
    """

    members: np.ndarray
    calibrated: np.ndarray | None = None
    class_names: list | None = None
    paths: list | None = None
    targets: np.ndarray | None = None

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

    def top(self, k: int = 5) -> list[list[tuple[Any, float]]]:
        """Return the k most probable classes of each image.

        Args:
            k: int >= 1. Default: 5.

        Returns:
            For each image a list of (name, probability), the most probable class first; without class
            names, of (index, probability).
        """
        names = self.class_names or range(self.members.shape[-1])
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [[(names[c], round(float(p[c]), 6)) for c in row]
                for p, row in zip(self.probabilities, order)]  # fmt: skip

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each image.

        Its columns are path (of files), name (of named classes), label, confidence, entropy,
        mutual_information, disagreement, and target (where labels are known).

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError(
                "to_pandas needs pandas; run: pip install 'ensemble-zoo[pandas]'"
            ) from None
        columns: dict[str, Any] = {}
        if self.paths is not None:
            columns["path"] = [str(path) for path in self.paths]
        if self.class_names is not None:
            columns["name"] = self.names
        for key in ("label", "confidence", "entropy", "mutual_information", "disagreement"):
            columns[key] = getattr(self, "labels" if key == "label" else key)
        if self.targets is not None:
            columns["target"] = list(self.targets)
        return pandas.DataFrame(columns)

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        count, members, classes = self.members.shape
        kind = ", calibrated" if self.calibrated is not None else ""
        lines = [f"Prediction of {count} images by {members} members: {classes} classes{kind}"]
        shown = min(count, 5)
        told = self.names if self.class_names is not None else [f"class {k}" for k in self.labels]
        width = max((len(str(name)) for name in told[:shown]), default=0)
        lines += [
            f"  {i}  {told[i]!s:{width}}  {self.confidence[i]:.3f}  entropy {self.entropy[i]:.3f}  "
            f"mutual information {self.mutual_information[i]:.3f}"
            for i in range(shown)
        ]
        return "\n".join(lines + ([f"  ... and {count - shown} more"] if count > shown else []))


def _entropy(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def predict(
    model: EnsembleClassifier, images: Any, batch_size: int = 128, progress: bool | None = None
) -> Prediction:
    """Predict with every member of a classifier.

    Args:
        model: an `EnsembleClassifier`. Images of another size are resized one by one, as its `resize`
            says.
        images: array (N, H, W, C), uint8 or float in [0, 255]; a folder of images, with subfolders, or
            a file; a Pillow image; a sequence of files, Pillow images or arrays (h, w, C), mixed as you
            like; an iterator or `pandas.Series` of files or Pillow images; or a data set of batches of
            images, as `keras.Model.predict` takes.
        batch_size: int >= 1, images per step; beyond the result, memory does not grow with N. Data sets
            keep their batches. Default: 128.
        progress: bool, whether to show a progress bar on stderr. Default: None, if there are 20 batches
            or more.

    Returns:
        A `Prediction` in float64, in the order of the images; files of a folder are in the order of
        `keras.utils.image_dataset_from_directory`. It has the `paths` of files, and as `targets` the
        labels of a data set or of folders named after the model's classes.

    Raises:
        ValueError: for another kind of model; for images of another shape that the model does not
            resize, with NaN or infinite values, or unreadable ones; for a data set that has the model's
            class names in another order.
        FileNotFoundError: for a path that does not exist.

    Warns:
        UserWarning: for values outside [0, 255], for float images whose values are all in [0, 1], and
            for photographs that are stored rotated, by their EXIF data.

    Example:
        >>> model = zoo.load("packed_lenet", weights="fashion_mnist")
        >>> prediction = zoo.predict(model, np.zeros((5, 28, 28, 1), "uint8"))
        >>> prediction.members.shape, prediction.probabilities.shape
        ((5, 4, 10), (5, 10))
        >>> bool(np.all(prediction.mutual_information >= 0))
        True
    """
    from zoo.data import photographs
    from zoo.data.class_names import check_order, names_in

    _check_model(model)
    check_batch_size(batch_size or 0)
    check_order(model, names_in(images))
    if _is_batch(images, model):
        images = _checked(images, model.input_shape[1:])
        return _prediction(model, _of_array(model, images, batch_size, progress), batch_size)
    return predict_images(
        model, photographs.open_images(images, model.input_shape[1:], model.resize), batch_size, progress
    )


def predict_images(
    model: EnsembleClassifier, source: Images, batch_size: int = 128, progress: bool | None = None
) -> Prediction:
    """Predict images while they are read, see `predict`.

    Args:
        model: an `EnsembleClassifier`.
        source: the images, `zoo.data.photographs.Images`.
        batch_size: int >= 1. Default: 128.
        progress: bool, see `predict`. Default: None.

    Returns:
        A `Prediction`.
    """
    from zoo.data import photographs

    logits = _of_batches(model, source, batch_size, progress)
    targets = photographs.labels_of(source.paths, model.class_names)
    if source.labels:
        targets = np.concatenate(source.labels)
    return _prediction(model, logits, batch_size, source.paths, targets)


def _check_model(model):
    """Refuse what is not a classifier, such as any other Keras model."""
    from zoo.classifier import EnsembleClassifier

    if not isinstance(model, EnsembleClassifier):
        raise ValueError(
            f"zoo.predict takes an EnsembleClassifier; got {type(model).__name__}: zoo.convert makes "
            "one of a Keras model"
        )


def _is_batch(images, model):
    """Whether images are an array of the model's size, or are to be refused as one."""
    from zoo.data import photographs

    if isinstance(images, (list, tuple)):
        nested = len(images) > 0 and isinstance(images[0], (list, tuple, type(None)))
        return nested and not hasattr(images[0], "shape")
    if not hasattr(images, "shape") or photographs.is_column(images):
        return False
    shape, wanted = tuple(images.shape), tuple(model.input_shape[1:])
    if len(shape) == 3 and shape[2] == wanted[2] and shape != wanted:
        raise ValueError(
            f"images must be (N, {', '.join(map(str, wanted))}); got {shape}; add a batch axis: "
            "images[None]"
        )
    other_size = len(shape) == 4 and shape[0] and shape[3] == model.input_shape[3]
    return not (other_size and shape[1:] != wanted and model.resize)


def _of_array(model, images, batch_size, progress):
    """Member logits (N, M, K) of an array."""
    batches = -(-len(images) // batch_size)
    if not batches:
        return np.zeros((0, model.num_members, model.num_classes))
    shown = progress if progress is not None else batches >= 20
    callbacks = [_bar(batches)] if shown else []
    return model.network.predict(images, batch_size=batch_size, verbose=0, callbacks=callbacks)


def _of_batches(model, source, batch_size, progress):
    """Member logits (N, M, K) of images as they come."""
    from zoo.progress import bars

    total = source.count and -(-source.count // batch_size)
    shown = progress if progress is not None else total is None or total >= 20
    logits = []
    with bars(shown=shown) as display:
        task = display.add_task("predicting", total=total)
        for batch in source.batches(batch_size):
            logits.append(model.network.predict_on_batch(batch))
            display.advance(task)
    return np.concatenate(logits) if logits else np.zeros((0, model.num_members, model.num_classes))


def _prediction(model, logits, batch_size, paths=None, targets=None):
    """A `Prediction` of member logits (N, M, K), calibrated where the model is."""
    logits = np.asarray(logits, dtype="float64")
    bad = ~np.isfinite(logits).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(bad)} predictions are not finite (first: image {bad.argmax()}); look "
            "for NaN or infinite values in the images or the weights"
        )
    log_members = log_softmax(logits, axis=-1)
    members = np.exp(log_members)
    members /= members.sum(axis=-1, keepdims=True)
    calibrated = None
    if model.calibration is not None and len(members):
        log_mean = logsumexp(log_members, axis=1) - np.log(members.shape[1])
        calibrated = _calibrated(model.calibration, log_mean, batch_size)
    return Prediction(members, calibrated, model.class_names, paths, _labels(targets, model.num_classes))


def _labels(targets, classes):
    """Labels as a data set gives them, one-hot ones and columns as plain integers."""
    if targets is None:
        return None
    targets = np.asarray(targets)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    one_hot = (
        targets.ndim == 2 and targets.shape[1] == classes and ((targets == 0) | (targets == 1)).all()
    )
    if one_hot and (targets.sum(axis=1) == 1).all():
        return targets.argmax(axis=1)
    whole = targets.ndim == 1 and targets.dtype.kind == "f" and (targets == np.floor(targets)).all()
    return targets.astype("int64") if whole else targets


def _calibrated(calibration, log_p, batch_size):
    """Probabilities of log-probabilities (N, K) through a model's map of these, batch by batch."""
    from keras import ops

    log_p = log_p.astype("float32")
    parts = [log_p[i : i + batch_size] for i in range(0, len(log_p), batch_size)]
    parts = [ops.convert_to_numpy(calibration(part)).astype("float64") for part in parts]
    return np.exp(np.concatenate(parts))


def _checked(images, shape):
    images = as_array(images, "images")
    if images.dtype.name == "bfloat16":
        images = images.astype("float32")
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
    if images.size and images.dtype != "uint8":
        warn_of_range(float(images.min()), float(images.max()), images.dtype.kind == "f", stacklevel=4)
    return images


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
