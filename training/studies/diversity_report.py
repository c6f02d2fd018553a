"""The report of the BatchEnsemble study: means and deviations over seeds, as JSON and Markdown."""

import json
import os
import pathlib

import numpy as np

from zoo import files
from zoo.training.studies.diversity_runs import MODES, RANKS, batch_ensemble_name

# Tables: title, {figure: (heading, digits)}.
TABLES = {
    "On MNIST": {
        "accuracy": ("accuracy", 4),
        "member_accuracy": ("a member's accuracy", 4),
        "nll": ("NLL", 4),
        "ece": ("ECE", 4),
        "mutual_information": ("mutual information", 4),
        "disagreement": ("disagreement", 4),
        "normalized_disagreement": ("disagreement / error", 2),
        "pairwise_kl": ("pairwise KL", 3),
        "jensen_gap": ("Gibbs - ensemble NLL", 4),
    },
    "On Fashion-MNIST, which is out of distribution, and between members' weights": {
        "ood_mutual_information": ("mutual information", 3),
        "ood_disagreement": ("disagreement", 3),
        "ood_auroc_mutual_information": ("AUROC by mutual information", 3),
        "ood_auroc_entropy": ("AUROC by entropy", 3),
        "initial_weight_cosine": ("cosine of weights at the start", 3),
        "weight_cosine": ("cosine of weights", 3),
        "weight_distance": ("distance / norm of weights", 3),
    },
}
# What says how far from a single network, 0, towards a deep ensemble, 1, a configuration is.
SHARES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "disagreement": "disagreement",
    "ood_mutual_information": "OOD mutual information",
    "ood_auroc_entropy": "OOD AUROC by entropy",
}


def summarise(results: dict[str, list[dict]]) -> dict[str, dict]:
    """Average the results of each configuration over its seeds.

    Args:
        results: dict from configuration to the list of its runs' dicts.

    Returns:
        dict from configuration to {"seeds": n, "parameters": of the model, "figures": {figure: [mean,
        deviation]}}. Deviations are those of a sample, and 0 for one run. A figure that one run lacks is
        None.
    """
    summary = {}
    for name, runs in results.items():
        values = {key: [run["figures"][key] for run in runs] for key in runs[0]["figures"]}
        figures = {key: None if None in of else _mean_and_deviation(of) for key, of in values.items()}
        summary[name] = {"seeds": len(runs), "parameters": runs[0]["parameters"], "figures": figures}
    return summary


def _mean_and_deviation(values):
    return [float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0]


def share(summary: dict, name: str, figure: str) -> float | None:
    """Measure how far a configuration is on the way from a single network to a deep ensemble.

    Args:
        summary: dict from `summarise`.
        name: str, the configuration.
        figure: str, the figure to compare.

    Returns:
        (value - single) / (deep ensemble - single) of the means, where a single network's diversity is
        0; None if one of the three is missing, or single network and deep ensemble are equal.
    """
    if not {"single", "deep_ensemble", name} <= set(summary):
        return None
    means = (summary[n]["figures"][figure] for n in (name, "single", "deep_ensemble"))
    value, single, deep = (0.0 if mean is None else mean[0] for mean in means)
    return (value - single) / (deep - single) if deep != single else None


def markdown(summary: dict) -> str:
    """Write the tables of a summary.

    Args:
        summary: dict from `summarise`.

    Returns:
        str, Markdown.
    """
    return "\n\n".join([
        "Share of the way from a single network (0) to a deep ensemble (1), of means over seeds:",
        _shares_table(summary),
        *(f"{title}:\n\n{_table(summary, columns)}" for title, columns in TABLES.items()),
    ])  # fmt: skip


def _shares_table(summary):
    ends = [
        batch_ensemble_name(mode, initialiser, rank)
        for initialiser in ("normal", "signs", "ones")
        for mode in MODES
        for rank in (RANKS[0], RANKS[-1])
    ]
    names = [name for name in (*ends, "packed", "mimo") if name in summary]
    rows = [
        [f"`{name}`", *(_number(share(summary, name, figure), 2) for figure in SHARES)] for name in names
    ]
    return _rows(["configuration", *SHARES.values()], rows)


def _table(summary, columns):
    rows = []
    for name, of in summary.items():
        cells = (
            _mean(of["figures"][figure], digits, of["seeds"]) for figure, (_, digits) in columns.items()
        )
        rows.append([f"`{name}`", str(of["seeds"]), f"{of['parameters']:,}", *cells])
    return _rows(
        ["configuration", "seeds", "parameters", *(title for title, _ in columns.values())], rows
    )


def _rows(heads, rows):
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


def _mean(pair, digits, seeds):
    if pair is None:
        return ""
    return f"{pair[0]:.{digits}f}" + (f" ± {pair[1]:.{digits}f}" if seeds > 1 else "")


def write(folder: str | os.PathLike, summary: dict, settings: dict, seconds: float) -> str:
    """Write `report.json` and `report.md`.

    Args:
        folder: str or path of the folder of the report.
        summary: dict from `summarise`.
        settings: dict of what all runs have in common.
        seconds: float, CPU seconds of all runs together.

    Returns:
        str, the Markdown of the tables.
    """
    text = markdown(summary)
    facts = {"settings": settings, "cpu_seconds": round(seconds), "configurations": summary}
    files.replace(pathlib.Path(folder) / "report.json", json.dumps(facts, indent=1) + "\n")
    title = f"# Diversity of BatchEnsemble\n\n{_said(settings)}\n\n"
    picture = "![Diversity by rank](diversity.png)\n\n"
    files.replace(pathlib.Path(folder) / "report.md", f"{title}{picture}{text}\n")
    return text


def _said(settings):
    return "Settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + "."
