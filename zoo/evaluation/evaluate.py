"""`zoo evaluate`: several models side by side on one data set, its corruptions and OOD images."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from zoo import files, latency
from zoo.data import arrays
from zoo.errors import one_line
from zoo.evaluation import corruptions, ood, preflight, verdict
from zoo.evaluation.corrupted_sets import CorruptedSets, means
from zoo.evaluation.disputed import names_of_classes
from zoo.evaluation.equivalents import equivalents
from zoo.evaluation.report import write_html, write_markdown
from zoo.evaluation.scores import calibrated_scores, curves, quick_scores, scores
from zoo.progress import bars
from zoo.uncertainty import Prediction


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The data that a report's pictures are drawn from.

    Args:
        images: uint8 array (N, H, W, C), the test images.
        labels: int array (N,), their labels.
        predictions: {model: its `Prediction` of the test images}.
        entropies: {model: {OOD set: entropies (N',) in nats}}.
        class_names: {model: K strings, or None for classes without names}. Default: no names.
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: dict
    entropies: dict
    class_names: dict = dataclasses.field(default_factory=dict)


def evaluate(
    names: Sequence[str],
    dataset: str,
    data_dir: Any,
    report: Any,
    corrupted: int = 1000,
    progress: bool = True,
    *,
    rounds: int = 20,
    kinds: Sequence[str] = corruptions.CORRUPTIONS,
) -> dict:
    """Evaluate models side by side and write `report.json`, `report.md` and `report.html`.

    Predictions are cached in `report/cache` by the hashes of weights and images: adding a model
    evaluates only that model. Latencies are measured anew, all models side by side.

    Args:
        names: models' names or folders of runs, trained on `dataset`.
        dataset: str, one of `zoo.evaluation.ood.PROTOCOLS`.
        data_dir: str or path of the data sets.
        report: str or path of the folder to write to.
        corrupted: int >= 0, test images, drawn with a fixed seed, that are corrupted by every kind at 5
            severities: the published files of CIFAR-10-C if `data_dir` has them all, else made on the
            fly; 0 leaves corruptions out. Default: 1000.
        progress: bool, whether to show progress on stderr. Default: True.
        rounds: int >= 0, timed calls of each model and batch size; 0 measures no latency. Default: 20.
        kinds: names of corruptions. Default: all.

    Returns:
        The dictionary that `report.json` holds.

    Raises:
        ValueError: for an unknown data set, model or corruption, a model that takes images of another
            shape, a number of images or rounds < 0, files that cannot be read, or predictions that are
            not finite. Where a later part fails, the report is written with all others first.
        FileNotFoundError: if the data set's test split or a folder is not there.
    """
    _check_kinds(kinds)
    data_dir = pathlib.Path(data_dir).expanduser().absolute()
    models = preflight.check(names, dataset, data_dir, report, corrupted, rounds)
    folder, sets = pathlib.Path(report), ood.PROTOCOLS[dataset]
    test = arrays.load(dataset, "test", data_dir)
    _check(models, test)
    source = CorruptedSets.of(dataset, data_dir, test, corrupted, kinds)
    folder.mkdir(parents=True, exist_ok=True)
    total = len(models) * (1 + len(sets) + 5 * len(source.kinds)) + bool(rounds)
    with _Progress(total, progress) as step:
        logits = {model.label: step(model.label, dataset, model.logits, test.images) for model in models}
        predictions = {label: _prediction(values) for label, values in logits.items()}
        part = _Parts()
        labels = [model.label for model in models]
        outside, entropies = part(
            "out of distribution", _out_of_distribution, models, logits, dataset, data_dir, step
        ) or ({label: [] for label in labels}, {label: {} for label in labels})
        corrupted_scores = part("corruptions", _corrupted, models, source, step)
        if corrupted_scores is None:
            source = dataclasses.replace(source, kinds=())
            corrupted_scores = {label: {} for label in labels}
        times = {}
        if rounds:
            times = part(
                "latency", step, "all models", "latency", _latencies, models, test.images, rounds
            )
    results = {
        "dataset": dataset,
        "images": len(test),
        **source.record(),
        **_latency_record(rounds if times else 0),
        "missing": {one["name"]: one["missing"] for one in outside[models[0].label] if one["missing"]},
        **_figures(models, predictions, test.labels),
    }
    for label, model in results["models"].items():
        model["latency"] = (times or {}).get(label, {})
        model["ood"] = [one for one in outside[label] if not one["missing"]]
        model["corruptions"], model["corruption_means"] = (
            corrupted_scores[label],
            means(corrupted_scores[label]),
        )
    results = finite(results)
    files.replace(folder / "report.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    class_names = {model.label: names_of_classes(model.config, test, dataset) for model in models}
    evidence = Evidence(test.images, test.labels, predictions, entropies, class_names)
    part("report.md", write_markdown, results, folder / "report.md")
    part("report.html", write_html, results, evidence, folder / "report.html")
    part.tell(folder)
    return results


def finite(results: Any) -> Any:
    """Return results with None for NaN and infinite numbers, which JSON does not have.

    For example, a model that is always right has no errors to divide by.

    Args:
        results: nested dictionaries and lists.

    Returns:
        The same, with lists for tuples.

    Example:
        >>> finite({"a": [1.5, float("nan")], "b": (float("inf"), "c")})
        {'a': [1.5, None], 'b': [None, 'c']}
    """
    if isinstance(results, dict):
        return {key: finite(value) for key, value in results.items()}
    if isinstance(results, (list, tuple)):
        return [finite(value) for value in results]
    return None if isinstance(results, float) and not math.isfinite(results) else results


class _Parts:
    """Parts of a report, of which one may fail and leave the others."""

    def __init__(self):
        self._failed = {}

    def __call__(self, name, function, *arguments):
        """The part, or None if it failed."""
        try:
            return function(*arguments)
        except Exception as error:
            self._failed[name] = one_line(error)
            return None

    def tell(self, folder):
        """ValueError with one line if a part failed."""
        if self._failed:
            said = "; ".join(f"{name} failed ({why})" for name, why in self._failed.items())
            raise ValueError(f"{said}; {folder} has all other parts, and the same command does the rest")


def _check_kinds(kinds):
    unknown = [kind for kind in kinds if kind not in corruptions.CORRUPTIONS]
    if unknown or not kinds:
        raise ValueError(
            f"no corruption {unknown[0]!r}; there are {', '.join(corruptions.CORRUPTIONS)}"
            if unknown else "kinds names no corruption; corrupted=0 leaves corruptions out"
        )  # fmt: skip


def _check(models, test):
    if not len(test) or len(test.images) != len(test):
        raise ValueError(
            f"the test split has {len(test.images)} images and {len(test)} labels; it must have as many of "
            "both, and at least one"
        )
    if test.images.dtype != np.uint8:
        raise ValueError(f"the test images must be uint8 in [0, 255]; got dtype {test.images.dtype}")
    if test.labels.min() < 0:
        raise ValueError(f"labels must be >= 0; the test split has {test.labels.min()}")
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


def _figures(models, predictions, labels):
    """What is measured on the test split: {"models": {label: scores}, "missing_equivalents"}."""
    calibrated = {label: calibrated_scores(given, labels) for label, given in predictions.items()}
    worth, missing = equivalents(models, predictions, calibrated, labels)
    compared = verdict.compare({model.label: model.name for model in models}, predictions, labels)
    return {
        "missing_equivalents": missing,
        "models": {
            model.label: {
                **_cost(model),
                "figures": scores(predictions[model.label], labels),
                "calibrated": calibrated[model.label],
                **compared[model.label],
                "equivalent": worth[model.label],
                "curves": curves(predictions[model.label], labels),
            }
            for model in models
        },
    }


def _cost(model):
    config = model.config
    steps = config.get("steps_per_epoch")  # None where it was not trained by a recipe
    return {
        "name": model.name,
        "members": config["num_members"],
        "parameters": config["parameters"],
        "macs": config["macs"],
        "bytes": sum(file["bytes"] for file in config["files"].values()),
        "seed": config["recipe"]["seed"],
        "updates": steps * config["recipe"]["epochs"] if steps else None,
        "weights": model.fingerprint,
    }


def _latency_record(rounds):
    return {
        "latency_rounds": rounds,
        "latency_batch_sizes": list(latency.BATCH_SIZES) if rounds else [],
        "latency_conditions": latency.conditions() if rounds else None,
    }


def _out_of_distribution(models, logits, dataset, data_dir, step):
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


def _corrupted(models, source, step):
    """{label: {kind: five dictionaries of scores, severity 1 to 5}}."""
    results = {model.label: {} for model in models}
    for kind, severity, images, labels in source:
        for model in models:
            given = _prediction(step(model.label, f"{kind} {severity}", model.logits, images))
            results[model.label].setdefault(kind, []).append(quick_scores(given, labels))
    return results


def _latencies(models, images, rounds):
    """{label: {batch size as in JSON: milliseconds}}."""
    measured = latency.latencies(
        {model.label: model.model for model in models}, images[: max(latency.BATCH_SIZES)], rounds
    )
    return {label: {str(size): ms for size, ms in times.items()} for label, times in measured.items()}


class _Progress:
    """One bar for all predictions: `step(label, what, function, ...)` runs one and moves it on."""

    def __init__(self, total, shown):
        self._bar = bars(shown)
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
