"""Greedy selection of an ensemble from trained networks by their held-out predictions."""

from collections.abc import Iterable

import numpy as np

# As in `zoo.losses.CrossEntropy`: a network that rules the truth out is bad, not infinitely bad.
FLOOR = 1e-37
# Where two candidates differ by less, machines that round differently must choose alike.
DIGITS = 9


def likelihoods(probabilities: Iterable[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Look up the probabilities that networks give to the labels.

    Args:
        probabilities: iterable of N arrays (n, K), read one at a time.
        labels: integer array (n,) with values in [0, K).

    Returns:
        float64 array (N, n).

    Raises:
        ValueError: if there are no arrays or no labels, shapes do not match, or labels are out of range.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be at least one integer, (n,); got {labels.dtype} of shape {labels.shape}"
        )
    rows = []
    for array in probabilities:
        array = np.asarray(array)
        if array.ndim != 2 or len(array) != len(labels):
            raise ValueError(
                f"probabilities must be (n, K) with n = {len(labels)} labels; got shape {array.shape}"
            )
        if labels.min() < 0 or labels.max() >= array.shape[1]:
            raise ValueError(
                f"labels run from {labels.min()} to {labels.max()}, but there are {array.shape[1]} classes"
            )
        rows.append(array[np.arange(len(labels)), labels].astype("float64"))
    if not rows:
        raise ValueError("there are no predictions to select from")
    return np.stack(rows)


def negative_log_likelihood(likelihood: np.ndarray) -> np.ndarray:
    """Average -log over the last axis.

    Args:
        likelihood: float array (..., n), probabilities of the labels.

    Returns:
        float array (...), in nats; infinity for a network that predicts NaN.
    """
    loss = -np.log(np.maximum(likelihood, FLOOR)).mean(axis=-1)
    return np.where(np.isfinite(loss), loss, np.inf)


def greedy_selection(
    probabilities: Iterable[np.ndarray],
    labels: np.ndarray,
    num_members: int,
    max_size: int | None = None,
) -> tuple[list[int], list[float]]:
    """Choose networks one by one, with replacement, each the one that most lowers the ensemble's NLL.

    The NLL is that of the mean of the chosen networks' probabilities, in which a network counts as
    often as it was chosen.  Choosing ends when nothing lowers it, when `num_members` different
    networks are chosen, or at `max_size` choices.  Ties go to the first.

    Args:
        probabilities: iterable of N arrays (n, K), each network's predictions for the same n images.
        labels: integer array (n,) with values in [0, K).
        num_members: int >= 1, the most different networks.
        max_size: int >= 1, the most choices, repeats included, or None for 4 * num_members; the paper
            leaves it open. Default: None.

    Returns:
        (indices into the networks in the order of choice, NLL of the ensemble after each choice).

    Raises:
        ValueError: if num_members or max_size is < 1, shapes do not match, or no network has a finite
            NLL.

    References:
        Wenzel et al., Hyperparameter Ensembles for Robustness and Uncertainty Quantification, NeurIPS
        2020, arXiv 2006.13570, section 3; after Caruana et al., Ensemble Selection from Libraries of
        Models, ICML 2004.
    """
    max_size = 4 * num_members if max_size is None else max_size
    if num_members < 1 or max_size < 1:
        raise ValueError(f"num_members and max_size must be >= 1; got {num_members} and {max_size}")
    candidates = likelihoods(probabilities, labels)
    chosen, path = [], []
    total = np.zeros(candidates.shape[1])
    while len(set(chosen)) < num_members and len(chosen) < max_size:
        losses = negative_log_likelihood((total + candidates) / (len(chosen) + 1)).round(DIGITS)
        best = int(losses.argmin())
        if not losses[best] < (path[-1] if path else np.inf):
            break
        chosen.append(best)
        path.append(float(losses[best]))
        total += candidates[best]
    if not chosen:
        raise ValueError("no network has a finite held-out NLL: all of them diverged")
    return chosen, path
