"""`zoo.threshold`: the least confidence at which a model's answers are right often enough."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from zoo.checks import check_integer_labels, check_probabilities

if TYPE_CHECKING:
    from zoo.uncertainty import Prediction

SHARES = 20  # thresholds that are tried: those that answer 1/20, 2/20, ... of the images


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The least confidence at which answers are right often enough; all fields are plain values.

    Args:
        value: float, the least confidence of an answer; infinite if no threshold was shown to suffice.
        target: float in (0, 1), the accuracy that was asked for.
        level: float in (0, 1), the confidence level of `bound`.
        accuracy: float, the share of right answers among the held-out images that are answered; NaN if
            none is.
        bound: float, the lower bound of the accuracy at that level.
        share: float in [0, 1], how many of the held-out images are answered.
        images: int, the number of held-out images.

    Example:
        >>> from zoo.deciding import Threshold
        >>> found = Threshold(0.8, 0.95, 0.95, accuracy=0.98, bound=0.951, share=0.6, images=400)
        >>> print(found)
        Answer at confidence 0.800 or above: 60.0% of 400 images are answered, 98.0% of them correctly (at
        least 95.1%, with 95% confidence).
        >>> found.answers(zoo.Prediction(np.array([[[0.9, 0.1]], [[0.6, 0.4]]]))).tolist()
        [True, False]
    """

    value: float
    target: float
    level: float
    accuracy: float
    bound: float
    share: float
    images: int

    def answers(self, prediction: Prediction | ArrayLike) -> np.ndarray:
        """Tell which images the model answers; the others are for a person.

        Args:
            prediction: a `Prediction` or probabilities (N, K).

        Returns:
            Bool array (N,).
        """
        return _probabilities(prediction).max(axis=1) >= self.value

    def __str__(self) -> str:
        if math.isinf(self.value):
            return (
                f"No threshold can be shown to reach {self.target:.1%} accuracy with {self.level:.0%} confidence on "
                f"{self.images} images: label more of them, or ask for a lower accuracy."
            )
        return (
            f"Answer at confidence {self.value:.3f} or above: {self.share:.1%} of {self.images} images are answered, "
            f"{self.accuracy:.1%} of them correctly (at least {self.bound:.1%}, with {self.level:.0%} confidence)."
        )


def threshold(
    prediction: Prediction | ArrayLike,
    labels: ArrayLike | None = None,
    accuracy: float = 0.95,
    level: float = 0.95,
) -> Threshold:
    """Find the least confidence at which a model's answers are right often enough.

    Thresholds that answer 5%, 10%, ..., 100% of the held-out images are tried in this order, beginning
    where there are enough images to show anything, and each is accepted if the one-sided
    Clopper-Pearson bound of its accuracy reaches the target. The first one that fails ends the search,
    and the last one before it is returned. The order is fixed in advance (fixed-sequence testing), so no
    correction for many trials is needed: with probability `level` or more over the draw of held-out
    images, the accuracy of answers to new images of the same kind is at least the target, provided that
    accuracy does not rise when the threshold falls. For other kinds of images nothing is promised.

    Args:
        prediction: a `Prediction` of held-out images, neither trained nor calibrated on; or averaged
            probabilities (N, K).
        labels: int array (N,), their labels. Default: None, the `targets` of the prediction.
        accuracy: float in (0, 1), the share of answers that must be right. Default: 0.95.
        level: float in (0, 1), the probability with which this must hold. Default: 0.95.

    Returns:
        A `Threshold`: its `value`, the `share` of images that it answers, their `accuracy` and its
        `bound`. If no threshold can be shown to suffice, the value is infinite: a person decides
        every image.

    Raises:
        ValueError: for missing labels, labels that do not fit, or an argument out of range.

    Example:
        >>> p = np.r_[np.full(300, 0.9), np.full(100, 0.6)]  # the model says 0.9 of 300 images
        >>> right = np.r_[np.ones(300), np.arange(100) % 2]  # and is right about them
        >>> found = zoo.threshold(np.stack([p, 1 - p], axis=1), 1 - right)
        >>> found.value, found.share, found.accuracy, round(found.bound, 3)
        (0.9, 0.75, 1.0, 0.99)

    References:
        Clopper and Pearson, Biometrika 1934. Fixed sequences of tests: Angelopoulos et al., Learn then
        Test, 2021, arXiv 2110.01052.
    """
    for name, value in (("accuracy", accuracy), ("level", level)):
        if not (isinstance(value, (int, float)) and 0 < value < 1):
            raise ValueError(f"{name} must be in (0, 1); got {value!r}")
    if labels is None:
        labels = getattr(prediction, "targets", None)
    if labels is None:
        raise ValueError("threshold needs the labels of the held-out images; pass labels=")
    p = _probabilities(prediction)
    labels = check_integer_labels(labels, *p.shape)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    found = (math.inf, math.nan, 0.0, 0.0)
    for value in _candidates(confidence, accuracy, level):
        answered = confidence >= value
        bound = lower_bound(int(right[answered].sum()), int(answered.sum()), level)
        if bound < accuracy:
            break
        found = (float(value), float(right[answered].mean()), bound, float(answered.mean()))
    value, measured, bound, share = found
    return Threshold(value, accuracy, level, measured, bound, share, len(p))


def lower_bound(right: int, count: int, level: float) -> float:
    """Return the one-sided lower Clopper-Pearson bound of a share.

    Args:
        right: int, successes.
        count: int >= right, trials.
        level: float in (0, 1).

    Returns:
        A float in [0, 1].

    Example:
        >>> from zoo.deciding import lower_bound
        >>> round(lower_bound(59, 59, 0.95), 4), round(lower_bound(95, 100, 0.95), 4), lower_bound(0, 9, 0.95)
        (0.9505, 0.8977, 0.0)
    """
    from scipy.stats import beta

    return float(beta.ppf(1 - level, right, count - right + 1)) if right else 0.0


def _candidates(confidence, accuracy, level):
    """The thresholds in the order in which they are tried; no label decides about them."""
    needed = math.ceil(round(math.log(1 - level) / math.log(accuracy), 9))  # all of them right
    falling = np.sort(confidence)[::-1]
    counts = [math.ceil(round(len(falling) * k / SHARES, 9)) for k in range(1, SHARES + 1)]
    values = [falling[count - 1] for count in counts if count >= needed]
    return list(dict.fromkeys(values))


def _probabilities(prediction):
    p = check_probabilities(getattr(prediction, "probabilities", prediction))
    if p.ndim != 2:
        raise ValueError(f"probabilities must be (N, K), of the average; got shape {p.shape}")
    return p
