"""The tables of a report, and the text on how its figures were made: the same in every form."""

import dataclasses
from collections.abc import Iterator

from zoo.evaluation.scores import SCORES
from zoo.evaluation.verdict import Difference

_SUMMARY = ("accuracy", "nll", "brier", "ece", "aurc")
_TITLES = {
    "msp": "MSP", "entropy": "entropy", "mutual_information": "mutual information", "energy": "energy",
    "variance": "variance",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of numbers in a report.

    Args:
        section: str, the section of the report.
        caption: str.
        head: list of str, titles of the columns.
        rows: list of (name, values), with None for what is not known.
        better: list of "up", "down" or None, for each column after the first.
        stars: set of (row's name, column's title) whose value is the best of a backbone beyond noise.
            Default: none.
    """

    section: str
    caption: str
    head: list
    rows: list
    better: list
    stars: frozenset = frozenset()


def tables(results: dict) -> Iterator[Table]:
    """Generate all tables of a report, in order.

    Args:
        results: dict, what `evaluate` returns.

    Returns:
        An iterator over `Table`s.
    """
    models = results["models"]
    yield _summary(models)
    if any(model["against_single"] for model in models.values()):
        yield _against_single(models)
    yield _cost(results)
    yield _calibration(models)
    yield _figures("Selective prediction", "selective", models)
    yield from _ood(models)
    if results["corruption_kinds"]:
        yield from _corruptions(results)
    several = {label: m for label, m in models.items() if m["members"] > 1}
    if several:
        yield _figures("Diversity of the members", "diversity", several)


def _summary(models):
    head, better = [SCORES[key].title for key in _SUMMARY], [SCORES[key].better for key in _SUMMARY]
    rows = [(label, [m["figures"][key] for key in _SUMMARY]) for label, m in models.items()]
    if any(m["equivalent"] for m in models.values()):
        head, better = [*head, "DEE"], [*better, None]
        rows = [(label, [*values, _equivalent(models[label]["equivalent"])]) for label, values in rows]
    stars = _stars(models, _SUMMARY)
    return Table("Summary", "Quality on the test images", ["model", *head], rows, better, stars)


def _stars(models, keys):
    """(label, title) of the scores that are the best of their backbone beyond noise."""
    return frozenset(
        (label, SCORES[key].title) for label, m in models.items() for key in keys if key in m["best"]
    )


def _against_single(models):
    rows = []
    for label, m in models.items():
        if m["against_single"]:
            gaps = [Difference(**m["against_single"][key]) for key in _SUMMARY]
            rows.append((label, [*(gap.text() for gap in gaps)]))
    return Table(
        "Summary", "Difference from the single network of the backbone, and its 95 % interval",
        ["model", *(SCORES[key].title for key in _SUMMARY)], rows,
        [SCORES[key].better for key in _SUMMARY],
    )  # fmt: skip


def _equivalent(found):
    if found is None or found["networks"] is not None:
        return found and found["networks"]
    return f"> {found['of']}"


def _cost(results):
    head, better = ["members", "parameters", "MACs an image", "bytes stored"], [None, *["down"] * 3]
    keys, sizes = ("members", "parameters", "macs", "bytes"), results["latency_batch_sizes"]
    rows = [(label, [*(m[key] for key in keys), *(m["latency"][str(size)] for size in sizes)])
            for label, m in results["models"].items()]  # fmt: skip
    head += [f"ms, {size} image{'s' * (size > 1)}" for size in sizes]
    return Table("Summary", "Cost", ["model", *head], rows, [*better, *("down" for _ in sizes)])


def _figures(section, group, models):
    keys = [key for key, score in SCORES.items() if score.group == group]
    rows = [(label, [m["figures"][key] for key in keys]) for label, m in models.items()]
    head, better = [SCORES[key].title for key in keys], [SCORES[key].better for key in keys]
    return Table(section, section, ["model", *head], rows, better, _stars(models, keys))


def _calibration(models):
    plain = _figures("Calibration", "calibration", models)
    rows = [(label, [*values, *(models[label]["calibrated"][key] for key in ("temperature", "nll", "ece"))])
            for label, values in plain.rows]  # fmt: skip
    head = [*plain.head, "temperature", "NLL, scaled", "ECE, scaled"]
    return dataclasses.replace(plain, head=head, rows=rows, better=[*plain.better, None, "down", "down"])


def _ood(models):
    for place, one in enumerate(next(iter(models.values()))["ood"]):
        scores = list(one["scores"])
        yield Table(
            "Out of distribution",
            f"{one['name']} ({one['group']} OOD, {one['images']:,} images): AUROC by score, and AUPR and "
            "FPR95 by entropy",
            ["model", *(_TITLES[score] for score in scores), "AUPR", "FPR95"],
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


def _corruptions(results):
    models, kinds = results["models"], results["corruption_kinds"]
    means = {label: m["corruption_means"] for label, m in models.items()}
    rows = [
        (label, [mean[key]["mean"] for key in ("accuracy", "nll", "ece")])
        for label, mean in means.items()
    ]
    yield Table(
        "Corruptions", f"Corrupted images: mean of {len(kinds)} kinds and 5 severities",
        ["model", "accuracy", "NLL", "ECE"], rows, ["up", "down", "down"],
    )  # fmt: skip
    for key, title, way in (
        ("accuracy", "Accuracy", "up"),
        ("nll", "NLL", "down"),
        ("ece", "ECE", "down"),
    ):
        rows = [(kind.replace("_", " "), [mean[key]["kinds"][kind] for mean in means.values()])
                for kind in kinds]  # fmt: skip
        yield Table(
            "Corruptions", f"{title} by kind of corruption, mean of 5 severities", ["corruption", *models],
            rows, [way] * len(models),
        )  # fmt: skip


def protocol(results: dict) -> Iterator[str]:
    """Generate the sentences that say how a report's scores were measured.

    Args:
        results: dict, what `evaluate` returns.

    Returns:
        An iterator over strings.
    """
    models = results["models"]
    yield (
        "Every figure is of the mean of the members' probabilities, on the whole test split, from the weights "
        "as they are stored. ECE and MCE have 15 bins of equal width, adaptive ECE 15 of equal mass. "
        "Entropies, NLLs and mutual information are in nats."
    )
    yield (
        "Intervals: 95 %, from 1,000 bootstrap draws of the test images, the same draws for all models. They say "
        "how much depends on which images were tested, not on the seed of training. A star needs an interval of "
        "the difference to every other model of the backbone that excludes zero."
    )
    yield (
        "Scaled figures: the temperature of the averaged prediction is fitted on four fifths of the test images "
        "and measured on the other, in turn; the temperature shown is the mean."
    )
    yield from _equivalent_lines(results)
    if results["latency_conditions"]:
        yield (
            f"Latency: milliseconds of model.predict_on_batch, the median of up to "
            f"{results['latency_rounds']} rounds in which all models take turns in one process, after a "
            f"warm-up: {results['latency_conditions']}. MACs are counted from the layers, an image."
        )
    else:
        yield "Latency was not measured. MACs are counted from the layers, an image."
    yield _corruption_line(results)
    yield (
        "Out of distribution: an OOD image is the positive class; FPR95 is the share of test images flagged "
        "where 95 % of OOD images are. MSP is 1 - the highest probability; energy is the mean of the members'; "
        "variance is that of the members' probabilities. Images are brought to the model's size and channels."
    )
    shown = [one["name"] for one in next(iter(models.values()))["ood"]]
    if results["dataset"].startswith("cifar") and any(name.startswith("cifar") for name in shown):
        yield (
            "CIFAR-10 and CIFAR-100 have no class of one name in common, but some alike (automobile and "
            "pickup truck, dog and wolf): they are kept, as in OpenOOD."
        )
    for name, reason in results["missing"].items():
        yield f"Missing: {name} was not evaluated: {reason}."
    seeds = ", ".join(f"{label} {m['seed']}" for label, m in models.items())
    yield f"Training seeds: {seeds}. One seed a model says nothing about the spread between trainings."


def _equivalent_lines(results):
    if any(m["equivalent"] for m in results["models"].values()):
        yield (
            "DEE, the deep-ensemble equivalent: how many independently trained networks of the same backbone "
            "have the model's NLL, both after temperature scaling; sizes between are interpolated."
        )
    for backbone, reason in results["missing_equivalents"].items():
        yield f"Missing: the deep-ensemble equivalent of the {backbone} models: {reason}."


def _corruption_line(results):
    count = len(results["corruption_kinds"])
    if not count:
        return "Not measured: corrupted images were not requested."
    images = (
        f"{results['corrupted_images']:,} test images drawn by a fixed seed, the same for every model"
    )
    if results["corruption_source"] == "published":
        return f"Corruptions: {images}, from the published files of CIFAR-10-C, {count} kinds at 5 severities."
    absent = results["corruptions_not_published"]
    why = f" The published files are not in the data folder ({absent})." if absent else ""
    return (
        f"Corruptions: {count} kinds of CIFAR-10-C at 5 severities, made on the fly from {images}; frost is "
        f"drawn procedurally, so figures are not those of the published files.{why}"
    )
