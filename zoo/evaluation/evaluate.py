"""`zoo evaluate`: several models side by side on one data set, its corruptions and what is foreign to it."""

import dataclasses
import json
import pathlib

import numpy as np
from scipy.special import softmax

from zoo.evaluation import corruptions, ood
from zoo.evaluation.figures import calibrated_figures, curves, figures, quick_figures
from zoo.evaluation.report import write_html, write_markdown
from zoo.evaluation.subjects import subjects
from zoo.uncertainty import Prediction


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What pictures are drawn from: the test split, and for each model its prediction of it and the
    entropies of the OOD sets it was shown, {name: (N,)}."""

    images: np.ndarray
    labels: np.ndarray
    predictions: dict
    entropies: dict


def evaluate(names, dataset, data_dir, report, corrupted=1000, progress=True):
    """Evaluate models and write `report.json`, `report.md` and `report.html`.

    Each model predicts each set of images once; predictions are kept in `report/cache` by the hashes of
    weights and images, so that a model added later costs its own predictions alone.

    Args:
        names: models' names or folders of runs, trained on `dataset`.
        dataset: one of `zoo.evaluation.ood.PROTOCOLS`.
        data_dir: folder of the data sets.
        report: folder to write to.
        corrupted: test images, drawn by a fixed seed, that are corrupted in 15 ways at 5 severities; 0
            leaves corruptions out.
        progress: whether to show progress on stderr.

    Returns:
        What `report.json` holds.

    Raises:
        ValueError: for an unknown data set or model, one that takes images of another shape, a number of
            images < 0, or predictions that are not finite.
        FileNotFoundError: where the data set's test split or a folder is not there.
    """
    from zoo.training import data

    sets = ood.PROTOCOLS.get(dataset)
    if sets is None:
        raise ValueError(f"unknown data set {dataset!r}; there are {', '.join(ood.PROTOCOLS)}")
    if corrupted < 0:
        raise ValueError(f"corrupted is a number of images >= 0; got {corrupted}")
    folder = pathlib.Path(report)
    models = subjects(names, dataset, folder / "cache")
    test = data.load(dataset, "test", data_dir)
    _check(models, test)
    folder.mkdir(parents=True, exist_ok=True)
    with _Progress(len(models) * (1 + len(sets) + 75 * bool(corrupted)), progress) as step:
        logits = {model.label: step(model.label, dataset, model.logits, test.images) for model in models}
        predictions = {label: _prediction(values) for label, values in logits.items()}
        foreign, entropies = _foreign(models, logits, dataset, data_dir, step)
        spoilt = _corrupted(models, test, corrupted, step)
    results = {
        "dataset": dataset,
        "images": len(test),
        "corrupted_images": min(corrupted, len(test)),
        "missing": {one["name"]: one["missing"] for one in foreign[models[0].label] if one["missing"]},
        "models": {
            model.label: {
                **_cost(model),
                "figures": figures(predictions[model.label], test.labels),
                "calibrated": calibrated_figures(predictions[model.label], test.labels),
                "curves": curves(predictions[model.label], test.labels),
                "ood": [one for one in foreign[model.label] if not one["missing"]],
                "corruptions": spoilt[model.label],
            }
            for model in models
        },
    }
    (folder / "report.json").write_text(json.dumps(results, indent=1) + "\n")
    write_markdown(results, folder / "report.md")
    write_html(
        results, Evidence(test.images, test.labels, predictions, entropies), folder / "report.html"
    )
    return results


def _check(models, test):
    for model in models:
        if model.input_shape != test.images.shape[1:]:
            raise ValueError(
                f"{model.label} takes images {model.input_shape}; the test images are {test.images.shape[1:]}"
            )
        if test.labels.max() >= model.config["spec"]["num_classes"]:
            raise ValueError(
                f"{model.label} has {model.config['spec']['num_classes']} classes; the labels go to "
                f"{test.labels.max()}"
            )


def _prediction(logits):
    return Prediction(softmax(logits.astype("float64"), axis=-1))


def _cost(model):
    config = model.config
    return {
        "name": model.name,
        "members": config["num_members"],
        "parameters": config["parameters"],
        "macs": config["macs"],
        "bytes": sum(file["bytes"] for file in config["files"].values()),
        "seed": config["recipe"]["seed"],
        "weights": model.fingerprint,
    }


def _foreign(models, logits, dataset, data_dir, step):
    """({label: results of `ood.detect`}, {label: {set: entropies}})."""
    results, entropies = {model.label: [] for model in models}, {model.label: {} for model in models}
    for one in ood.ood_sets(dataset, models[0].input_shape, data_dir):
        for model in models:

            def predict(images, model=model, name=one.name):
                theirs = step(model.label, name, model.logits, images)
                entropies[model.label][name] = _prediction(theirs).entropy
                return theirs

            results[model.label] += ood.detect(logits[model.label], [one], predict)
            if one.missing:
                step.skip()
    return results, entropies


def _corrupted(models, test, count, step):
    """{label: {kind: five dictionaries of figures, severity 1 to 5}}."""
    results = {model.label: {} for model in models}
    if not count:
        return results
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:count])
    images, labels = test.images[rows], test.labels[rows]
    for kind, severity, spoilt in corruptions.corruptions(images):
        for model in models:
            given = _prediction(step(model.label, f"{kind} {severity}", model.logits, spoilt))
            results[model.label].setdefault(kind, []).append(quick_figures(given, labels))
    return results


class _Progress:
    """One bar for all predictions: `step(label, what, function, ...)` runs one and moves it on."""

    def __init__(self, total, shown):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn(""), *columns, console=Console(stderr=True), disable=not shown)
        self._task = self._bar.add_task("evaluating", total=total)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def __call__(self, label, what, function, *arguments):
        self._bar.update(self._task, description=f"{label}: {what}")
        result = function(*arguments)
        self._bar.advance(self._task)
        return result

    def skip(self):
        self._bar.advance(self._task)
