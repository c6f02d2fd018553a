"""`zoo predict`: classify photographs, and mark those that a person should check."""

from __future__ import annotations

import csv
import pathlib
import sys
from typing import Any

from zoo.command_errors import printable
from zoo.commands import arguments
from zoo.deciding import Threshold, threshold
from zoo.uncertainty import Prediction, predict_images

ANSWER, ASK = "answer", "ask a person"


def add_arguments(command: Any) -> None:
    """Add the arguments of `zoo predict` to a parser.

    Args:
        command: an `argparse.ArgumentParser`.
    """
    command.add_argument("name", metavar="NAME", help="a model's name, a .keras file or hf://owner/name")
    command.add_argument("paths", nargs="+", metavar="PATH", help="images and folders of images")
    command.add_argument("--weights", default="default", help="a data set's name or a folder")
    command.add_argument(
        "--resize",
        choices=("crop", "squash"),
        help="how to resize images to the model's size; by default as the model does",
    )
    command.add_argument(
        "--threshold", type=float, nargs="?", const=0.95, metavar="T",
        help="answer at this confidence or above, else ask a person; 0.95 without a value",
    )  # fmt: skip
    command.add_argument(
        "--labelled", metavar="FOLDER",
        help="find the threshold on these photographs, in a subfolder for each class",
    )  # fmt: skip
    command.add_argument(
        "--accuracy", type=float, default=0.95, help="with --labelled: how often answers must be right"
    )
    command.add_argument("--csv", metavar="FILE", help="write the table to a file")
    command.add_argument(
        "--html", metavar="FILE", help="write a page of thumbnails, least certain first"
    )


def run(options: Any) -> int:
    """Run `zoo predict`.

    Args:
        options: the parsed arguments of `add_arguments`.

    Returns:
        The exit status: 0, or 1 if some files could not be read.

    Raises:
        ValueError: for a threshold outside [0, 1], an accuracy outside (0, 1), or labelled photographs
            of other classes.
        FileNotFoundError: for a path that does not exist.
    """
    _check(options)
    model = _model(options)
    source = arguments.images_of(model, options.paths)
    source.skips = True
    prediction = predict_images(model, source, progress=None if sys.stderr.isatty() else False)
    found = _threshold(model, options)
    decisions = None
    if found is not None and len(prediction):
        decisions = [ANSWER if sure else ASK for sure in found.answers(prediction)]
    rows = table(prediction, decisions)
    _print(rows)
    if found is not None and options.labelled:
        print(found)
    if options.csv:
        _write_csv(rows, options.csv)
    if options.html and rows:
        from zoo.commands.prediction_page import write

        write(prediction, decisions, options.html, title=model.name)
    for _, reason in source.unreadable:
        print(f"zoo: {printable(reason)}", file=sys.stderr)
    return 1 if source.unreadable else 0


def _check(options):
    """Refuse what cannot work before TensorFlow is imported."""
    arguments.check_threshold(options.threshold)
    if options.labelled and options.threshold is not None:
        raise ValueError("pass --threshold or --labelled, which finds one, not both")
    if not 0 < options.accuracy < 1:
        raise ValueError(f"--accuracy must be a share between 0 and 1; got {options.accuracy}")
    arguments.check_paths([*options.paths, *filter(None, [options.labelled])])
    arguments.check_model(options.name)


def _model(options):
    model = arguments.load_model(options.name, options.weights)
    if options.resize:
        model.resize = options.resize
    return model


def _threshold(model, options):
    """The threshold that was given, or that the labelled photographs show; None for neither."""
    if options.labelled:
        held_out = arguments.predict_labelled(model, options.labelled, progress=False)
        return threshold(held_out, accuracy=options.accuracy)
    if options.threshold is None:
        return None
    return Threshold(options.threshold, float("nan"), float("nan"), float("nan"), 0.0, float("nan"), 0)


def table(prediction: Prediction, decisions: list[str] | None = None) -> list[dict]:
    """Return the table's row for each image.

    Args:
        prediction: a `Prediction` with `paths`.
        decisions: N strings. Default: None, no column of them.

    Returns:
        A dictionary for each image with the keys image, name, probability, uncertainty (the entropy in
        nats), mutual_information, disagreement and, if given, decision.
    """
    named = prediction.class_names is not None
    names = prediction.names if named else [f"class {label}" for label in prediction.labels]
    rows = [
        {
            "image": str(path),
            "name": str(name),
            "probability": round(float(confidence), 4),
            "uncertainty": round(float(entropy), 4),
            "mutual_information": round(float(information), 4),
            "disagreement": round(float(disagreement), 4),
        }
        for path, name, confidence, entropy, information, disagreement in zip(
            prediction.paths or range(len(prediction)), names, prediction.confidence, prediction.entropy,
            prediction.mutual_information, prediction.disagreement,
        )
    ]  # fmt: skip
    for row, decision in zip(rows, decisions or ()):
        row["decision"] = decision
    return rows


def _print(rows):
    from rich.console import Console
    from rich.table import Table

    decided = bool(rows) and "decision" in rows[0]
    shown = Table(
        "image", "name", "probability", "uncertainty", *(["decision"] if decided else []), box=None
    )
    for row in rows:
        shown.add_row(
            printable(row["image"]), printable(row["name"]), f"{row['probability']:.3f}",
            f"{row['uncertainty']:.3f}",
            *([row["decision"]] if decided else []),
        )  # fmt: skip
    widest = max((len(row["image"]) + len(row["name"]) for row in rows), default=0) + 60
    width = None if sys.stdout.isatty() else widest
    Console(width=width, markup=False, emoji=False, highlight=False).print(shown)


def _write_csv(rows, path):
    # Names that are not UTF-8 are written byte for byte.
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["image"])
        writer.writeheader()
        writer.writerows(rows)
    print(pathlib.Path(path))
