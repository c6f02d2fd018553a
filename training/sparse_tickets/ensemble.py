"""FreeTickets: sparse networks trained from scratch or pruned, joined into one ensemble.

The procedures are those of Liu et al., Deep Ensembling with No Overhead for either Training or Testing, ICLR
2022, arXiv 2106.14568, with the baselines of its tables (`ticket_plans`).  Networks that are trained apart
are tasks that any number of workers share (`shared_tasks`).
"""

import dataclasses
import json
import pathlib

import keras

from zoo import methods
from zoo.joining import fuse
from zoo.training import recipes
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.network_store import name_of
from zoo.training.ensembles.progress import SearchProgress
from zoo.training.loop import from_recipe, run_record
from zoo.training.loop.preemption import Preempted
from zoo.training.loop.progress import ProgressLine
from zoo.training.sparse_tickets.networks import TicketNetworks


def ticket_ensemble(recipe, data_dir, output_dir, options, *, storage=None, heartbeat=60, pause=2.0,
                    limit=None, command="", compile_options=None):  # fmt: skip
    """Make an ensemble of sparse tickets, going on where earlier workers stopped, beside those at work.

    Args:
        recipe: with the method dst_tickets or edst_tickets, and `held_out` > 0 to choose weights by.
        data_dir: of the data set.
        output_dir: shared by all workers; holds the networks and the result.
        options: `TicketOptions`.
        storage: URL of a database that Optuna can use; default: an SQLite file in `output_dir`.
        heartbeat: seconds between a worker's signs of life.
        pause: seconds between looks at other workers.
        limit: of the data set's images, to try it out.
        command: to record.
        compile_options: more of `compile`'s.

    Returns:
        The dictionary written to `config.json`: as of any run, and `tickets`.

    Raises:
        ValueError: for a recipe, options or a storage that cannot be used, or a folder of another run.
        FileNotFoundError: where the data set is not in `data_dir`.
        task_queue.TaskFailed: for a network whose training keeps killing its workers.
    """
    method = ticket_method(recipe, options)
    splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
    if not len(splits[1]):
        raise ValueError(f"held_out={recipe.held_out} leaves no image to choose by; take a larger share")
    folder = pathlib.Path(output_dir)
    networks = TicketNetworks(folder / "networks", recipe, options, method, splits, classes,
                              compile_options)  # fmt: skip
    networks.check()
    study = run_identity.agree(folder, "ticket_run", {
        "recipe": dataclasses.asdict(recipe),
        "options": dataclasses.asdict(options),
        "training_images": len(splits[0]),
        "backend": keras.backend.backend(),
    })  # fmt: skip
    database = task_queue.open_storage(storage or f"sqlite:///{folder.resolve()}/tickets.db", heartbeat)
    runs = 1 if options.procedure == "edst" else method.num_members
    names = [name_of(0, seed) for seed in range(runs)]
    with SearchProgress() as progress:
        _train(networks, names, task_queue.open_study(f"{study}-train", database), progress, pause)
    finished = folder / "config.json"
    task_queue.work_off(
        task_queue.open_study(f"{study}-join", database), {"join": {}},
        lambda task, trial: _write(networks, names, recipe, folder, command),
        lambda task: finished.is_file(), pause,
    )  # fmt: skip
    return json.loads(finished.read_text())


def ticket_method(recipe, options):
    """The `zoo.methods.Tickets` of a recipe.

    Raises:
        ValueError: for a recipe of another method, or that does not go with the procedure.
    """
    sequential = options.procedure == "edst"
    expected = methods.SequentialTickets if sequential else methods.Tickets
    if recipe.method != expected.name:
        raise ValueError(
            f"the procedure {options.procedure} makes {expected.name}; take the recipe "
            f"{recipe.dataset}_{expected.name}_{recipe.backbone}, not one of {recipe.method}"
        )
    arguments = recipes.checked_arguments(recipe, methods.arguments(expected))
    return expected(**arguments)


def _train(networks, names, study, progress, pause):
    """Have every network trained, by this worker or others."""

    def there():
        return sum(map(networks.is_done, names))

    def perform(name, trial):
        callbacks = [progress.callback(name)]
        if not progress.console.is_terminal:  # else the bars show it
            callbacks.append(ProgressLine())
        nll = networks.train(name, {}, trial.number, callbacks)
        progress.network(name, nll, there())
        return nll

    progress.stage(networks.ticket_options.procedure, len(names), there())
    task_queue.work_off(
        study, {name: {} for name in names}, perform, networks.is_done, pause,
        lambda: progress.others(there()), stopped=(Preempted, KeyboardInterrupt),
    )  # fmt: skip


def _write(networks, names, recipe, folder, command):
    """Write the ensemble; returns its held-out NLL."""
    results = [networks.result(name) for name in names]
    models = networks.tickets(names)
    chosen = [ticket for result in results for ticket in result["tickets"]]
    rows = [f"{i},{t['step']},{t['held_out_accuracy']}" for i, t in enumerate(chosen)]
    (folder / "log.csv").write_text("\n".join(["ticket,step,held_out_accuracy", *rows]) + "\n")
    with from_recipe.precision(recipe.precision):
        model = fuse(models, method=networks.method)
        seconds = sum(result["seconds"] for result in results)
        config = run_record.write_run(
            model, recipe, networks.splits, folder, command, seconds,
            tickets=networks.details(model, chosen),
        )  # fmt: skip
    return config["held_out"]["nll"]
