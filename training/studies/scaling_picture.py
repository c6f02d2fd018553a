"""The picture of docs/scaling.md: predicted efficiency against the number of GPUs."""

import os

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo.pictures import BLUE, INK
from zoo.training.studies import scaling_predictions as given

COLOURS = {
    "single": INK,
    "packed, gamma 2": BLUE,
    "batch_ensemble": "#d9731a",
    "hyper_batch": "#8a5aa8",
    "deep_ensemble": "#9aa4b2",
    "deep_ensemble, members apart": "#3c8d5a",
}
DEVICES = [2**power for power in range(10)]
SHARE = given.SHARES[-1]


def draw(path: str | os.PathLike, counted: dict[str, dict]) -> str | os.PathLike:
    """Draw weak and strong scaling of each network.

    Args:
        path: str or path of the PNG to write.
        counted: dict from network to a dict from method to `StepCost`.

    Returns:
        `path`.
    """
    figure = Figure(figsize=(9, 7.2), layout="constrained", facecolor="white")
    grid = figure.subplots(2, len(counted), sharex=True, sharey=True, squeeze=False)
    for column, (network, of_network) in enumerate(counted.items()):
        batch = given.NETWORKS[network][-1]
        kinds = (
            (f"{given.WEAK_BATCH} images a GPU", lambda n: given.WEAK_BATCH),
            (f"{batch:,} images in all", lambda n, batch=batch: batch / n),
        )
        for axis, (title, batch_of) in zip(grid[:, column], kinds):
            _panel(axis, of_network, batch_of)
            axis.set_title(f"{network}, {title}", color=INK, fontsize=11)
    for axis in grid[-1]:
        axis.set_xlabel("GPUs", color=INK)
    for axis in grid[:, 0]:
        axis.set_ylabel("share of a step that is compute", color=INK)
    figure.suptitle(
        f"Predicted, not measured: efficiency at {SHARE} of the peak; bands from exchange in turn to overlapped",
        color=INK,
    )
    handles = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    return path


def _panel(axis, counted, batch_of):
    for name, colour in COLOURS.items():
        curves = [given.efficiencies(counted, name, n, batch_of(n), SHARE) for n in DEVICES]
        low, high = zip(*curves)
        axis.fill_between(DEVICES, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.plot(DEVICES, low, color=colour, linewidth=1.6)
    axis.set_xscale("log", base=2)
    axis.set_xticks(DEVICES, DEVICES)
    axis.set_ylim(0, 1.03)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
