"""The BatchEnsemble study: runs that any number of processes share, and their report."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Collection, Sequence

import keras
import optuna

from zoo.training import marked_sections
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.progress import RunsProgress
from zoo.training.studies import diversity_picture, diversity_report
from zoo.training.studies import diversity_runs as runs

COMMAND = "zoo.training.studies.batch_ensemble_diversity"


def study(
    data_dir: str | os.PathLike,
    folder: pathlib.Path,
    settings: runs.Settings,
    seeds: int,
    names: Collection[str] = (),
    *,
    heartbeat: int = 20,
    pause: float = 2.0,
    docs: str | os.PathLike | None = None,
    report: bool = True,
    others: Sequence[list[str]] = (),
) -> dict | None:
    """Do the missing runs of a study, shared with other processes, and write the report.

    Args:
        data_dir: str or path of the folder of the data sets.
        folder: `pathlib.Path` of the study's folder, shared by all workers.
        settings: `diversity_runs.Settings`.
        seeds: int, runs of each configuration.
        names: collection of configurations' names; all if it is empty. Default: ().
        heartbeat: int, seconds between a worker's signs of life. Default: 20.
        pause: float, seconds between checks while other workers train. Default: 2.0.
        docs: None, or path of a document to put the tables in, and the picture beside it. Default: None.
        report: bool, whether to write the report. Default: True.
        others: sequence of commands of processes that share the work; their output goes to
            `worker-N.log`. Default: ().

    Returns:
        The summary in `report.json`; None without a report.

    Raises:
        ValueError: if a configuration is unknown, the document lacks marks, or the folder holds another
            study.
        FileNotFoundError: if a data set is not in `data_dir`.
        TaskFailed: if a run keeps killing its workers.
    """
    methods = runs.chosen(names, settings.members)
    if docs:
        marked_sections.check(docs, COMMAND, ["study"])
    data = runs.Data(data_dir, settings)
    # Seed after seed, so that a study that is stopped has all configurations.
    tasks = {f"{name}-seed{seed}": (name, seed) for seed in range(seeds) for name in methods}
    queue = _queue(folder, settings, heartbeat)
    with _at_work(others, folder):
        _work(queue, tasks, methods, settings, data, folder, pause)
    results = {name: [] for name in methods}
    for task, (name, _) in tasks.items():
        results[name].append(runs.read(folder, task))
    return _report(folder, settings, results, docs) if report else None


def _queue(folder, settings, heartbeat):
    """The Optuna study whose queued trials are the runs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = keras.backend.backend()
    this = {"settings": dataclasses.asdict(settings), "backend": backend}
    name = run_identity.agree(folder, "study", this)
    storage = task_queue.open_storage(f"sqlite:///{folder.absolute()}/study.db", heartbeat)
    return task_queue.open_study(name, storage)


@contextlib.contextmanager
def _at_work(commands, folder):
    """Run processes meanwhile: wait for them at the end, and stop them if this one is stopped."""
    with contextlib.ExitStack() as files:
        processes = []
        for index, command in enumerate(commands, 1):
            log = files.enter_context((folder / f"worker-{index}.log").open("w"))
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        try:
            yield
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        finally:
            for process in processes:
                process.wait()


def _work(queue, tasks, methods, settings, data, folder, pause):
    """Return when every run is finished, by this process or others."""

    def is_done(task):
        return runs.path_of(folder, task).is_file()

    def done():
        return sum(map(is_done, tasks))

    with RunsProgress(len(tasks), done()) as progress:

        def perform(task, trial):
            name, seed = tasks[task]
            result = runs.perform(folder, task, methods[name](seed), seed, settings, data)
            progress.run(task, result, done())
            return result["figures"]["accuracy"]

        task_queue.work_off(
            queue, {task: {} for task in tasks}, perform, is_done, pause, lambda: progress.others(done())
        )


def _report(folder, settings, results, docs):
    summary = diversity_report.summarise(results)
    facts = {**dataclasses.asdict(settings), "backend": keras.backend.backend()}
    seconds = sum(run["cpu_seconds"] for of in results.values() for run in of)
    tables = diversity_report.write(folder, summary, facts, seconds)
    diversity_picture.draw(folder / "diversity.png", summary)
    if docs:
        picture = diversity_picture.draw(pathlib.Path(docs).with_suffix(".png"), summary)
        marked_sections.fill(
            docs, COMMAND, {"study": f"![Diversity by rank]({picture.name})\n\n{tables}"}
        )
    return summary
