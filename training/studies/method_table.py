"""One table and one picture of all methods of a backbone, from a report of `zoo evaluate`.

    zoo evaluate RUNS/* --dataset cifar10 --data_dir DATA --report REPORT
    python -m zoo.training.studies.method_table --report=REPORT/report.json --backbone=cifarnet

Runs of one model that differ in their seed become one row, with mean and standard deviation. The table
goes between the marks of the section in the page, the picture beside the page: NLL against measured
latency, where the single network is the line to beat.
"""

import json
import os
import pathlib
import statistics

from absl import flags

from zoo.training import marked_sections
from zoo.training.start import start

COMMAND = "zoo.training.studies.method_table"
FLAGS = flags.FLAGS
INK, BLUE, GREY = "#1f2430", "#2f6db5", "#7b8594"

# Column: title, digits, and where a model's entry in the report has it.
COLUMNS = (
    ("accuracy", 4, lambda model: model["figures"]["accuracy"]),
    ("NLL", 4, lambda model: model["figures"]["nll"]),
    ("ECE", 4, lambda model: model["figures"]["ece"]),
    ("NLL, scaled", 4, lambda model: model["calibrated"]["nll"]),
    ("ECE, scaled", 4, lambda model: model["calibrated"]["ece"]),
    ("DEE", 1, lambda model: (model["equivalent"] or {}).get("networks")),
    ("corrupted accuracy", 3, lambda model: _mean(model, "accuracy")),
    ("corrupted NLL", 3, lambda model: _mean(model, "nll")),
    ("AUROC near", 3, lambda model: _auroc(model, "near")),
    ("AUROC far", 3, lambda model: _auroc(model, "far")),
    ("disagreement", 3, lambda model: model["figures"]["disagreement"]),
)


def rows(report: dict, backbone: str) -> list[dict]:
    """Gather the models of a backbone, runs that differ in their seed together.

    Args:
        report: dict, the `report.json` of `zoo evaluate`.
        backbone: str, such as "cifarnet".

    Returns:
        A list of dictionaries, sorted by NLL: `name`, `members`, `seeds`, `updates` (of each network, or
        None), `parameters`, `macs`,
        `latency` (milliseconds of one image, mean over runs, or None) and `values`, by column (mean,
        standard deviation), the latter None for one seed and both None where nothing was measured.

    Raises:
        ValueError: for a report without models of that backbone.
    """
    groups = {}
    for model in report["models"].values():
        if model["name"].endswith(f"_{backbone}"):
            groups.setdefault(model["name"], []).append(model)
    if not groups:
        raise ValueError(f"the report has no model with the backbone {backbone!r}")
    found = [_row(name, models) for name, models in groups.items()]
    return sorted(found, key=lambda row: row["values"]["NLL"][0])


def _row(name, models):
    latencies = [model["latency"]["1"] for model in models if model.get("latency")]
    return {
        "name": name,
        "members": models[0]["members"],
        "seeds": len(models),
        "updates": models[0].get("updates"),
        "parameters": models[0]["parameters"],
        "macs": models[0]["macs"],
        "latency": statistics.mean(latencies) if latencies else None,
        "values": {title: _spread([read(model) for model in models]) for title, _, read in COLUMNS},
    }


def _spread(values):
    values = [value for value in values if isinstance(value, (int, float))]
    if not values:
        return None, None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def _mean(model, metric):
    means = model.get("corruption_means") or {}
    return means[metric]["mean"] if metric in means else None


def _auroc(model, group):
    """Mean AUROC by entropy over the out-of-distribution sets of a group."""
    found = [one["scores"]["entropy"]["auroc"] for one in model["ood"] if one["group"] == group]
    return statistics.mean(found) if found else None


def table(found: list[dict]) -> str:
    """Write rows as a Markdown table; columns that no model has are left out.

    Args:
        found: list of dictionaries, from `rows`.

    Returns:
        A string.
    """
    columns = [
        column for column in COLUMNS if any(row["values"][column[0]][0] is not None for row in found)
    ]
    timed = any(row["latency"] is not None for row in found)
    counted = any(row["updates"] for row in found)
    head = [
        "method",
        "M",
        "seeds",
        *(["updates"] if counted else []),
        *(title for title, *_ in columns),
        "parameters",
        "MACs",
    ]
    head += ["ms an image"] if timed else []
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for row in found:
        cells = [f"`{row['name']}`", str(row["members"]), str(row["seeds"])]
        cells += [f"{row['updates']:,}" if row["updates"] else ""] if counted else []
        cells += [_cell(*row["values"][title], digits) for title, digits, _ in columns]
        cells += [f"{row['parameters']:,}", f"{row['macs'] / 1e6:.1f} M"]
        cells += [_cell(row["latency"], None, 1)] if timed else []
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(mean, deviation, digits):
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def draw(path: str | os.PathLike, found: list[dict], title: str) -> None:
    """Draw NLL against latency; everything below the dashed line beats the single network.

    Args:
        path: path of the PNG to write.
        found: list of dictionaries, from `rows`, all with a latency.
        title: str, above the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for row in found:
        single = row["name"].startswith("single_")
        mean, deviation = row["values"]["NLL"]
        colour = INK if single else BLUE
        axis.errorbar(row["latency"], mean, deviation, fmt="o", color=colour, capsize=3)
        label = row["name"].rsplit("_", 1)[0].replace("_", " ")
        axis.annotate(
            label, (row["latency"], mean), xytext=(7, 4), textcoords="offset points", color=colour
        )
        if single:
            axis.axhline(mean, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.set_xlabel("milliseconds of one image, measured", color=INK)
    axis.set_ylabel("NLL on the test images", color=INK)
    axis.set_title(title, color=INK, fontsize=11)
    axis.margins(x=0.18, y=0.12)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


def main(argv: list[str]) -> None:
    """Fill the page's section and draw the picture.

    Args:
        argv: list of str from absl, the command's name alone.
    """
    report = json.loads(pathlib.Path(FLAGS.report).read_text())
    found = rows(report, FLAGS.backbone)
    page, section = pathlib.Path(FLAGS.page), f"{report['dataset']} {FLAGS.backbone}"
    picture = page.with_name(f"{report['dataset']}_{FLAGS.backbone}.png")
    text = table(found)
    if all(row["latency"] is not None for row in found):
        draw(picture, found, f"{FLAGS.backbone} on {report['dataset']}")
        text += f"\n\n![NLL against latency]({picture.name})"
    marked_sections.fill(page, COMMAND, {section: text})


def _define_flags():
    flags.DEFINE_string("report", None, "the report.json of zoo evaluate", required=True)
    flags.DEFINE_string("backbone", None, "the backbone whose models are compared", required=True)
    flags.DEFINE_string("page", "docs/results.md", "the page with the marks of the section")


if __name__ == "__main__":
    _define_flags()
    start(main, "zoo.training.studies.method_table")
