"""Train what a plan has and `saved_models/` lacks, one run after the other, at the lowest priority.

    python -m zoo.training.fill --data_dir=DATA --runs=RUNS
    python -m zoo.training.fill --data_dir=DATA --runs=RUNS --status
    python -m zoo.training.publish $(python -m zoo.training.fill --runs=RUNS --finished)

A plan is a TOML file, a list of

    [[run]]
    recipe = "cifar10_packed_cifarnet"
    seeds = [0, 1, 2]
    epochs = 20               # any field of the recipe

which are trained in this order into RUNS/RECIPE-SEED; the default plan is training/plans/weights.toml.
With `join = [0, 1]` a deep ensemble is joined from finished runs of the single network with these seeds.
Sparse tickets, hyper-deep ensembles and deep ensembles without `join` are trained by their own scripts.

A stopped queue resumes when it is started again, and loses at most an epoch; SIGTERM saves first and
loses nothing.  Only one queue works in a folder.  A run that fails is named in the table and tried again
at the next start; the exit status is then 1.  RUNS/RECIPE-SEED/output.txt has what a run printed.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

from absl import flags

from zoo import registry
from zoo.training import recipes
from zoo.training.plan import Run, read_plan
from zoo.training.start import check_folders, start

FLAGS = flags.FLAGS
DEFAULT_PLAN = pathlib.Path(__file__).parent / "plans" / "weights.toml"
PATIENCE = 5  # seconds to wait for the lock: a killed run holds it until its memory is freed


def published(run: Run) -> bool:
    """Tell whether `saved_models/` has the weights of this recipe and seed.

    Args:
        run: a `Run`.

    Returns:
        A bool.
    """
    name = f"{run.recipe.method}_{run.recipe.backbone}"
    for entry in registry.entries(name):
        if entry["dataset"] != run.recipe.dataset:
            continue
        path = registry.home() / entry["folder"] / "config.json"
        config = json.loads(path.read_text()) if path.is_file() else {}
        recipe = recipes.recorded(config.get("recipe", {}))
        seeds = {seed["seed"] for seed in config.get("seeds", ())} | {recipe.get("seed")}
        wanted = recipes.recorded(dataclasses.asdict(run.recipe))
        same = all(recipe.get(key) == value for key, value in wanted.items() if key != "seed")
        if same and run.recipe.seed in seeds:
            return True
    return False


def states(plan: list[Run], runs: pathlib.Path) -> dict[str, tuple[str, int, float]]:
    """Tell how far all runs of a plan are.

    Args:
        plan: list of `Run`.
        runs: `pathlib.Path` of the folder of the runs.

    Returns:
        A dict from a run's name to what `state` returns. A published single network is trained again if
        an ensemble that is still to be joined needs its run.
    """
    found = {run.name: state(run, runs) for run in plan}
    needed = {
        source
        for run in plan
        if found[run.name][0] not in ("done", "published")
        for source in run.sources
    }
    again = [run for run in plan if run.name in needed and found[run.name][0] == "published"]
    return found | {run.name: state(run, runs, again=True) for run in again}


def state(run: Run, runs: pathlib.Path, again: bool = False) -> tuple[str, int, float]:
    """Tell how far a run is.

    Args:
        run: a `Run`.
        runs: `pathlib.Path` of the folder of the runs.
        again: bool, whether published weights do not count. Default: False.

    Returns:
        (state, epochs done, seconds spent); the state is "published", "done", "started", "failed" or
        "waiting".
    """
    folder = runs / run.name
    if (folder / "config.json").is_file():
        seconds = json.loads((folder / "config.json").read_text())["seconds"]
        return "done", run.recipe.epochs, seconds
    if not again and published(run):
        return "published", run.recipe.epochs, 0
    failed = (folder / "failed.txt").is_file()  # which the next try removes
    if (folder / "checkpoint.json").is_file():
        checkpoint = json.loads((folder / "checkpoint.json").read_text())
        return "failed" if failed else "started", checkpoint["epochs"], checkpoint["seconds"]
    return "failed" if failed else "waiting", 0, 0


@contextlib.contextmanager
def lock(runs: pathlib.Path) -> Iterator[IO[str]]:
    """Lock the file that says who works in a folder; training processes inherit it.

    Args:
        runs: `pathlib.Path` of the folder.

    Raises:
        ValueError: if another queue, or a run that it left behind, still works there.
    """
    runs.mkdir(parents=True, exist_ok=True)
    last_try = time.monotonic() + PATIENCE
    with open(runs / "queue.lock", "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > last_try:
                    raise ValueError(
                        f"another queue works in {runs}; --status shows how far it is"
                    ) from None
                time.sleep(0.1)
        yield file


def fill(plan: list[Run], data_dir: str | os.PathLike, runs: str | os.PathLike) -> list[str]:
    """Train all runs of a plan that neither `runs` nor `saved_models/` has yet.

    Args:
        plan: list of `Run`.
        data_dir: str or path of the data sets.
        runs: str or path of the runs.

    Returns:
        Names of the runs that failed.

    Raises:
        ValueError: if another queue works in the folder.
    """
    runs, failed = pathlib.Path(runs).expanduser(), []
    data_dir = pathlib.Path(data_dir).expanduser()
    stop = _StopOnSignal()
    with lock(runs) as file:
        for run in plan:
            if stop.received or states(plan, runs)[run.name][0] in ("done", "published"):
                continue
            print(f"{time.strftime('%H:%M')} {run.name}", flush=True)
            code = _train(run, data_dir, runs, file, stop)
            if (runs / run.name / "config.json").is_file():
                continue
            if not stop.received:
                failed.append(run.name)
                last = _last_line(runs / run.name / "output.txt")
                (runs / run.name / "failed.txt").write_text(f"exit code {code}: {last}\n")
                print(f"{run.name} failed: {last}", file=sys.stderr, flush=True)
    return failed


class _StopOnSignal:
    """Passes SIGTERM and SIGINT on to the run that trains, which saves and ends."""

    def __init__(self):
        self.received, self.process = False, None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number, frame):
        self.received = True
        if self.process is not None:
            self.process.terminate()


def _train(run, data_dir, runs, lock_file, stop):
    """Train one run in a process of its own; returns its exit code."""
    folder = runs / run.name
    folder.mkdir(exist_ok=True)
    (folder / "failed.txt").unlink(missing_ok=True)
    with open(folder / "output.txt", "a") as output:
        process = subprocess.Popen(
            run.command(data_dir.resolve(), runs.resolve()), stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, pass_fds=[lock_file.fileno()], start_new_session=True,
            preexec_fn=_lowest_priority,
        )  # fmt: skip
        stop.process = process
        if stop.received:
            process.terminate()
        return process.wait()


def _lowest_priority():
    """Make this process, and what it starts, give way to all others."""
    os.nice(19)
    # Linux weighs sessions against each other first, and processes only within their session.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text("19")


def _last_line(path):
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def status(plan: list[Run], runs: str | os.PathLike) -> str:
    """Return a table of all runs of a plan and the time left, as text.

    Times are estimated from FLOPs at the rate of this folder's runs; "?" if none has trained yet.

    Args:
        plan: list of `Run`.
        runs: str or path of the folder of the runs.

    Returns:
        str of several lines: name, state, epochs and hours:minutes left of each run, then the total.
    """
    runs = pathlib.Path(runs).expanduser()
    flops = _flops(plan, runs)
    found = states(plan, runs)
    done = spent = 0
    for run in plan:
        kind, epochs, seconds = found[run.name]
        alone = not run.join and run.recipe.method not in recipes.SCRIPTS
        if alone and kind in ("done", "started", "failed"):
            done += flops[run.name] * epochs / run.recipe.epochs
            spent += seconds
    width = max(len(run.name) for run in plan)
    rows, total = [], 0
    for run in plan:
        kind, epochs, _ = found[run.name]
        left = flops[run.name] * (1 - epochs / run.recipe.epochs) * (spent / done if done else 0)
        total += left
        rest = "" if kind in ("done", "published") else _hours(left) if done else "?"
        rows.append(f"{run.name:<{width}}  {kind:<9}  {epochs:>3}/{run.recipe.epochs:<3}  {rest:>6}")
    rate = f" at {done / spent / 1e9:.0f} GFLOP/s" if done else ""
    known = done or all(kind in ("done", "published") for kind, *_ in found.values())
    return "\n".join([*rows, f"left: {_hours(total) if known else '?'}{rate}"])


def _hours(seconds):
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"


def _flops(plan, runs):
    """{name: FLOPs that the whole run takes}, counted once and kept in the folder."""
    path = runs / "flops.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    missing = [run for run in plan if run.name not in known]
    for run in missing:
        from zoo.training.loop import dry_run

        # As costly without the weights that it starts from, which may not exist yet.
        untrained = dataclasses.replace(run.recipe, weights="")
        known[run.name] = 0 if run.join else dry_run.run_flops(untrained)
    if missing:
        runs.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def main(argv: list[str]) -> int:
    """Train what is missing, or print what there is.

    Args:
        argv: list of str from absl, the command's name alone.

    Returns:
        The exit status, 1 if a run failed.
    """
    plan = read_plan(FLAGS.plan)
    if FLAGS.status:
        print(status(plan, FLAGS.runs))
    elif FLAGS.finished:
        runs = pathlib.Path(FLAGS.runs).expanduser()
        done = [run for run in plan if state(run, runs)[0] == "done"]
        print("\n".join(f"{FLAGS.runs}/{run.name}" for run in done))
    else:
        check_folders("data_dir")
        if not pathlib.Path(FLAGS.data_dir).expanduser().is_dir():
            raise ValueError(f"no folder {FLAGS.data_dir}; pass the folder of the data sets")
        return 1 if fill(plan, FLAGS.data_dir, FLAGS.runs) else 0
    return 0


def _define_flags():
    flags.DEFINE_string("plan", str(DEFAULT_PLAN), "a TOML file of recipes and seeds")
    flags.DEFINE_string("data_dir", None, "folder of the data sets")
    flags.DEFINE_string("runs", None, "folder of the runs", required=True)
    flags.DEFINE_bool("status", False, "print what is done, running and waiting, and stop")
    flags.DEFINE_bool("finished", False, "print the folders of finished runs, and stop")


if __name__ == "__main__":
    _define_flags()
    start(main, "zoo.training.fill")
