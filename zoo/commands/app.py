"""The command `zoo app`; the page itself is in `zoo/commands/app_server.py`."""

from __future__ import annotations

import sys
from typing import Any

from zoo.commands import arguments
from zoo.commands.app_server import Session, server
from zoo.deciding import Threshold, threshold
from zoo.errors import one_line

ACCURACIES = (0.8, 0.9, 0.95, 0.98, 0.99)


def add_arguments(command: Any) -> None:
    """Add the arguments of `zoo app` to a parser.

    Args:
        command: an `argparse.ArgumentParser`.
    """
    command.add_argument("name", metavar="NAME", help="a model's name, a .keras file or hf://owner/name")
    command.add_argument(
        "examples", nargs="*", metavar="PATH", help="example images that the page offers"
    )
    command.add_argument("--weights", default="default", help="a data set's name or a folder")
    command.add_argument(
        "--resize",
        choices=("crop", "squash"),
        help="how to resize images to the model's size; by default as the model does, or crop",
    )
    command.add_argument(
        "--threshold", type=float, metavar="T", help="answer at this confidence or above"
    )
    command.add_argument(
        "--labelled", metavar="FOLDER",
        help="find thresholds on these photographs, in a subfolder for each class",
    )  # fmt: skip
    command.add_argument(
        "--port", type=int, default=7860, help="port of the page; 0 takes any free port"
    )


def run(options: Any) -> int:
    """Run `zoo app` until it is stopped.

    Args:
        options: the parsed arguments of `add_arguments`.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: for an unknown model, a threshold outside [0, 1], a port that is taken or no port, or
            labelled photographs of other classes.
        FileNotFoundError: for a path that does not exist.
    """
    arguments.check_threshold(options.threshold)
    arguments.check_paths([*options.examples, *filter(None, [options.labelled])])
    arguments.check_model(options.name)
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port must be a number from 0 to 65535; got {options.port}")
    model = arguments.load_model(options.name, options.weights)
    model.resize = options.resize or model.resize or "crop"
    session = Session(model, _thresholds(model, options), options.examples)
    try:
        found = server(session, options.port)
    except OSError as error:
        raise ValueError(
            f"port {options.port} cannot be used ({one_line(error)}); pass another --port"
        ) from None
    print(f"http://127.0.0.1:{found.server_port}  (Ctrl-C stops it)", flush=True)
    found.serve_forever()
    return 0


def _thresholds(model, options):
    """Those that were given, and those that the labelled photographs show."""
    found = []
    if options.threshold is not None:
        nan = float("nan")
        found.append(Threshold(options.threshold, nan, nan, nan, 0.0, nan, 0))
    if options.labelled:
        progress = None if sys.stderr.isatty() else False
        held_out = arguments.predict_labelled(model, options.labelled, progress)
        found += [threshold(held_out, accuracy=accuracy) for accuracy in ACCURACIES]
    return found
