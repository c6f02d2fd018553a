"""The report of `zoo evaluate`, in Markdown and as one HTML page."""

import numpy as np

from zoo.evaluation import charts
from zoo.evaluation.charts import Axes, Series
from zoo.evaluation.figures import FIGURES
from zoo.evaluation.page import figures_table, grid, number, page, paragraph, pictures

COST = (("members", None), ("parameters", "down"), ("macs", "down"))
_SUMMARY = ("accuracy", "nll", "brier", "ece", "aurc")


def write_markdown(results, path):
    """Tables of everything in `report.json` but curves and single corruptions."""
    lines = [f"# {_title(results)}", "", _subtitle(results), ""]
    for caption, head, rows, better in _tables(results):
        arrows = {"up": " ↑", "down": " ↓", None: ""}
        titles = [head[0], *(name + arrows[way] for name, way in zip(head[1:], better))]
        lines += [f"## {caption}", "", f"| {' | '.join(titles)} |", "|---|" + "--:|" * len(better)]
        lines += [f"| {name} | {' | '.join(map(number, values))} |" for name, values in rows]
        lines.append("")
    lines += ["## Protocol", "", *(f"* {line}" for line in _protocol(results))]
    path.write_text("\n".join(lines) + "\n")


def write_html(results, evidence, path):
    """The page with all charts and pictures."""
    html = {caption: figures_table(caption, head, rows, better)
            for caption, head, rows, better in _tables(results)}  # fmt: skip
    index = {label: i for i, label in enumerate(results["models"])}
    sections = [
        ("Summary", html.pop("Summary") + _cost_charts(results, index)),
        ("Calibration", html.pop("Calibration") + _reliability(results, index)),
        ("Selective prediction", html.pop("Selective prediction") + _risk_coverage(results, index)),
        ("Out of distribution", _ood(html, evidence, results)),
        ("Corruptions", _corruptions(html, results, index)),
        ("Diversity of the members", html.pop("Diversity of the members", "") + _matrices(results)),
        ("Images that the members disagree on most", _disputed(evidence)),
        ("Protocol", "".join(map(paragraph, _protocol(results)))),
    ]
    sections = [(heading, body) for heading, body in sections if body]
    path.write_text(page(_title(results), _subtitle(results), sections))


def _title(results):
    return f"Evaluation on {results['dataset']}"


def _subtitle(results):
    return f"{len(results['models'])} models, {results['images']:,} test images each"


def _tables(results):
    """(caption, head, rows, better) of every table."""
    models = results["models"]
    keys = [key for key in _SUMMARY if key in FIGURES]
    yield (
        "Summary",
        ["model", *(key for key, _ in COST), *(FIGURES[key].title for key in keys)],
        [(label, [*(m[key] for key, _ in COST), *(m["figures"][key] for key in keys)])
         for label, m in models.items()],
        [*(way for _, way in COST), *(FIGURES[key].better for key in keys)],
    )  # fmt: skip
    for caption, group in (
        ("Calibration", "calibration"),
        ("Selective prediction", "selective"),
        ("Diversity of the members", "diversity"),
    ):
        keys = [key for key, figure in FIGURES.items() if figure.group == group]
        shown = {label: m for label, m in models.items() if group != "diversity" or m["members"] > 1}
        if not shown:
            continue
        head, better = [FIGURES[key].title for key in keys], [FIGURES[key].better for key in keys]
        rows = [(label, [m["figures"][key] for key in keys]) for label, m in shown.items()]
        if group == "calibration":
            extra = ("temperature", "nll", "ece")
            head += ["temperature", "NLL, scaled", "ECE, scaled"]
            better += [None, "down", "down"]
            rows = [(label, [*values, *(models[label]["calibrated"][key] for key in extra)])
                    for label, values in rows]  # fmt: skip
        yield caption, ["model", *head], rows, better
    yield from _ood_tables(models)
    yield from _corruption_tables(models)


def _ood_tables(models):
    first = next(iter(models.values()))
    for place, one in enumerate(first["ood"]):
        scores = list(one["scores"])
        yield (
            f"{one['name']} ({one['group']} OOD): AUROC by score, AUPR and FPR95 by entropy",
            ["model", *scores, "AUPR", "FPR95"],
            [(label, [*(_auroc(m, place, score) for score in scores),
                      *(m["ood"][place]["scores"]["entropy"][key] for key in ("aupr", "fpr95"))])
             for label, m in models.items()],
            [*("up" for _ in scores), "up", "down"],
        )  # fmt: skip


def _auroc(model, place, score):
    """None where the score is the same for every image: one member disagrees with nobody."""
    if model["members"] == 1 and score in ("mutual_information", "variance"):
        return None
    return model["ood"][place]["scores"][score]["auroc"]


