"""Pictures of uncertainty, drawn without a screen."""

from typing import Any

import numpy as np

INK, BLUE, GREY = "#1f2430", "#2f6db5", "#c9ced6"


def blank_figure(width: float, height: float) -> Any:
    """Make an empty Matplotlib figure that needs no screen.

    Args:
        width: float, inches.
        height: float, inches.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def displayed(images: np.ndarray) -> np.ndarray:
    """Return images as RGB pixels that any library draws alike.

    Args:
        images: array (..., H, W, C), C = 1, 3 or 4 (the last dropped), uint8 or float in [0, 255];
            floats that are all in [0, 1] are taken for that range.

    Returns:
        Uint8 array (..., H, W, 3).
    """
    images = np.asarray(images)
    if images.dtype.kind == "f":
        images = np.nan_to_num(images) * (255 if images.size and np.nanmax(images) <= 1 else 1)
    if images.dtype != np.uint8:
        images = np.clip(np.round(images), 0, 255).astype("uint8")
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images[..., :3]


def sorted_by_uncertainty(
    images: np.ndarray, uncertainty: np.ndarray, path: Any, rows: int = 8, columns: int = 16
) -> Any:
    """Draw a grid of images, evenly spaced in rank from the most certain to the least.

    Args:
        images: array (N, H, W, C), grey or RGB, uint8 or float in [0, 255]; floats that are all in [0,
            1] are taken for that range.
        uncertainty: float array (N,), in nats; its range is written beside each row.
        path: str or path of the PNG to write.
        rows: int >= 1. Default: 8.
        columns: int >= 1, images per row. Default: 16.

    Returns:
        The path.
    """
    images = displayed(images)
    order = np.argsort(uncertainty, kind="stable")
    picks = order[np.linspace(0, len(order) - 1, rows * columns).round().astype(int)]
    picks = picks.reshape(rows, columns)
    figure = blank_figure(9, 0.62 * rows + 0.6)
    figure.suptitle("Sorted by uncertainty: certain at the top, uncertain at the bottom", color=INK)
    for axis, row in zip(figure.subplots(rows, 1), picks):
        strip = np.concatenate([np.pad(images[i], ((1, 1), (1, 1), (0, 0)), constant_values=255)
                                for i in row], axis=1)  # fmt: skip
        axis.imshow(strip, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_visible(False)
        low, high = uncertainty[row[0]], uncertainty[row[-1]]
        axis.set_ylabel(f"{low:.2f} to\n{high:.2f} nats", rotation=0, ha="right", va="center", fontsize=8,
                        color=INK)  # fmt: skip
    figure.savefig(path, dpi=130)
    return path


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> tuple:
    """Return the points of a reliability diagram over bins of equal width.

    Args:
        probabilities: float array (N, K).
        labels: int array (N,).
        num_bins: int >= 1, n, of bins (0, 1/n], (1/n, 2/n], ... of the confidence. Default: 15.

    Returns:
        Three arrays: mean confidence and accuracy in the bins that are not empty, and the number of
        images in each of the n bins.
    """
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    filled = counts > 0
    means = (
        np.bincount(bins, values, num_bins)[filled] / counts[filled] for values in (confidence, right)
    )
    return (*means, counts)


def reliability_diagram(
    probabilities: np.ndarray, labels: np.ndarray, path: Any, num_bins: int = 15
) -> Any:
    """Draw accuracy against confidence in equal-width bins, over a histogram of confidence.

    Args:
        probabilities: float array (N, K).
        labels: int array (N,).
        path: str or path of the PNG to write.
        num_bins: int >= 1, bins of the confidence. Default: 15.

    Returns:
        The path.
    """
    confidence, accuracy, counts = reliability(probabilities, labels, num_bins)
    filled = counts > 0
    ece = np.sum(counts[filled] / len(labels) * np.abs(accuracy - confidence))
    figure = blank_figure(5, 5.6)
    top, bottom = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    top.plot((0, 1), (0, 1), color=GREY, linestyle="--", label="perfectly calibrated")
    top.plot(confidence, accuracy, "o-", color=BLUE, label="this model")
    top.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02),
            title=f"Reliability: ECE {ece:.4f} ({num_bins} bins, {len(labels):,} images)")  # fmt: skip
    top.legend(loc="lower right", frameon=False)
    bottom.bar((np.arange(num_bins) + 0.5) / num_bins, counts, width=0.9 / num_bins, color=BLUE)
    bottom.set(xlabel="confidence", ylabel="images")
    figure.savefig(path, dpi=130)
    return path
