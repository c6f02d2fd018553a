"""What `zoo benchmark` does with its options."""

import logging
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from zoo import registry
from zoo.benchmarking.benchmark import benchmark
from zoo.benchmarking.models import METHODS, Settings
from zoo.benchmarking.output import print_tables


def run(options: Any) -> None:
    """Measure, write the files and print the tables.

    Args:
        options: the namespace of the command's options.
    """
    logging.getLogger("tensorflow").setLevel("ERROR")  # many models are many functions
    backbone, methods = chosen(options.names, options.backbone, options.methods)
    settings = Settings(
        backbone, options.input_shape, batch_sizes=options.batch_sizes, num_members=options.num_members,
        train_batch_size=options.train_batch_size, precision=options.precision,
    )  # fmt: skip
    results = benchmark(
        settings, methods, weights=options.weights, rounds=options.rounds, seconds=options.seconds,
        peer=options.peer, peer_python=options.peer_python, fresh_processes=not options.times_only,
        directory=options.output, command=shlex.join(["zoo", *sys.argv[1:]]),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    print_tables(results, Console(width=None if sys.stdout.isatty() else 160))


def chosen(names: Sequence[str], backbone: str | None = None, methods: Any = None) -> tuple:
    """Choose backbone and methods from models' names, or from the options given instead.

    Args:
        names: models' names; may be empty.
        backbone: str. Default: None.
        methods: strings. Default: None.

    Returns:
        (backbone, methods).

    Raises:
        ValueError: for names of several backbones, or names beside a backbone or methods.
    """
    if not names:
        return backbone or "resnet18", methods or METHODS
    if backbone or methods:
        raise ValueError("give names, or --backbone and --methods, not both")
    parsed = [registry.parse(name) for name in names]
    backbones = sorted({backbone for _, backbone in parsed})
    if len(backbones) > 1:
        raise ValueError(f"a run compares models of one backbone; got {', '.join(backbones)}")
    return backbones[0], tuple(method for method, _ in parsed)
