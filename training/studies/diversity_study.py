"""The BatchEnsemble study: runs that any number of processes share, and the report of them."""

import contextlib
import dataclasses
import pathlib
import subprocess

import keras
import optuna

from zoo.training import marked_sections
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.progress import RunsProgress
from zoo.training.studies import diversity_picture, diversity_report
from zoo.training.studies import diversity_runs as runs

COMMAND = "zoo.training.studies.batch_ensemble_diversity"


def study(data_dir, folder, settings, seeds, names=(), *, heartbeat=20, pause=2.0, docs=None,
          report=True, others=()):  # fmt: skip
    """Do what is left of a study, beside other processes at work on it, and report.

    Args:
        data_dir: of the data sets.
        folder: of the study, shared by all workers.
        settings: `diversity_runs.Settings`.
        seeds: runs of each configuration.
        names: of configurations, all for none.
        heartbeat: seconds between a worker's signs of life.
        pause: seconds between looks at other workers.
        docs: None, or a document to put the tables in, and the picture beside it.
        report: whether to write the report.
        others: commands of processes that work on it, too, their output in `worker-N.log`.

    Returns:
        The summary in `report.json`.

    Raises:
        ValueError: for an unknown configuration, a document without marks, or a folder of another study.
        FileNotFoundError: where a data set is not in `data_dir`.
        task_queue.TaskFailed: for a run that keeps killing its workers.
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
    """Processes that run meanwhile: waited for at the end, stopped where this one is."""
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
    """Return when every run is there."""

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
