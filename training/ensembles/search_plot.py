"""The plot of a search: held-out NLL against each hyperparameter."""

import math
import os

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo.pictures import BLUE, INK
from zoo.training.ensembles.network_store import NetworkStore, numbers_of
from zoo.training.ensembles.search_space import SearchSpace

ORANGE, DOT = "#d9731a", "#9aa4b2"
_AXES = {
    "label_smoothing": "label smoothing",
    "learning_rate": "peak learning rate",
    "dropout": "dropout before the head",
}
# Kind of configuration: colour, size in points.
_MARKS = {
    "tried": (DOT, 5),
    "chosen in the search only": (BLUE, 7),
    "in the ensemble": (ORANGE, 7),
}


def draw_search(
    path: str | os.PathLike,
    networks: NetworkStore,
    space: SearchSpace,
    tried: list[str],
    first: list[str],
    chosen: list[str],
) -> str | os.PathLike:
    """Draw a search, with one panel per hyperparameter.

    Args:
        path: str or path of the PNG to write.
        networks: `NetworkStore`.
        space: `SearchSpace`.
        tried: list of names of the networks of the search, the first of them the recipe's own.
        first: list of names that the first selection chose.
        chosen: list of names of the networks in the ensemble.

    Returns:
        `path`.
    """
    losses = {name: networks.nll(name) for name in tried}
    top = _top(list(losses.values()))
    final = {numbers_of(name)[0] for name in chosen}
    points = []  # (configuration, NLL, kind), the chosen last and so above the others
    for name in tried[1:]:
        kind = "in the ensemble" if numbers_of(name)[0] in final else "tried"
        kind = "chosen in the search only" if kind == "tried" and name in first else kind
        points.append((networks.result(name)["configuration"], losses[name], kind))
    points.sort(key=lambda point: list(_MARKS).index(point[2]))

    names = list(space.ranges)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(
        figsize=(max(3.3 * columns, 6), 2.6 * rows + 1.2), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names):
        _panel(axis, name, space.ranges[name], points, losses[tried[0]], top)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out NLL", color=INK)
    figure.suptitle(f"Random search, {len(tried)} configurations", color=INK)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    return path


def _top(losses):
    """Where the picture ends: a few bad networks must not press the others together."""
    finite = np.sort([loss for loss in losses if np.isfinite(loss)])
    middle = finite[len(finite) // 2]
    return min(finite[-1], middle + 4 * (middle - finite[0]))


def _panel(axis, name, limits, points, default, top):
    if default <= top:
        axis.axhline(default, color=INK, linestyle="--", linewidth=1)
    for configuration, loss, kind in points:
        colour, size = _MARKS[kind]
        marker = "o" if loss <= top else "^"
        axis.plot(configuration[name], min(loss, top), marker, color=colour, markersize=size,
                  markeredgecolor="white", markeredgewidth=0.5, clip_on=False)  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(limits[0] / 1.15, limits[1] * 1.15)
    axis.set_xlabel(_AXES.get(name) or f"L2, {name.removeprefix('l2_').replace('_', ' ')}", color=INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend():
    def line(label, **style):
        return Line2D([], [], label=label, **{"linestyle": "none", "color": INK, **style})

    dots = [
        line(kind, marker="o", color=colour, markersize=size) for kind, (colour, size) in _MARKS.items()
    ]
    own = line("the recipe's own", linestyle="--", linewidth=1)
    return [*dots, own, line("beyond the picture", marker="^", color=DOT, markersize=5)]