def _corruption_tables(models):
    kinds = list(next(iter(models.values()))["corruptions"])
    if not kinds:
        return
    rows = []
    for label, m in models.items():
        mean = {key: np.mean([[s[key] for s in m["corruptions"][kind]] for kind in kinds])
                for key in ("accuracy", "nll", "ece")}  # fmt: skip
        rows.append((label, [float(value) for value in mean.values()]))
    yield ("Corrupted images: mean of 15 kinds and 5 severities", ["model", "accuracy", "NLL", "ECE"], rows,
           ["up", "down", "down"])  # fmt: skip
    rows = [(label, [float(np.mean([s["accuracy"] for s in m["corruptions"][kind]])) for kind in kinds])
            for label, m in models.items()]  # fmt: skip
    yield ("Accuracy by corruption", ["model", *(kind.replace("_", " ") for kind in kinds)], rows,
           ["up"] * len(kinds))  # fmt: skip


def _cost_charts(results, index):
    shown = []
    for key, title in (("accuracy", "Accuracy"), ("nll", "NLL")):
        series = [Series(label, np.array([m["macs"]]), np.array([m["figures"][key]]), index[label])
                  for label, m in results["models"].items()]  # fmt: skip
        axes = Axes("multiply-accumulates an image", title, log_x=True)
        shown.append(charts.scatter_chart(f"{title} against cost", axes, series))
    return grid(shown)


def _reliability(results, index):
    axes = Axes("confidence", "accuracy", (0, 1), (0, 1))
    return grid(
        charts.line_chart(
            f"Reliability of {label}: ECE {m['figures']['ece']:.4f}", axes,
            [Series(label, *map(np.array, m["curves"]["reliability"]), index[label])],
            diagonal=True, markers=True,
        )
        for label, m in results["models"].items()
    )  # fmt: skip


def _risk_coverage(results, index):
    series = [Series(label, *map(np.array, m["curves"]["risk_coverage"]), index[label])
              for label, m in results["models"].items()]  # fmt: skip
    axes = Axes("coverage: share of images answered", "risk: share of errors among them", (0, 1))
    return paragraph(
        "A model that may decline answers its most confident images first: how often is it wrong?"
    ) + grid([charts.line_chart("Risk against coverage", axes, series)])


def _ood(html, evidence, results):
    tables = "".join(html[caption] for caption in html if " OOD): " in caption)
    if not tables:
        return paragraph("None of the OOD sets was there; see the protocol.")
    shown = []
    for label, entropies in evidence.entropies.items():
        groups = [Series(results["dataset"], evidence.predictions[label].entropy, None, 0)]
        groups += [
            Series(name, values, None, i) for i, (name, values) in enumerate(entropies.items(), 1)
        ]
        shown.append(
            charts.histogram_chart(f"Entropy under {label}", "predictive entropy, nats", groups)
        )
    return tables + grid(shown)


def _corruptions(html, results, index):
    tables = "".join(html[caption] for caption in html if "orrupt" in caption)
    if not tables:
        return ""
    shown = []
    for key, title in (("accuracy", "Accuracy"), ("nll", "NLL"), ("ece", "ECE")):
        series = []
        for label, m in results["models"].items():
            means = np.mean([[s[key] for s in row] for row in m["corruptions"].values()], axis=0)
            clean = m["figures"][key]
            series.append(Series(label, np.arange(6.0), np.r_[clean, means], index[label]))
        axes = Axes("severity (0: the clean test images)", title, (0, 5))
        shown.append(charts.line_chart(f"{title} by severity", axes, series, markers=True))
    return tables + grid(shown)


def _matrices(results):
    return grid(
        charts.matrix_chart(f"{label}: share of images on which two members differ",
                            m["curves"]["disagreement"])
        for label, m in results["models"].items() if m["members"] > 1
    )  # fmt: skip


def _disputed(evidence, count=12):
    html = ""
    for label, prediction in evidence.predictions.items():
        if prediction.members.shape[1] < 2:
            continue
        rows = np.argsort(-prediction.mutual_information, kind="stable")[:count]
        votes = prediction.members[rows].argmax(axis=-1)
        items = [
            (evidence.images[i], f"label {evidence.labels[i]}; members say {', '.join(map(str, vote))}")
            for i, vote in zip(rows, votes)
        ]
        html += f"<h3>{label}</h3>" + pictures(items)
    return html


def _protocol(results):
    yield (
        "Every figure is of the mean of the members' probabilities, on the whole test split, from the weights "
        "as they are stored. ECE and MCE have 15 bins of equal width, adaptive ECE 15 of equal mass."
    )
    yield (
        "Scaled figures: the temperature of the averaged prediction is fitted on four fifths of the test images "
        "and measured on the other, in turn; the temperature shown is the mean."
    )
    if results["corrupted_images"]:
        yield (
            f"Corruptions: the 15 kinds of CIFAR-10-C at 5 severities, made from {results['corrupted_images']:,} "
            "test images drawn by a fixed seed, the same for every model. Frost is made procedurally, so these "
            "are not the published files."
        )
    yield (
        "Out of distribution: an OOD image is the positive class; FPR95 is the share of test images flagged "
        "where 95 % of OOD images are. Images are brought to the model's size and channels. Classes that "
        "CIFAR-100 shares with CIFAR-10 are kept, as in OpenOOD."
    )
    for name, reason in results["missing"].items():
        yield f"Missing: {name} was not evaluated: {reason}."
    seeds = ", ".join(f"{label} {m['seed']}" for label, m in results["models"].items())
    yield f"Training seeds: {seeds}. One seed a model says nothing about the spread between trainings."
