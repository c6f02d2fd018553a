"""FreeTickets: sparse networks, trained from scratch or pruned, and joined into one ensemble.

The procedures are those of Liu et al., Deep Ensembling with No Overhead for either Training or Testing,
ICLR 2022, arXiv 2106.14568, with the baselines of its tables (`phases`).  Networks that are trained
separately are tasks that any number of workers share (`task_queue`).
"""

import dataclasses
import json
import os
import pathlib

import keras

from zoo import methods
from zoo.joining import fuse
from zoo.precision import precision
from zoo.progress_line import ProgressLine
from zoo.training import recipes
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.network_store import name_of
from zoo.training.ensembles.progress import SearchProgress
from zoo.training.loop import from_recipe, run_record
from zoo.training.loop.preemption import Preempted
from zoo.training.sparse_tickets.networks import TicketNetworks
from zoo.training.sparse_tickets.phases import TicketOptions


def ticket_ensemble(
    recipe: recipes.Recipe,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    options: TicketOptions,
    *,
    storage: str | None = None,
    heartbeat: int = 60,
    pause: float = 2.0,
    limit: int | None = None,
    command: str = "",
    compile_options: dict | None = None,
) -> dict:
    """Make an ensemble of sparse tickets, resuming earlier workers' runs and sharing work with others.

    Args:
        recipe: `zoo.training.recipes.Recipe` of the method dst_tickets or edst_tickets, with `held_out`
            > 0 to choose weights by.
        data_dir: str or path of the folder of the data set.
        output_dir: str or path of the folder of the networks and the result, shared by all workers.
        options: `TicketOptions`.
        storage: str, URL of a database for Optuna, or None for an SQLite file in `output_dir`. Default:
            None.
        heartbeat: int, seconds between a worker's signs of life. Default: 60.
        pause: float, seconds between checks while other workers train. Default: 2.0.
        limit: int or None, how many images to train and test on; None for all. Default: None.
        command: str, the command that `config.json` records. Default: "".
        compile_options: dict or None, further arguments of `compile`. Default: None.

    Returns:
        The dictionary written to `config.json`: that of any run, with `tickets`.

    Raises:
        ValueError: if a recipe, options or a storage cannot be used, or the folder holds another run.
        FileNotFoundError: if the data set is not in `data_dir`.
        TaskFailed: if a network's training keeps killing its workers.

    References:
        Liu et al., Deep Ensembling with No Overhead for either Training or Testing, ICLR 2022, arXiv
        2106.14568.
    """
    method = ticket_method(recipe, options)
    splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
    if not len(splits[1]):
        raise ValueError(f"held_out={recipe.held_out} leaves no image to choose by; take a larger share")
    folder = pathlib.Path(output_dir)
    networks = TicketNetworks(folder / "networks", recipe, options, method, splits, classes,
                              compile_options)  # fmt: skip
    networks.check()
    this = {
        "recipe": dataclasses.asdict(recipe),
        "options": dataclasses.asdict(options),
        "backend": keras.backend.backend(),
    }
    study = run_identity.agree(folder, "ticket_run", this, splits)
    database = task_queue.open_storage(storage or f"sqlite:///{folder.resolve()}/tickets.db", heartbeat)
    runs = 1 if options.procedure == "edst" else method.num_members
    names = [name_of(0, seed) for seed in range(runs)]
    with SearchProgress() as progress:
        _train_networks(
            networks, names, task_queue.open_study(f"{study}-train", database), progress, pause
        )
    finished = folder / "config.json"
    task_queue.work_off(
        task_queue.open_study(f"{study}-join", database), {"join": {}},
        lambda task, trial: _write(networks, names, recipe, folder, command),
        lambda task: finished.is_file(), pause,
    )  # fmt: skip
    return json.loads(finished.read_text())


def ticket_method(recipe: recipes.Recipe, options: TicketOptions) -> methods.Tickets:
    """Return the method of a recipe of tickets.

    Args:
        recipe: `zoo.training.recipes.Recipe` of the method dst_tickets or edst_tickets.
        options: `TicketOptions`.

    Returns:
        `zoo.methods.Tickets`, or `zoo.methods.SequentialTickets` for the procedure edst.

    Raises:
        ValueError: if the recipe's method does not match the procedure.
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


def _train_networks(networks, names, study, progress, pause):
    """Return when every network is trained, by this worker or others."""

    def there():
        return sum(map(networks.is_done, names))

    def perform(name, trial):
        callbacks = [progress.callback(name)]
        if not progress.bars.console.is_terminal:  # else the bars show it
            callbacks.append(ProgressLine())
        nll = networks.ensure_trained(name, {}, trial.number, callbacks)
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
    with precision(recipe.precision):
        model = fuse(models, method=networks.method)
        seconds = sum(result["seconds"] for result in results)
        config = run_record.write_run(
            model, recipe, networks.splits, folder, command, seconds,
            tickets=networks.details(model, chosen),
        )  # fmt: skip
    return config["held_out"]["nll"]
