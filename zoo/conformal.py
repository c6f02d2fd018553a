"""Conformal prediction sets: sets of classes that hold the right one with a chosen probability."""

import dataclasses

import numpy as np

from zoo.checks import check_integer_labels, check_probabilities

METHODS = ("threshold", "aps", "raps")


@dataclasses.dataclass(frozen=True)
class Conformal:
    """Conformal prediction sets at a threshold that `fit` found; all fields are plain values.

    Args:
        method, alpha, penalty, start, randomized, seed: as in `fit`.
        threshold: classes whose score is at most this are in the set; infinite where there were too few
            held-out images for `alpha`, and then sets hold every class.
        classes: K.
    """

    method: str
    alpha: float
    penalty: float
    start: int
    randomized: bool
    seed: int
    threshold: float
    classes: int

    def predict_sets(self, probabilities):
        """Prediction sets (N, K), bool, of probabilities (N, K); a set may be empty.

        Randomised sets are drawn from the seed, in the order of the rows.

        Raises:
            ValueError: for anything but probabilities of K classes.
        """
        p = check_probabilities(probabilities)
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


def fit(probabilities, labels, alpha=0.1, method="aps", *, penalty=0.01, start=5, randomized=True,
              seed=0):  # fmt: skip
    """Split-conformal prediction sets with coverage 1 - alpha, from held-out predictions.

    For test images exchangeable with the n held-out ones, and whatever the model,

        1 - alpha <= P(the label is in the set) <= 1 - alpha + 1 / (n + 1),

    the right side where scores have no ties (randomised ones have none).  The threshold is the
    ceil((n + 1)(1 - alpha))-th smallest score of the held-out labels.  With classes sorted by falling
    probability, r the rank of class k, and u uniform in [0, 1), one for each image, scores are

        threshold   1 - p_k                                                  (least ambiguous sets)
        aps         sum of p of ranks 1 to r - 1, + u p_k                    (adaptive)
        raps        aps + penalty * max(r - start, 0)                        (regularised: smaller sets)

    Args:
        probabilities: (n, K), of held-out images that the model was neither trained nor calibrated on.
        labels: their integer labels (n,).
        alpha: share of labels that may be missed, in (0, 1).
        method: "threshold", "aps" or "raps".
        penalty, start: of RAPS (its lambda and k_reg), both >= 0.
        randomized: whether u is drawn; else it is 1, sets are larger, and cover more than asked for.
        seed: of u.

    Returns:
        A `Conformal`; its `sets(probabilities)` gives the sets.

    Raises:
        ValueError: for probabilities that are none, labels out of range or of another number, or an
            argument out of range.

    References: Vovk et al., Algorithmic Learning in a Random World, 2005; threshold: Sadinle et al., JASA
        2019, arXiv 1609.00451; APS: Romano et al., NeurIPS 2020, arXiv 2006.02544; RAPS: Angelopoulos et
        al., ICLR 2021, arXiv 2009.14193.
    """
    if not (isinstance(alpha, (int, float)) and 0 < alpha < 1):
        raise ValueError(f"alpha must be in (0, 1); got {alpha!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if not (penalty >= 0 and start >= 0):
        raise ValueError(f"penalty and start must be >= 0; got {penalty} and {start}")
    p = check_probabilities(probabilities)
    if p.ndim != 2:
        raise ValueError(f"probabilities must be (N, K), of the average; got shape {p.shape}")
    labels = check_integer_labels(labels, *p.shape)
    found = Conformal(method, alpha, penalty, start, randomized, seed, np.inf, p.shape[1])
    scores = found._scores(p, stream=0)[np.arange(len(p)), labels]
    return dataclasses.replace(found, threshold=_quantile(scores, alpha))


def _quantile(scores, alpha):
    """The ceil((n + 1)(1 - alpha))-th smallest of n scores; infinite beyond the n-th."""
    # Rounded first: (1 - 0.9) * 10 is not 1 in floating point.
    position = int(np.ceil(round((len(scores) + 1) * (1 - alpha), 9)))
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else float("inf")


def coverage(sets, labels):
    """Share of labels (N,) that are in their sets (N, K).

    Raises:
        ValueError: for no sets, labels out of range or of another number.
    """
    sets = np.asarray(sets)
    if sets.ndim != 2 or not sets.size:
        raise ValueError(f"sets must be (N, K) with N >= 1; got shape {sets.shape}")
    return float(sets[np.arange(len(sets)), check_integer_labels(labels, *sets.shape)].mean())


conformal = fit  # its name in version 0.1
