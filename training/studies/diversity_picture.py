"""The picture of the BatchEnsemble study: results by rank, beside single network and deep ensemble."""

import os

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from zoo.pictures import BLUE, INK
from zoo.training.studies.diversity_runs import MODES, RANKS, batch_ensemble_name

ORANGE, GREEN, GREY = "#d9731a", "#3c8d5a", "#7b8594"
PANELS = {
    "nll": "NLL on MNIST",
    "disagreement": "disagreement on MNIST",
    "ood_mutual_information": "mutual information on Fashion-MNIST",
    "weight_cosine": "cosine of members' weights",
}
_COLOURS = {"normal": BLUE, "signs": ORANGE}
_NAMES = {"normal": "normal", "signs": "random signs"}
_MARKERS = {"tile": ("o", "-"), "split": ("s", "--")}
_BATCHES = {"tile": "tiled", "split": "split"}
_BANDS = {"single": (GREY, "single network"), "deep_ensemble": (GREEN, "deep ensemble")}


def draw(path: str | os.PathLike, summary: dict) -> str | os.PathLike:
    """Draw a summary as far as it goes.

    Args:
        path: str or path of the PNG to write.
        summary: dict from `diversity_report.summarise`.

    Returns:
        `path`.
    """
    figure = Figure(figsize=(9, 7.4), layout="constrained", facecolor="white")
    for axis, (key, title) in zip(figure.subplots(2, 2, sharex=True).flat, PANELS.items()):
        _panel(axis, key, summary)
        axis.set_title(title, color=INK, fontsize=11)
        axis.set_xticks(RANKS)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in figure.axes[2:]:
        axis.set_xlabel("rank of a member's factors", color=INK)
    figure.suptitle("BatchEnsemble: mean and standard deviation over seeds", color=INK)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    return path


def _panel(axis, key, summary):
    for name, (colour, _) in _BANDS.items():
        value = summary.get(name, {"figures": {}})["figures"].get(key)
        if name in summary and value is None and key != "weight_cosine":
            value = [0.0, 0.0]  # a network does not differ from itself
        if value:
            axis.axhline(value[0], color=colour, linewidth=1.5)
            axis.axhspan(value[0] - value[1], value[0] + value[1], color=colour, alpha=0.25, linewidth=0)
    cells = [(initialiser, mode) for initialiser in _COLOURS for mode in MODES]
    for place, (initialiser, mode) in enumerate(cells):
        points = [
            (rank + 0.08 * (place - 1.5), *summary[name]["figures"][key])
            for rank in RANKS
            if (name := batch_ensemble_name(mode, initialiser, rank)) in summary
        ]
        if points:
            ranks, means, deviations = zip(*points)
            marker, line = _MARKERS[mode]
            axis.errorbar(ranks, means, deviations, color=_COLOURS[initialiser], marker=marker,
                          linestyle=line, markersize=5, linewidth=1.2, capsize=2)  # fmt: skip


def _legend():
    lines = [
        Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5,
               label=f"{_NAMES[initialiser]}, {_BATCHES[mode]} batches")
        for initialiser, colour in _COLOURS.items()
        for mode, (marker, line) in _MARKERS.items()
    ]  # fmt: skip
    return lines + [Patch(color=colour, alpha=0.6, label=label) for colour, label in _BANDS.values()]
