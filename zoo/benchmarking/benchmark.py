"""`benchmark`: one whole run, from models to files."""

import contextlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from zoo.benchmarking import fresh_process
from zoo.benchmarking.machine import machine
from zoo.benchmarking.models import METHODS, Settings, from_scratch, published
from zoo.benchmarking.output import write_markdown
from zoo.benchmarking.peers import Peer
from zoo.benchmarking.picture import write_picture
from zoo.benchmarking.roofline import peaks
from zoo.benchmarking.rounds import summary, time_in_rounds
from zoo.latency import cores
from zoo.precision import precision


def benchmark(
    settings: Settings,
    methods: Sequence[str] = METHODS,
    *,
    weights: str | None = None,
    rounds: int = 20,
    seconds: float = 900.0,
    peer: str | None = None,
    peer_python: str | None = None,
    fresh_processes: bool = True,
    directory: Any = "benchmark",
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Measure what methods cost, side by side, and write the results to files.

    All models live in this process and take turns, a call of each in every round (`rounds.time_in_rounds`); a
    peer's live in another process and take their turns in the same rounds while this one waits. A ratio
    is the median over rounds of the time over the single network's in the same round; a peer's is to its
    own single network. Sizes, cold loading and peak memory are measured afterwards in fresh processes.

    Args:
        settings: a `Settings`.
        methods: strings such as ("single", "packed", "packed:gamma=2"); the single network is always
            included. Default: all.
        weights: str, a data set's name: measure the published models of the backbone instead, with their
            accuracy. Default: None.
        rounds: int >= 1, calls of each model and task, at most. Default: 20.
        seconds: float > 0, the time for warm-up and rounds; the table says what did not fit. Default:
            900.
        peer: str, another library whose models of the same methods are measured, too. Default: None.
        peer_python: str, the path of an interpreter that has the peer. Default: None, this one.
        fresh_processes: bool, whether to start them, one per model. Default: True.
        directory: str or path of the folder for `benchmark.json`, `.md` and `.png`. Default:
            "benchmark".
        command: str, the command line, for the record. Default: "".
        say: function of a line of progress. Default: prints nothing.

    Returns:
        The dictionary of `benchmark.json`.

    Raises:
        ValueError: for arguments that cannot be measured, before anything is.
    """
    if rounds < 1 or not seconds > 0:
        raise ValueError(f"rounds and seconds must be at least 1; got {rounds} and {seconds:g}")
    if peer and weights:
        raise ValueError(f"{peer} has no models with our weights; leave out --peer or --weights")
    if peer and settings.precision != "float32":
        raise ValueError(f"{peer} is measured in float32; leave out --peer or --precision")
    ours = published(weights, settings) if weights else from_scratch(methods, settings)
    guest = Peer(peer, peer_python) if peer else contextlib.nullcontext()
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with precision(settings.precision), guest:
        found = {**machine(), "peaks": peaks()}
        labels = [one.label for one in ours]
        theirs = guest.models(settings, cores()) if peer else []
        theirs = [one for one in theirs if one.label in labels]
        models = sorted([*ours, *theirs], key=lambda one: labels.index(one.label))
        baselines = [*ours[:1], *theirs[:1]]
        times, skipped = time_in_rounds(models, baselines, settings.tasks, rounds, seconds, say)
    results = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": found,
        "settings": {**vars(settings), "weights": weights, "rounds": rounds, "seconds": seconds},
        "peer": {"name": peer, "version": guest.version} if peer else None,
        "models": [_record(one, ours[0] if one.of == "zoo" else theirs[0], times, skipped)
                   for one in (*ours, *theirs)],
    }  # fmt: skip
    results["imports"] = None
    _write(results, directory)  # before anything else can fail
    if fresh_processes:
        results["imports"] = _in_fresh_processes(results, ours, skipped, say)
        _write(results, directory)
    return results


def _write(results, directory):
    (directory / "benchmark.json").write_text(json.dumps(results, indent=1) + "\n")
    write_markdown(results, directory / "benchmark.md")
    write_picture(results, directory / "benchmark.png")


def _record(model, single, times, skipped):
    """What is known of a model after the rounds."""
    record = {"label": model.label, "of": model.of, "name": model.name}
    if model in skipped:
        return record | {"skipped": skipped[model]}
    tasks = {}
    for task, measured in times.items():
        tasks[task] = summary(measured[model], measured[single])
        tasks[task]["seconds"] = measured[model].round(6).tolist()
    return record | model.facts() | {"compile_s": model.compile_seconds, "tasks": tasks}


def _in_fresh_processes(results, ours, skipped, say):
    """Add sizes, loading and memory to the records of our models; returns the cold imports."""
    settings, answers = ours[0].settings, []
    records = [record for record in results["models"] if record["of"] == "zoo"]
    with tempfile.TemporaryDirectory() as folder:
        folders = {}
        for index, (one, record) in enumerate(zip(ours, records)):
            if one not in skipped:
                folders[one] = pathlib.Path(folder, str(index))
                record["weights_bytes"] = fresh_process.write(one, folders[one])
                one.model, one.calls = None, {}  # room for the others
        for one, record in zip(ours, records):
            if one in folders:
                say(f"{one.label} in a fresh process")
                answers.append(fresh_process.measured(one, folders[one], settings))
                record.update(
                    {k: v for k, v in answers[-1].items() if k not in ("keras_s", "zoo_adds_s")}
                )
    return fresh_process.imports(answers)
