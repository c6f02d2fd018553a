"""The picture of a benchmark: measured cost by method and, where weights exist, accuracy against it."""

from typing import Any

from zoo.benchmarking.models import TRAIN
from zoo.benchmarking.output import title
from zoo.pictures import GREY, INK, blank_figure

COLOURS = ("#2f6db5", "#d1495b", "#3a8f5c", "#c07f1f", "#7a5195", "#4d5566")
MARKERS = ("o", "s", "D", "^", "v", "P")


def write_picture(results: dict, path: Any) -> Any:
    """Draw CPU time in multiples of the single network's: a row per method, a point per task.

    Peers' points are hollow.

    Args:
        results: dict, that of `benchmark.json`.
        path: path of the PNG to write.

    Returns:
        The path.
    """
    measured = [record for record in results["models"] if "tasks" in record]
    accurate = [record for record in measured if record.get("accuracy") is not None]
    labels = list(dict.fromkeys(record["label"] for record in measured))
    figure = blank_figure(11 if accurate else 7.5, 1.6 + 0.38 * len(labels))
    axes = figure.subplots(1, 2 if accurate else 1, squeeze=False)[0]
    _draw_ratios(axes[0], measured, labels, results)
    if accurate:
        _draw_accuracy(axes[1], accurate)
    figure.savefig(path, dpi=130)
    return path


def _draw_ratios(axis, measured, labels, results):
    tasks = list(measured[0]["tasks"])
    for index, task in enumerate(tasks):
        shift = 0.13 * (index - (len(tasks) - 1) / 2)
        style = {
            "color": COLOURS[index % 6],
            "marker": MARKERS[index % 6],
            "linestyle": "none",
            "markersize": 5.5,
        }
        for of in dict.fromkeys(record["of"] for record in measured):
            points = [(r["tasks"][task]["cpu_ratio"], labels.index(r["label"]) + shift)
                      for r in measured if r["of"] == of]  # fmt: skip
            name = "training step" if task == TRAIN else f"{task} image{'s' * (task != 'predict 1')}"
            face = {} if of == "zoo" else {"markerfacecolor": "white", "alpha": 0.8}
            axis.plot(*zip(*points), label=name if of == "zoo" else f"{name}, {of}", **style, **face)
    axis.axvline(1, color=GREY, zorder=0)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.grid(axis="y", color="#eef0f3", zorder=0)
    axis.set_xlabel("CPU time, times the single network's of the same run")
    backbone, backend = results["settings"]["backbone"], results["machine"]["backend"]
    axis.set_title(f"Measured cost, {backbone}, {backend}", color=INK, loc="left")
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_accuracy(axis, accurate):
    task = list(accurate[0]["tasks"])[-1]
    costs = [record["tasks"][task]["cpu_ratio"] for record in accurate]
    above = 2.0  # no accuracy
    for index, record in sorted(enumerate(accurate), key=lambda item: -item[1]["accuracy"]):
        x, y = costs[index], record["accuracy"]
        axis.plot(x, y, marker=MARKERS[index % 6], color=COLOURS[index % 6], linestyle="none")
        right = x * x > min(costs) * max(costs)  # labels of points on the right stand to their left
        axis.annotate(
            title(record), (x, y), xytext=(-5 if right else 5, 3 if above - y > 0.005 else -8),
            textcoords="offset points", fontsize=7, color=INK, ha="right" if right else "left",
        )  # fmt: skip
        above = y
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.margins(x=0.2)
    axis.set_xlabel(f"CPU time of {task} images; single network: 1")
    axis.set_ylabel("accuracy")
    axis.set_title(f"Accuracy on {accurate[0]['dataset']}", color=INK, loc="left")
