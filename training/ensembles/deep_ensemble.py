"""Deep ensembles whose members any number of workers train, each in its own run.

Member m is the network that `zoo.training.train` makes of the recipe as `single` with the seed s + m
(Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474).  The ensemble is therefore the same no matter
which worker trains which member, or dies.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import uuid

import keras

from zoo import methods
from zoo.files import config_files
from zoo.precision import precision
from zoo.training import recipes
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.attempts import publish_folder, working_folder
from zoo.training.ensembles.joined_runs import join_runs
from zoo.training.loop import from_recipe, run
from zoo.training.loop.preemption import CannotGoOn, Preempted


class TakenOver(CannotGoOn):
    """Another worker has taken over the member that this one was training."""


def member_ensemble(
    recipe: recipes.Recipe,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    member: int | None = None,
    storage: str | None = None,
    heartbeat: int = 60,
    pause: float = 2.0,
    limit: int | None = None,
    command: str = "",
    options: dict | None = None,
) -> dict | None:
    """Make a deep ensemble, resuming earlier workers' runs and sharing the work with others.

    Args:
        recipe: `zoo.training.recipes.Recipe` of the method deep_ensemble.
        data_dir: str or path of the folder of the data set.
        output_dir: str or path of the folder of the members and the result, shared by all workers.
        member: int in [0, M), the only member to train, without a queue; the last one to finish joins
            the ensemble. None takes members from the queue until all are trained. Default: None.
        storage: str, URL of a database for Optuna, or None for an SQLite file in `output_dir`. Default:
            None.
        heartbeat: int, seconds between a worker's signs of life. Default: 60.
        pause: float, seconds between checks while other workers train. Default: 2.0.
        limit: int or None, how many images to train and test on; None for all. Default: None.
        command: str, the command that `config.json` records. Default: "".
        options: dict or None, further arguments of `zoo.training.loop.run.train`. Default: None.

    Returns:
        The dictionary written to `config.json`; None if a call with `member` leaves others to be
        trained.

    Raises:
        ValueError: if a recipe, member or storage cannot be used, or the folder holds another run.
        FileNotFoundError: if the data set is not in `data_dir`.
        TaskFailed: if a member's training keeps killing its workers.
        TakenOver: if another call trains the same member.
        Preempted: after SIGTERM, when the state is saved; another worker can resume at once.
    """
    single, count = member_recipe(recipe)
    if member is not None and not 0 <= member < count:
        raise ValueError(f"member must be in 0 ... {count - 1}, as there are {count}; got {member}")
    splits = _check(single, data_dir, limit)
    folder = pathlib.Path(output_dir)
    this = {
        "recipe": dataclasses.asdict(single) | {"method": recipe.method, "num_members": count},
        "backend": keras.backend.backend(),  # a seed means other initial weights on another
    }
    study = run_identity.agree(folder, "member_run", this, splits)
    members = Members(folder, single, count, data_dir, limit, command, options)
    if member is None:
        database = task_queue.open_storage(
            storage or f"sqlite:///{folder.resolve()}/members.db", heartbeat
        )
        _share(members, study, database, pause)
    else:
        members.ensure_trained(members.names[member], uuid.uuid4().hex)
        if not members.missing():
            members.join()
    return members.result()


def member_recipe(recipe: recipes.Recipe) -> tuple[recipes.Recipe, int]:
    """Derive the recipe of the first member of a deep ensemble.

    Args:
        recipe: `zoo.training.recipes.Recipe` of the method deep_ensemble.

    Returns:
        (recipe of a single network, number of members).

    Raises:
        ValueError: for another method, naming the script for it, or for wrong arguments.
    """
    if recipe.method != "deep_ensemble":
        script = recipes.SCRIPTS.get(recipe.method, "train")
        method = "single" if script == "hyper_deep" else recipe.method
        raise ValueError(
            f"members that are trained apart make a deep_ensemble; for {recipe.method} start python -m "
            f"zoo.training.{script} --recipe={recipe.dataset}_{method}_{recipe.backbone}"
        )
    arguments = recipes.checked_arguments(recipe, methods.arguments(methods.DeepEnsemble))
    count = methods.DeepEnsemble(**arguments).num_members
    return dataclasses.replace(recipe, method="single", num_members=0, arguments=""), count


def _check(recipe, data_dir, limit):
    """Fail before training if training would fail; return the data."""
    splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
    from_recipe.learning_rate(recipe, 1)
    with precision(recipe.precision):
        from_recipe.model_of(recipe, splits[0].images.shape[1:], classes)
    return splits


def _share(members, study, database, pause):
    """Return when every member is trained and the ensemble is written, by this worker or others."""
    tasks = {name: {} for name in members.names}
    training = task_queue.open_study(f"{study}-train", database)

    def perform(name, trial):
        return members.ensure_trained(name, trial.number)

    task_queue.work_off(
        training, tasks, perform, members.is_done, pause, members.say_missing,
        stopped=(Preempted, KeyboardInterrupt),
    )  # fmt: skip
    task_queue.work_off(
        task_queue.open_study(f"{study}-join", database), {"join": {}},
        lambda name, trial: members.join(), lambda name: members.is_joined(), pause,
    )  # fmt: skip


class Members:
    """The folder of a deep ensemble, with a folder `members` of one folder a member.

    A member's folder appears when it is complete: it is what `zoo.training.train` leaves, without
    checkpoints. `members/ensemble` is the ensemble, whose files are linked into the folder itself.

    Args:
        folder: `pathlib.Path` of the run's folder.
        recipe: `zoo.training.recipes.Recipe` of the first member.
        count: int, number of members.
        data_dir: str or path of the folder of the data set.
        limit: int or None, how many images to train and test on; None for all. Default: None.
        command: str, the command to record for the ensemble; --member is added for a member.
            Default: "".
        options: dict or None, further arguments of `zoo.training.loop.run.train`. Default: None.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        recipe: recipes.Recipe,
        count: int,
        data_dir: str | os.PathLike,
        limit: int | None = None,
        command: str = "",
        options: dict | None = None,
    ):
        self.folder, self.recipe = folder, recipe
        self.names = [f"member{index}" for index in range(count)]
        self.data_dir, self.limit, self.command, self.options = data_dir, limit, command, options or {}
        self.parts = folder / "members"
        self.parts.mkdir(exist_ok=True)
        self.said = None

    def is_done(self, name: str) -> bool:
        """Tell whether a member is trained.

        Args:
            name: str, one of `names`.

        Returns:
            bool.
        """
        return (self.parts / name).is_dir()

    def missing(self) -> list[str]:
        """List the names of the members that are not trained yet."""
        return [name for name in self.names if not self.is_done(name)]

    def say_missing(self) -> None:
        """Print the members that other workers are training, when they have changed."""
        missing = self.missing()
        if missing and missing != self.said:
            print(f"other workers are training {', '.join(missing)}", file=sys.stderr, flush=True)
        self.said = missing

    def ensure_trained(self, name: str, attempt: int | str) -> float:
        """Train a member unless it is trained, resuming an earlier attempt.

        Args:
            name: str, one of `names`.
            attempt: int or str that no other attempt at this member has.

        Returns:
            Seconds of its training, all attempts included.

        Raises:
            TakenOver: if another attempt began meanwhile.
        """
        if not self.is_done(name):
            folder = working_folder(self.parts, name, attempt)
            try:
                self._train_member(name, folder)
            except Exception:
                if folder.is_dir():
                    raise
                if not self.is_done(name):
                    raise TakenOver(f"another worker goes on with {name}; leave it to it") from None
            missing = self.missing()
            print(f"{name} is trained; {len(missing)} missing", file=sys.stderr, flush=True)
        return config_files.read_config(self.parts / name)["seconds"]

    def _train_member(self, name, folder):
        index = self.names.index(name)
        if not (folder / "config.json").is_file():  # else its worker died at the very end
            run.train(
                dataclasses.replace(self.recipe, seed=self.recipe.seed + index), self.data_dir, folder,
                limit=self.limit, command=f"{self.command} --member={index}", alone=False, **self.options,
            )  # fmt: skip
        for checkpoint in folder.glob("checkpoint*"):
            checkpoint.unlink()
        publish_folder(folder, self.parts / name)

    def is_joined(self) -> bool:
        """Tell whether the ensemble is written."""
        return (self.folder / "config.json").is_file()

    def join(self) -> float:
        """Write the ensemble of all members; any number of workers may do so at once.

        Each worker joins in its own folder, and the first one to rename it wins. Every worker links the
        files, so a worker may die at any point.

        Returns:
            float, the ensemble's NLL on the test images in nats.
        """
        whole = self.parts / "ensemble"
        if not whole.is_dir():
            draft = self.parts / f"ensemble.{uuid.uuid4().hex}"
            folders = [self.parts / name for name in self.names]
            try:
                join_runs(folders, self.data_dir, draft, self.limit, self.command)
                publish_folder(draft, whole)
            except Exception:
                if not whole.is_dir():  # else another worker was faster, and has cleared up
                    raise
        for path in sorted(whole.iterdir(), key=lambda path: path.name == "config.json"):
            with contextlib.suppress(FileExistsError):
                os.link(path, self.folder / path.name)
        for draft in self.parts.glob("ensemble.*"):
            shutil.rmtree(draft, ignore_errors=True)
        return self.result()["metrics"][self.recipe.dataset]["nll"]

    def result(self) -> dict | None:
        """Return the contents of `config.json`, or None if the ensemble is not written yet."""
        return json.loads((self.folder / "config.json").read_text()) if self.is_joined() else None
