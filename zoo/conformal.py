"""Conformal prediction sets: sets of classes that hold the right one with a chosen probability."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.checks import check_integer_labels, check_probabilities

METHODS = ("threshold", "aps", "raps")


@dataclasses.dataclass(frozen=True)
class Conformal:
    """Conformal prediction sets at a threshold that `fit` found; all fields are plain values.

    Args:
        method: str, "threshold", "aps" or "raps".
        alpha: float in (0, 1), the share of labels that may be missed.
        penalty: float >= 0, lambda of RAPS.
        start: int >= 0, k_reg of RAPS.
        randomized: bool, whether scores are randomised.
        seed: int, the seed of the randomisation.
        threshold: float, the largest score of classes in the set; infinite if there were too few
            held-out images for `alpha`, and then every set holds every class.
        classes: int, K.

    Example:
        >>> sets = zoo.conformal.Conformal("threshold", 0.1, 0.0, 0, False, 0, threshold=0.6, classes=3)
        >>> sets.predict_sets([[0.5, 0.4, 0.1]]).tolist()
        [[True, True, False]]
    """

    method: str
    alpha: float
    penalty: float
    start: int
    randomized: bool
    seed: int
    threshold: float
    classes: int

    def predict_sets(self, probabilities: Any) -> np.ndarray:
        """Return the prediction sets of test images.

        Randomised sets are drawn from the seed, in the order of the rows.

        Args:
            probabilities: array (N, K), the averaged probabilities of the test images, or a
                `zoo.Prediction` of them.

        Returns:
            Bool array (N, K), True for classes in the set; a set may be empty.

        Raises:
            ValueError: for anything but probabilities of K classes.
        """
        p = check_probabilities(getattr(probabilities, "probabilities", probabilities))
        if p.shape[1:] != (self.classes,):
            raise ValueError(f"sets of {self.classes} classes need (N, {self.classes}); got {p.shape}")
        return self._scores(p, stream=1) <= self.threshold

    sets = predict_sets  # its name in version 0.1

    def _scores(self, p, stream):
        """Nonconformity (N, K) of each class; held-out and test images draw from streams of their own."""
        if self.method == "threshold":
            return 1 - p
        order = np.argsort(-p, axis=1, kind="stable")
        sorted_p = np.take_along_axis(p, order, axis=1)
        share = np.ones((len(p), 1))
        if self.randomized:
            share = np.random.default_rng([self.seed, stream]).random((len(p), 1))
        scores = np.cumsum(sorted_p, axis=1) - sorted_p + share * sorted_p
        if self.method == "raps":
            ranks = np.arange(1, p.shape[1] + 1)
            scores += self.penalty * np.maximum(ranks - self.start, 0)
        unsorted = np.empty_like(scores)
        np.put_along_axis(unsorted, order, scores, axis=1)
        return unsorted


def fit(
    probabilities: Any,
    labels: Any = None,
    alpha: float = 0.1,
    method: str = "aps",
    *,
    penalty: float = 0.01,
    start: int = 5,
    randomized: bool = True,
    seed: int = 0,
) -> Conformal:
    """Fit split-conformal prediction sets with coverage 1 - alpha to held-out predictions.

    For test images exchangeable with the n held-out ones, and whatever the model,

        1 - alpha <= P(the label is in the set) <= 1 - alpha + 1 / (n + 1),

    the right side where scores have no ties (randomised ones have none). The threshold is the
    ceil((n + 1)(1 - alpha))-th smallest score of the held-out labels. With classes sorted by falling
    probability, r the rank of class k, and u uniform in [0, 1), one for each image, scores are

        threshold   1 - p_k                                                  (least ambiguous sets)
        aps         sum of p of ranks 1 to r - 1, + u p_k                    (adaptive)
        raps        aps + penalty * max(r - start, 0)                        (regularised: smaller sets)

    Args:
        probabilities: array (n, K), averaged probabilities of held-out images that the model was neither
            trained nor calibrated on; a `zoo.Prediction` of them; or the `EnsembleClassifier` itself.
        labels: int array (n,), the labels of those images; after an `EnsembleClassifier` the images: a
            data set with labels, or a folder with a subfolder for each class. Default: None, the
            `targets` of the prediction.
        alpha: float in (0, 1), the share of labels that may be missed. Default: 0.1.
        method: str, "threshold", "aps" or "raps". Default: "aps".
        penalty: float >= 0, lambda of RAPS. Default: 0.01.
        start: int >= 0, k_reg of RAPS. Default: 5.
        randomized: bool, whether u is drawn; otherwise u = 1, and sets are larger and cover more than
            1 - alpha. Default: True.
        seed: int, the seed of u. Default: 0.

    Returns:
        A `Conformal`, whose `predict_sets(probabilities)` gives the sets.

    Raises:
        ValueError: for rows that are not probabilities, labels out of range or not one per row, or an
            argument out of range.

    Example:
        >>> p = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
        >>> found = zoo.conformal.fit(p, [0, 1, 1, 2], alpha=0.4, method="threshold")
        >>> round(found.threshold, 6)
        0.4
        >>> found.predict_sets([[0.7, 0.2, 0.1]]).tolist()
        [[True, False, False]]

    References:
        Vovk et al., Algorithmic Learning in a Random World, 2005. Threshold: Sadinle et al., JASA 2019,
        arXiv 1609.00451. APS: Romano et al., NeurIPS 2020, arXiv 2006.02544. RAPS: Angelopoulos et al.,
        ICLR 2021, arXiv 2009.14193.
    """
    if not (isinstance(alpha, (int, float)) and 0 < alpha < 1):
        raise ValueError(f"alpha must be in (0, 1); got {alpha!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if not (penalty >= 0 and start >= 0):
        raise ValueError(f"penalty and start must be >= 0; got {penalty} and {start}")
    probabilities, labels = _held_out(probabilities, labels)
    p = check_probabilities(probabilities)
    if p.ndim != 2:
        raise ValueError(f"probabilities must be (N, K), of the average; got shape {p.shape}")
    labels = check_integer_labels(labels, *p.shape)
    found = Conformal(method, alpha, penalty, start, randomized, seed, np.inf, p.shape[1])
    scores = found._scores(p, stream=0)[np.arange(len(p)), labels]
    return dataclasses.replace(found, threshold=_quantile(scores, alpha))


def _held_out(probabilities, labels):
    """Probabilities and labels of held-out images, which a model may have to answer first."""
    if hasattr(probabilities, "num_members"):  # a classifier, told without importing Keras
        from zoo.uncertainty import predict

        probabilities, labels = predict(probabilities, labels, progress=False), None
    if labels is None:
        labels = getattr(probabilities, "targets", None)
    if labels is None:
        raise ValueError(
            "conformal.fit needs the labels of the held-out images; pass labels=, or a model and a labelled data set"
        )
    return getattr(probabilities, "probabilities", probabilities), labels


def _quantile(scores, alpha):
    """The ceil((n + 1)(1 - alpha))-th smallest of n scores; infinite beyond the n-th."""
    # Rounded first: (1 - 0.9) * 10 is not 1 in floating point.
    position = int(np.ceil(round((len(scores) + 1) * (1 - alpha), 9)))
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else float("inf")


def coverage(sets: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of labels that are in their prediction sets.

    Args:
        sets: bool array (N, K), from `Conformal.predict_sets`.
        labels: int array (N,).

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: for no sets, or labels out of range or not one per set.

    Example:
        >>> zoo.conformal.coverage([[True, False], [True, True], [False, True]], [0, 1, 0])
        0.6666666666666666
    """
    sets = np.asarray(sets)
    if sets.ndim != 2 or not sets.size:
        raise ValueError(f"sets must be (N, K) with N >= 1; got shape {sets.shape}")
    return float(sets[np.arange(len(sets)), check_integer_labels(labels, *sets.shape)].mean())


conformal = fit  # its name in version 0.1
