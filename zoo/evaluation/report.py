"""The report of `zoo evaluate`, in Markdown and as one HTML page."""

import pathlib
from typing import Any

import numpy as np

from zoo.evaluation import charts
from zoo.evaluation.disputed import disputed
from zoo.evaluation.page import figures_table, grid, number, page, paragraph
from zoo.evaluation.svg import Axes, Series
from zoo.evaluation.tables import protocol, tables
from zoo.evaluation.verdict import sentences

_LEADS = {
    "Summary": (
        "An arrow shows which direction is better. A star marks a score that is better than that of every other "
        "model of the same backbone, beyond the noise of these test images."
    ),
    "Calibration": (
        "Is a model that is 80 % confident right 80 % of the time? Scaled figures are after temperature scaling of "
        "the averaged prediction."
    ),
    "Selective prediction": (
        "A model that may abstain answers its most confident images first: how often is it wrong?"
    ),
    "Out of distribution": (
        "Out-of-distribution (OOD) images belong to none of the model's classes. The closer a score's "
        "AUROC is to 1, the better it separates them from test images."
    ),
    "Corruptions": "The test images, corrupted: how much accuracy is lost, and does the uncertainty rise?",
    "Diversity of the members": (
        "How much the members differ on the test images. More is not better by itself, but members that "
        "never differ are one network."
    ),
}


def write_markdown(results: dict, path: pathlib.Path) -> None:
    """Write the tables of `report.json`, without curves and single corruptions, as Markdown.

    Args:
        results: dict, what `evaluate` returns.
        path: path of the file.
    """
    verdicts = sentences(results["models"], results["images"])
    lines, section = [f"# {_title(results)}", ""], None
    lines += [line for sentence in verdicts for line in (sentence, "")] + [_subtitle(results), ""]
    for table in tables(results):
        if table.section != section:
            section = table.section
            lines += [f"## {section}", ""]
        if table.caption != section:
            lines += [f"{table.caption}:", ""]
        arrows = {"up": " ↑", "down": " ↓", None: ""}
        titles = [
            table.head[0],
            *(name + arrows[way] for name, way in zip(table.head[1:], table.better)),
        ]
        lines += [f"| {' | '.join(titles)} |", "|---|" + "--:|" * len(table.better)]
        for name, values in table.rows:
            stars = (" ★" if (name, title) in table.stars else "" for title in table.head[1:])
            cells = [f"{number(value)}{star}" for value, star in zip(values, stars)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Protocol", "", *(f"* {line}" for line in protocol(results))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_html(results: dict, evidence: Any, path: pathlib.Path) -> None:
    """Write the page with all tables, charts and pictures.

    Args:
        results: dict, what `evaluate` returns.
        evidence: an `Evidence`.
        path: path of the file.
    """
    index = {label: i for i, label in enumerate(results["models"])}
    html = dict.fromkeys(
        ("Summary", "Calibration", "Selective prediction", "Out of distribution", "Corruptions",
         "Diversity of the members"), "",
    )  # fmt: skip
    for table in tables(results):
        html[table.section] += figures_table(table)
    drawn = {
        "Summary": _cost_charts(results, index),
        "Calibration": _reliability(results, index),
        "Selective prediction": _risk_coverage(results, index),
        "Out of distribution": _entropies(evidence, results),
        "Corruptions": _severities(results, index),
        "Diversity of the members": _matrices(results),
    }
    html["Out of distribution"] = html["Out of distribution"] or paragraph(
        "There are no results on other data sets; see the protocol."
    )
    sections = [(heading, paragraph(_LEADS[heading]) + shown + drawn[heading])
                for heading, shown in html.items() if shown]  # fmt: skip
    photographs = disputed(evidence)
    if photographs:
        sections.insert(0, ("Images that the members disagree on most", photographs))
    sections.append(("Protocol", "".join(map(paragraph, protocol(results)))))
    verdicts = sentences(results["models"], results["images"])
    path.write_text(page(_title(results), _subtitle(results), sections, verdicts), encoding="utf-8")


def _title(results):
    return f"Evaluation on {results['dataset']}"


def _subtitle(results):
    models = len(results["models"])
    return f"{models} model{'s' * (models > 1)}, {results['images']:,} test images each"


def _cost_charts(results, index):
    """Accuracy and NLL against counted and, where it was, measured cost."""
    costs = [("multiply-accumulates an image, counted", lambda m: m["macs"])]
    if results["latency_batch_sizes"]:
        size = results["latency_batch_sizes"][-1]
        costs.append((f"milliseconds for {size} images, measured", lambda m: m["latency"][str(size)]))
    shown = []
    for cost, value in costs:
        for key, title in (("accuracy", "Accuracy"), ("nll", "NLL")):
            series = [Series(label, np.array([value(m)]), np.array([m["figures"][key]]), index[label])
                      for label, m in results["models"].items()]  # fmt: skip
            caption = f"{title} against {cost.split(' ')[0]}"
            shown.append(charts.scatter_chart(caption, Axes(cost, title, log_x=True), series))
    return grid(shown)


def _reliability(results, index):
    axes = Axes("confidence", "accuracy", (0, 1), (0, 1))
    return grid(
        charts.reliability_chart(
            f"Reliability of {label}: ECE {m['figures']['ece']:.4f}", axes,
            Series(label, *map(np.array, m["curves"]["reliability"]), index[label]),
            m["curves"]["reliability_counts"],
        )
        for label, m in results["models"].items()
    )  # fmt: skip


def _risk_coverage(results, index):
    series = [Series(label, *map(np.array, m["curves"]["risk_coverage"]), index[label])
              for label, m in results["models"].items()]  # fmt: skip
    axes = Axes("coverage: share of images answered", "risk: share of errors among them", (0, 1))
    return grid([charts.line_chart("Risk against coverage", axes, series)])


def _entropies(evidence, results):
    drawn = {}
    for label, entropies in evidence.entropies.items():
        groups = [Series(results["dataset"], evidence.predictions[label].entropy, None, 0)]
        groups += [
            Series(name, values, None, i) for i, (name, values) in enumerate(entropies.items(), 1)
        ]
        drawn[f"Entropy under {label}"] = groups
    return grid(charts.histogram_charts(drawn, "predictive entropy, nats"))


def _severities(results, index):
    shown = []
    for key, title in (("accuracy", "Accuracy"), ("nll", "NLL"), ("ece", "ECE")):
        series = []
        for label, m in results["models"].items():
            means = m["corruption_means"][key]["severities"] if m["corruption_means"] else {}
            y = np.r_[m["figures"][key], list(means.values())]
            series.append(Series(label, np.arange(float(len(y))), y, index[label]))
        axes = Axes("severity (0: the clean test images)", title, (0, 5))
        shown.append(charts.line_chart(f"{title} by severity", axes, series, markers=True))
    return grid(shown)


def _matrices(results):
    several = {label: m for label, m in results["models"].items() if m["members"] > 1}
    top = max((np.max(m["curves"]["disagreement"]) for m in several.values()), default=None)
    return grid(
        charts.matrix_chart(f"{label}: share of images on which two members differ",
                            m["curves"]["disagreement"], top)
        for label, m in several.items()
    )  # fmt: skip
