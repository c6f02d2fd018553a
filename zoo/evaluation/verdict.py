"""Is a model better than the single network, or is it noise?  Paired bootstrap over test images.

Two models see the same images, so the difference of their scores has far less noise than either score.
Images are drawn with replacement, each draw the same for both models; the interval of a difference is from
the 2.5th to the 97.5th percentile over draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
It says how much depends on which images were tested, not how much on the seed of training.
"""

import dataclasses

import numpy as np

from zoo import registry

DRAWS = 1000
BINS = 15  # of the ECE
LOWEST = 1e-38  # of a probability, as in `zoo.metrics`


@dataclasses.dataclass(frozen=True)
class Difference:
    """A model's score minus a reference's on the same images, with its 95 % bootstrap interval.

    Args:
        value: float.
        low: float, the interval's lower end.
        high: float, the interval's upper end.
    """

    value: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def text(self, unit: float = 1, decimals: int = 4) -> str:
        """Return it as text, such as "-0.0100 [-0.0150, -0.0050]".

        Args:
            unit: float, what the numbers are divided by, such as 0.01 for percentage points. Default: 1.
            decimals: int >= 0. Default: 4.

        Returns:
            A string.

        Example:
            >>> from zoo.evaluation.verdict import Difference
            >>> Difference(0.0033, -0.0008, 0.0075).text(0.01, 1)
            '+0.3 [-0.1, +0.8]'
        """
        value, low, high = (
            f"{number / unit:+.{decimals}f}" for number in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"


def bootstrap(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Measure scores on the images and on bootstrap draws of them.

    Args:
        probabilities: float array (N, K).
        labels: int array (N,).
        seed: int; the same seed and number of images give the same draws for every model. Default: 0.

    Returns:
        {"accuracy", "nll", "brier", "ece", "aurc"}: float arrays (1 + DRAWS,), the images themselves first.
    """
    size = len(labels)
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    order = np.argsort(-confidence, kind="stable")
    chosen = probabilities[np.arange(size), labels]
    means = np.stack([right, -np.log(np.maximum(chosen, LOWEST)),
                      np.sum(np.square(probabilities), axis=-1) - 2 * chosen + 1])  # fmt: skip
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps, wrong = confidence - right, (~right)[order]
    rng = np.random.default_rng(seed)
    found = np.empty((1 + DRAWS, 5))
    for draw in range(1 + DRAWS):
        counts = np.bincount(rng.integers(0, size, size), minlength=size) if draw else np.ones(size)
        sorted_counts = counts[order]
        risk = np.cumsum(sorted_counts * wrong) / np.maximum(np.cumsum(sorted_counts), 1)
        found[draw] = (
            *(means @ counts / size),
            np.abs(np.bincount(bins, gaps * counts, BINS)).sum() / size,
            risk @ sorted_counts / size,
        )
    return dict(zip(("accuracy", "nll", "brier", "ece", "aurc"), found.T))


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compare the same score of two models.

    Args:
        ours: array (1 + DRAWS,) of `bootstrap`.
        theirs: array (1 + DRAWS,) of the reference, from the same images and seed.

    Returns:
        A `Difference`, ours minus theirs.

    Example:
        >>> import numpy as np
        >>> from zoo.evaluation.verdict import bootstrap, difference
        >>> labels = np.arange(100) % 2
        >>> sure, unsure = np.eye(2)[labels] * 0.8 + 0.1, np.full((100, 2), 0.5)
        >>> found = difference(bootstrap(sure, labels)["nll"], bootstrap(unsure, labels)["nll"])
        >>> round(found.value, 2), found.beyond_noise
        (-0.59, True)
    """
    gaps = ours - theirs
    low, high = np.percentile(gaps[1:], (2.5, 97.5))
    return Difference(float(gaps[0]), float(low), float(high))


def compare(names: dict[str, str], predictions: dict, labels: np.ndarray) -> dict[str, dict]:
    """Compare every model with the single network of its backbone, and find the best of each backbone.

    Args:
        names: {label in the report: METHOD_BACKBONE}.
        predictions: {label in the report: `Prediction`}.
        labels: int array (N,).

    Returns:
        {label: {"against_single": {"reference": label, score: {"value", "low", "high"}} or None,
        "best": scores in which it is better, beyond noise, than all others of its backbone}}.
    """
    backbone = {label: registry.parse(name)[1] for label, name in names.items()}
    drawn = {label: bootstrap(given.probabilities, labels) for label, given in predictions.items()}
    result = {}
    for label in names:
        peers = [other for other in names if other != label and backbone[other] == backbone[label]]
        gaps = {
            other: {key: difference(drawn[label][key], drawn[other][key]) for key in drawn[label]}
            for other in peers
        }
        single = [other for other in peers if registry.parse(names[other])[0] == "single"]
        is_single = registry.parse(names[label])[0] == "single"
        against = None
        if single and not is_single:
            scores = {key: dataclasses.asdict(gap) for key, gap in gaps[single[0]].items()}
            against = {"reference": single[0], **scores}
        best = [
            key for key in drawn[label]
            if peers and all(_better(key, gaps[other][key]) for other in peers)
        ]  # fmt: skip
        result[label] = {"against_single": against, "best": best}
    return result


def _better(key, gap):
    """Whether a difference is an improvement beyond noise."""
    return gap.low > 0 if key == "accuracy" else gap.high < 0


def sentences(models: dict[str, dict], images: int) -> list[str]:
    """Return the verdict on each ensemble against the single network of its backbone.

    Args:
        models: {label: what `report.json` has of the model}.
        images: int, how many images were tested.

    Returns:
        A list of str, one sentence for each ensemble, or one that says what is missing.
    """
    found = [
        verdict(label, model["against_single"], images, model["macs"], models)
        for label, model in models.items() if model["against_single"]
    ]  # fmt: skip
    if found:
        return found
    missing = [f"single_{registry.parse(m['name'])[1]}" for m in models.values() if m["members"] > 1]
    if not missing:
        return ["There is no ensemble in this report; add one to the command to compare it."]
    return [f"There is no single network to compare with; add {missing[0]} to the command."]


def verdict(label: str, against: dict, images: int, macs: float, models: dict[str, dict]) -> str:
    """Say in one sentence whether a model is better than the single network.

    Args:
        label: str, the model's.
        against: dict, "against_single" of `compare`.
        images: int, how many images were tested.
        macs: float, multiply-accumulates of the model for an image.
        models: {label: {"macs": ...}}, for the reference's.

    Returns:
        A string.
    """
    reference = against["reference"]
    nll, accuracy = (Difference(**against[key]) for key in ("nll", "accuracy"))
    kind = {1: "better", -1: "worse", 0: "level"}
    by_nll = kind[-_sign(nll)]
    by_accuracy = kind[_sign(accuracy)]
    if by_nll == by_accuracy:
        said = {"better": f"is better than {reference}", "worse": f"is worse than {reference}",
                "level": f"cannot be told from {reference} on these {images:,} images"}[by_nll]  # fmt: skip
    elif "level" in (by_nll, by_accuracy):
        decided, other = ("NLL", "accuracy") if by_accuracy == "level" else ("accuracy", "NLL")
        word = by_nll if by_accuracy == "level" else by_accuracy
        said = f"is {word} than {reference} by {decided} and within noise of it by {other}"
    else:
        said = f"is {by_nll} than {reference} by NLL but {by_accuracy} by accuracy"
    cost = f"{macs / models[reference]['macs']:.1f}"
    cost = "as many" if cost == "1.0" else f"{cost} times the"
    return (
        f"{label} {said}: accuracy {accuracy.text(0.01, 1)} percentage points, NLL {nll.text()} "
        f"(difference and 95 % interval), for {cost} multiplications."
    )


def _sign(gap):
    return 0 if not gap.beyond_noise else 1 if gap.value > 0 else -1
