"""Post-hoc calibration of ensembles: `calibrate`, and the maps that it fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zoo.array_types import Tensor
from zoo.checks import check_labels

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


METHODS = ("temperature", "vector", "isotonic", "member_temperature")


class _Map(keras.layers.Layer):
    """A map of log-probabilities (B, K) to calibrated log-probabilities (B, K), in float32.

    What was fitted is in the config: such a map has no weights, so a calibrated model's weights files
    are those of the model before.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="zoo")
class Temperature(_Map):
    """Temperature scaling of an averaged prediction: p_k^(1 / T), normalised.

    Maps log-probabilities (B, K) to calibrated log-probabilities (B, K).

    Args:
        temperature: float > 0, T; above 1 it makes predictions less confident.
        kwargs: arguments of `keras.layers.Layer`, such as name.

    Raises:
        ValueError: for a temperature that is not positive and finite.

    Example:
        >>> from zoo.calibration import Temperature
        >>> p = np.exp(keras.ops.convert_to_numpy(Temperature(2.0)(np.log([[0.8, 0.2]]))))
        >>> p.round(3).tolist() == np.float32([[0.667, 0.333]]).tolist()
        True

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599. For the
        average: Rahaman and Thiery, NeurIPS 2021, arXiv 2007.08792.
    """

    def __init__(self, temperature: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be positive and finite; got {temperature}")
        self.temperature = float(temperature)

    def call(self, log_probabilities: Tensor) -> Tensor:
        return ops.log_softmax(log_probabilities / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="zoo")
class VectorScaling(_Map):
    """Vector scaling of an averaged prediction: log p'_k = w_k log p_k + b_k, normalised.

    Maps log-probabilities (B, K) to calibrated log-probabilities (B, K).

    Args:
        scale: K floats, w.
        offset: K floats, b.
        kwargs: arguments of `keras.layers.Layer`, such as name.

    Raises:
        ValueError: for scale and offset of different lengths.

    References:
        Guo et al., ICML 2017, arXiv 1706.04599.
    """

    def __init__(self, scale: Sequence[float], offset: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        if len(scale) != len(offset):
            raise ValueError(
                f"scale and offset must have the same length; got {len(scale)} and {len(offset)}"
            )
        self.scale = [float(value) for value in scale]
        self.offset = [float(value) for value in offset]

    def call(self, log_probabilities: Tensor) -> Tensor:
        scale, offset = (ops.convert_to_tensor(v, "float32") for v in (self.scale, self.offset))
        return ops.log_softmax(log_probabilities * scale + offset, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


@keras.saving.register_keras_serializable(package="zoo")
class Isotonic(_Map):
    """Isotonic regression of an averaged prediction, one class against the others.

        p'_k = (1 - own_share) f_k(p_k) + own_share p_k, normalised over k,

    where f_k is piecewise linear and increasing, and constant beyond its first and last knot.
    Maps log-probabilities (B, K) to calibrated log-probabilities (B, K).

    Args:
        inputs: K lists of floats, the increasing knots of each f_k.
        outputs: K lists of floats in [0, 1], the values of f_k at its knots.
        own_share: float in [0, 1], how much of the model's own probability is mixed in, so that a class
            which was never seen at some p_k does not get exactly 0. Default: 0.
        kwargs: arguments of `keras.layers.Layer`, such as name.

    Raises:
        ValueError: if inputs and outputs do not match, or own_share is outside [0, 1].

    References:
        Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability
        Estimates, KDD 2002.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[float]],
        outputs: Sequence[Sequence[float]],
        own_share: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if [len(knots) for knots in inputs] != [len(values) for values in outputs]:
            raise ValueError("inputs and outputs must have the same number of knots in each class")
        if not 0 <= own_share <= 1:
            raise ValueError(f"own_share must be in [0, 1]; got {own_share}")
        self.inputs = [[float(value) for value in knots] for knots in inputs]
        self.outputs = [[float(value) for value in values] for values in outputs]
        self.own_share = float(own_share)
        self._ramps = _ramps(self.inputs, self.outputs)

    def call(self, log_probabilities: Tensor) -> Tensor:
        start, width, height, floor = (ops.convert_to_tensor(array) for array in self._ramps)
        p = ops.exp(log_probabilities)
        risen = ops.clip((ops.expand_dims(p, -1) - start) / width, 0.0, 1.0)
        fitted = floor + ops.sum(height * risen, axis=-1)
        mixed = (1 - self.own_share) * fitted + self.own_share * p
        mixed = ops.log(ops.maximum(mixed, 1e-37))
        return mixed - ops.logsumexp(mixed, axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "own_share": self.own_share,
        }


def _ramps(inputs, outputs):
    """Start, width and height (K, P) of the pieces of K functions, and their least values (K,).

    A piecewise linear function is the sum of its ramps: nothing to look up, on any backend.
    """
    shape = len(inputs), max(len(knots) for knots in inputs) - 1
    start, width, height = np.zeros(shape), np.ones(shape), np.zeros(shape)
    for k, (knots, values) in enumerate(zip(inputs, outputs)):
        count = len(knots) - 1
        start[k, :count], width[k, :count], height[k, :count] = (
            knots[:-1],
            np.diff(knots),
            np.diff(values),
        )
    floor = np.array([values[0] for values in outputs])
    return [array.astype("float32") for array in (start, width, height, floor)]


def calibrate(
    model: EnsembleClassifier,
    images: Any,
    labels: ArrayLike | None = None,
    method: str = "temperature",
    batch_size: int = 128,
) -> EnsembleClassifier:
    """Return a calibrated copy of a classifier, fitted on held-out images.

    Averaging makes an ensemble less confident than its members, so an ensemble of calibrated members
    is not calibrated. Three methods map the *averaged* prediction p and do not change the members;
    one scales the members' logits z before they are averaged. Each minimises the NLL, except
    isotonic regression, which minimises squared errors.

        temperature          p'_k = p_k^(1 / T) / sum_j p_j^(1 / T)
        vector               log p'_k = w_k log p_k + b_k, normalised
        isotonic             p'_k = f_k(p_k), a class against the others, normalised; the model's own p_k
                             counts as one observation beside the N held-out ones
        member_temperature   p' = mean over members of softmax(z_m / T)

    Args:
        model: an `EnsembleClassifier`. An earlier calibration of its average is replaced.
        images: array (N, H, W, C) in [0, 255] or whatever else `zoo.predict` takes: held-out images that
            are used neither for training nor for testing.
        labels: their labels, int array (N,) or distributions (N, K). Default: None, those of a data set,
            or of a folder with a subfolder for each class.
        method: str, "temperature", "vector", "isotonic" or "member_temperature". Default: "temperature".
        batch_size: int >= 1, images per step. Default: 128.

    Returns:
        A compiled `EnsembleClassifier` that shares the model's weights and predicts, saves, loads and
        exports like any other. The first three methods store the map as `calibration`; members stay
        uncalibrated, also in exports. With member_temperature the scaling is part of the network, so it
        changes the members. Calibrate last: further training makes the calibration stale, and
        `zoo.ensemble` drops a map of the average, because the average changes.

    Raises:
        ValueError: if the model is not an `EnsembleClassifier`, the method is unknown, or images or labels
            are missing or do not fit the model or each other.

    Example:
        >>> model = zoo.load("packed_lenet", weights="fashion_mnist")
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), "uint8")
        >>> calibrated = zoo.calibrate(model, images, np.arange(20) % 10)
        >>> type(calibrated.calibration).__name__
        'Temperature'
        >>> calibrated.calibration.temperature > 1  # the model is too confident on noise
        True

    References:
        Guo et al., ICML 2017, arXiv 1706.04599; Rahaman and Thiery, Uncertainty Quantification and Deep
        Ensembles, NeurIPS 2021, arXiv 2007.08792; Zadrozny and Elkan, KDD 2002.
    """
    from zoo.classifier import EnsembleClassifier
    from zoo.composing import compile_default
    from zoo.uncertainty import predict

    if not isinstance(model, EnsembleClassifier):
        raise ValueError(f"calibrate takes an EnsembleClassifier; got {type(model).__name__}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if images is None:
        raise ValueError("calibrate takes held-out images and their labels; the images are None")
    if labels is not None and hasattr(images, "__len__") and hasattr(images, "shape"):
        _targets(labels, len(images), model.num_classes)  # before the work
    prediction = predict(model, images, batch_size)
    labels = prediction.targets if labels is None else labels
    if labels is None:
        raise ValueError(
            "calibrate takes held-out images and their labels; pass labels=, a labelled data set, or a folder "
            "with a subfolder for each of the model's class_names"
        )
    members = prediction.members
    targets = _targets(labels, len(members), model.num_classes)
    log_members = np.log(np.maximum(members, np.finfo("float64").tiny))
    network, spec, calibration = model.network, model.spec, None
    if method == "member_temperature":
        network, spec = _scaled(network, fit_temperature(log_members, targets)), None
    else:
        log_mean = _log_mean(log_members)
        calibration = {"temperature": _temperature, "vector": _vector, "isotonic": _isotonic}[method](
            log_mean, targets
        )
    return compile_default(
        EnsembleClassifier(
            network,
            model.activation,
            model.member_loss,
            spec,
            calibration,
            model.class_names,
            model.resize,
            name=model.name,
        )
    )


def _targets(labels, count, classes):
    """Labels as distributions (N, K) in float64."""
    labels = np.asarray(labels)
    if len(labels) != count:
        raise ValueError(
            f"there are {count} held-out images and {len(labels)} labels; pass one label for each image"
        )
    check_labels(labels, classes)
    if labels.ndim == 2 and labels.shape[1] == classes:
        return labels.astype("float64")
    return np.eye(classes)[labels.reshape(-1).astype(int)]


def _log_mean(log_members):
    """Log of the mean of members' probabilities: (N, M, K) log-probabilities to (N, K)."""
    from scipy.special import logsumexp

    return logsumexp(log_members, axis=1) - math.log(log_members.shape[1])


def fit_temperature(log_members: np.ndarray, targets: np.ndarray) -> float:
    """Find the temperature that minimises the NLL of the mean over members of softmax(log_members / T).

    Args:
        log_members: float array (N, M, K), log-probabilities or logits; M = 1 for an average.
        targets: float array (N, K), distributions.

    Returns:
        T, a float in [0.05, 20].
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def nll(log_temperature):
        return -(targets * _log_mean(log_softmax(log_members / np.exp(log_temperature), axis=-1))).sum()

    # Of several members the NLL need not have one minimum: look for the best valley, then go down it.
    grid = np.linspace(math.log(0.05), math.log(20), 25)
    best = int(np.argmin([nll(value) for value in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _temperature(log_p, targets):
    return Temperature(fit_temperature(log_p[:, None], targets))


def _vector(log_p, targets):
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    classes = log_p.shape[1]

    def nll_and_gradient(parameters):
        log_q = log_softmax(log_p * parameters[:classes] + parameters[classes:], axis=-1)
        error = (np.exp(log_q) * targets.sum(axis=-1, keepdims=True) - targets) / len(targets)
        return -(targets * log_q).sum() / len(targets), np.r_[(error * log_p).sum(0), error.sum(0)]

    start = np.r_[np.ones(classes), np.zeros(classes)]
    # Bounds keep separable data from running off to infinity.
    bounds = [(0.05, 20)] * classes + [(-20, 20)] * classes
    found = minimize(nll_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return VectorScaling(found.x[:classes].tolist(), found.x[classes:].tolist())


def _isotonic(log_p, targets):
    from sklearn.isotonic import IsotonicRegression

    p, inputs, outputs = np.exp(log_p), [], []
    for k in range(p.shape[1]):
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(p[:, k], targets[:, k])
        inputs.append(fitted.X_thresholds_.tolist())
        outputs.append(fitted.y_thresholds_.tolist())
    return Isotonic(inputs, outputs, own_share=1 / (len(p) + 1))


def _scaled(network, temperature):
    """The network with its logits divided by a temperature."""
    images = keras.Input(network.input_shape[1:], name="images")
    scaling = keras.layers.Rescaling(1 / temperature, dtype="float32", name="member_temperature")
    return keras.Model(images, scaling(network(images)), name="network")
