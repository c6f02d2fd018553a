"""The photographs of a report: those that an ensemble's members disagree on most."""

import collections
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from zoo.evaluation.page import details, paragraph, pictures

LONGEST = 22  # characters of a class name in a caption

# Of the data sets whose files need not name their classes.
CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fashion_mnist": (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
    ),
}  # fmt: skip


def names_of_classes(config: dict, test: Any, dataset: str) -> Sequence[str] | None:
    """Return what a model's classes are called: by itself, its test split, or everybody.

    Args:
        config: dict, the model's card.
        test: the `zoo.data.arrays.Split` that it is evaluated on.
        dataset: str, the name of the data set.

    Returns:
        K strings, or None.
    """
    known = (config.get("class_names"), test.class_names, CLASSES.get(dataset))
    return next(
        (names for names in known if names and len(names) == config["spec"]["num_classes"]), None
    )


def disputed(evidence: Any, count: int = 12) -> str:
    """Return the HTML of the images on which each ensemble's members disagree most.

    Args:
        evidence: a `zoo.evaluation.evaluate.Evidence`.
        count: int >= 1, images of each ensemble. Default: 12.

    Returns:
        A string: those of the first ensemble, and those of the others to unfold; empty without ensembles.
    """
    shown = []
    for label, prediction in evidence.predictions.items():
        if prediction.members.shape[1] < 2:
            continue
        rows = np.argsort(-prediction.mutual_information, kind="stable")[:count]
        votes = prediction.members[rows].argmax(axis=-1)
        names = short_names(evidence.class_names.get(label))
        items = [(evidence.images[i], caption(evidence.labels[i], given, names))
                 for i, given in zip(rows, votes)]  # fmt: skip
        shown.append((label, pictures(items)))
    if not shown:
        return ""
    (label, first), *others = shown
    lead = (
        "Sorted by mutual information. Under each image are its label and what the members answer, with the "
        "number of members where several agree."
    )
    folded = "".join(details(other, html) for other, html in others)
    return paragraph(lead) + f"<h3>{escape(label)}</h3>" + first + folded


def caption(label: int, votes: Sequence[int], names: Sequence[str] | None) -> str:
    """Say what an image shows and what the members take it for, the most frequent answer first.

    Args:
        label: int, its class.
        votes: M ints, the members' classes.
        names: K strings, or None for classes without names.

    Returns:
        A string.

    Example:
        >>> from zoo.evaluation.disputed import caption
        >>> caption(2, [1, 2, 1], ["cat", "dog", "owl"])
        'owl; members say dog (2), owl'
        >>> caption(2, [1, 0, 1], None)
        'class 2; members say 1 (2), 0'
    """
    counted = collections.Counter(int(vote) for vote in votes).most_common()
    called = (lambda k: names[k]) if names else str
    said = (called(vote) + (f" ({times})" if times > 1 else "") for vote, times in counted)
    return f"{'' if names else 'class '}{called(label)}; members say {', '.join(said)}"


def short_names(names: Sequence[str] | None) -> list[str] | None:
    """Return class names that fit under a small picture.

    Args:
        names: K strings, such as lists of synonyms; or None.

    Returns:
        The first synonym of each; of a longer one whole words, or letters where its first word is too
        long. Names that would become the same stay whole. None for None.

    Example:
        >>> from zoo.evaluation.disputed import short_names
        >>> short_names(["goldfish, Carassius auratus", "black and gold garden spider", "lawn_mower"])
        ['goldfish', 'black and gold garden…', 'lawn mower']
        >>> short_names(["maillot", "maillot, tank suit"])
        ['maillot', 'maillot, tank suit']
    """
    if names is None:
        return None
    short = [_shortened(name) for name in names]
    times = collections.Counter(short)
    return [one if times[one] == 1 else name for name, one in zip(names, short)]


def _shortened(name):
    name = name.split(", ")[0].replace("_", " ").strip() or name
    if len(name) <= LONGEST:
        return name
    words = name[:LONGEST].rsplit(" ", 1)
    return (words[0] if len(words) > 1 else name[: LONGEST - 1]) + "…"
