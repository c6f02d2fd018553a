"""Deep ensembles whose members are trained apart, each a run of its own, by any number of workers.

Member m is the network that `zoo.training.train` makes of the recipe as `single` with the seed s + m
(Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474), so the ensemble is the same whoever trains
what, and whoever dies.
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

from zoo import methods, weights
from zoo.training import recipes
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.attempts import appear, working_folder
from zoo.training.join_runs import join_runs
from zoo.training.loop import from_recipe, run
from zoo.training.loop.preemption import CannotGoOn, Preempted


class TakenOver(CannotGoOn):
    """Another worker goes on with the member that this one trained."""


def member_ensemble(recipe, data_dir, output_dir, *, member=None, storage=None, heartbeat=60, pause=2.0,
                    limit=None, command="", options=None):  # fmt: skip
    """Make a deep ensemble, going on where earlier workers stopped, beside those that are at work.

    Args:
        recipe: with the method deep_ensemble.
        data_dir: of the data set.
        output_dir: shared by all workers; holds the members and the result.
        member: train this one alone, without a queue, and join the ensemble if it was the last; None
            takes members from the queue until all are there.
        storage: URL of a database that Optuna can use; default: an SQLite file in `output_dir`.
        heartbeat: seconds between a worker's signs of life.
        pause: seconds between looks at other workers.
        limit: of the data set's images, to try it out.
        command: to record.
        options: more arguments of `run.train`.

    Returns:
        The dictionary written to `config.json`, as `join_runs` leaves it; None where a call with
        `member` leaves others missing.

    Raises:
        ValueError: for a recipe, a member or a storage that cannot be used, or a folder of another run.
        FileNotFoundError: where the data set is not in `data_dir`.
        task_queue.TaskFailed: for a member whose training keeps killing its workers.
        TakenOver: where another call trains the same member.
        Preempted: after SIGTERM, when the state is saved; others can go on at once.
    """
    single, count = member_recipe(recipe)
    if member is not None and not 0 <= member < count:
        raise ValueError(f"member must be in 0 ... {count - 1}, as there are {count}; got {member}")
    images = _check(single, data_dir, limit)
    folder = pathlib.Path(output_dir)
    study = run_identity.agree(folder, "member_run", {
        "recipe": dataclasses.asdict(single) | {"method": recipe.method, "num_members": count},
        "training_images": images,
        "backend": keras.backend.backend(),  # a seed means other initial weights on another
    })  # fmt: skip
    members = Members(folder, single, count, data_dir, limit, command, options)
    if member is None:
        database = task_queue.open_storage(
            storage or f"sqlite:///{folder.resolve()}/members.db", heartbeat
        )
        _share(members, study, database, pause)
    else:
        members.train(members.names[member], uuid.uuid4().hex)
        if not members.missing():
            members.join()
    return members.result()


def member_recipe(recipe):
    """(The recipe of the first member, number of members) of a deep ensemble's recipe.

    Raises:
        ValueError: for a recipe of another method, naming the script for it, or wrong arguments.
    """
    scripts = {"hyper_deep": "hyper_deep", "dst_tickets": "tickets", "edst_tickets": "tickets"}
    if recipe.method != "deep_ensemble":
        script = scripts.get(recipe.method, "train")
        method = "single" if script == "hyper_deep" else recipe.method
        raise ValueError(
            f"members that are trained apart make a deep_ensemble; for {recipe.method} start python -m "
            f"zoo.training.{script} --recipe={recipe.dataset}_{method}_{recipe.backbone}"
        )
    arguments = recipes.checked_arguments(recipe, methods.arguments(methods.DeepEnsemble))
    count = methods.DeepEnsemble(**arguments).num_members
    return dataclasses.replace(recipe, method="single", num_members=0, arguments=""), count


def _check(recipe, data_dir, limit):
    """Fail before training for what would fail in it; returns the number of training images."""
    (training, _, _), classes = from_recipe.load_splits(recipe, data_dir, limit)
    from_recipe.learning_rate(recipe, 1)
    with from_recipe.precision(recipe.precision):
        from_recipe.model_of(recipe, training.images.shape[1:], classes)
    return len(training)


def _share(members, study, database, pause):
    """Have every member trained and the ensemble written, by this worker or others."""
    tasks = {name: {} for name in members.names}
    training = task_queue.open_study(f"{study}-train", database)

    def perform(name, trial):
        return members.train(name, trial.number)

    task_queue.work_off(
        training, tasks, perform, members.is_done, pause, members.say_missing,
        stopped=(Preempted, KeyboardInterrupt),
    )  # fmt: skip
    task_queue.work_off(
        task_queue.open_study(f"{study}-join", database), {"join": {}},
        lambda name, trial: members.join(), lambda name: members.is_joined(), pause,
    )  # fmt: skip


class Members:
    """A folder with `members` in it, which has one folder a member, there when it is whole.

    Each is what `zoo.training.train` leaves, without checkpoints.  `members/ensemble` is the ensemble,
    and its files are linked into the folder itself.

    Args:
        folder: of the run.
        recipe: of the first member.
        count: how many there are.
        data_dir, limit: as `run.train` takes them.
        command: for the ensemble; of each member with --member after it.
        options: more arguments of `run.train`.
    """

    def __init__(self, folder, recipe, count, data_dir, limit=None, command="", options=None):
        self.folder, self.recipe = folder, recipe
        self.names = [f"member{index}" for index in range(count)]
        self.data_dir, self.limit, self.command, self.options = data_dir, limit, command, options or {}
        self.parts = folder / "members"
        self.parts.mkdir(exist_ok=True)
        self.said = None

    def is_done(self, name):
        """Whether a member is trained."""
        return (self.parts / name).is_dir()

    def missing(self):
        """Names of members that are not trained yet."""
        return [name for name in self.names if not self.is_done(name)]

    def say_missing(self):
        """A line on standard error when the members that other workers train are others than before."""
        missing = self.missing()
        if missing and missing != self.said:
            print(f"other workers train {', '.join(missing)}", file=sys.stderr, flush=True)
        self.said = missing

    def train(self, name, attempt):
        """Train a member, from where an earlier attempt stopped, unless it is there.

        Args:
            name: of `names`.
            attempt: a number or word that no other attempt at it has.

        Returns:
            Seconds that its training took, by all attempts.

        Raises:
            TakenOver: where another attempt began meanwhile.
        """
        if not self.is_done(name):
            folder = working_folder(self.parts, name, attempt)
            try:
                self._train(name, folder)
            except Exception:
                if folder.is_dir():
                    raise
                if not self.is_done(name):
                    raise TakenOver(f"another worker goes on with {name}; leave it to it") from None
            missing = self.missing()
            print(f"{name} is trained; {len(missing)} missing", file=sys.stderr, flush=True)
        return weights.read_config(self.parts / name)["seconds"]

    def _train(self, name, folder):
        index = self.names.index(name)
        if not (folder / "config.json").is_file():  # else its worker died at the very end
            run.train(
                dataclasses.replace(self.recipe, seed=self.recipe.seed + index), self.data_dir, folder,
                limit=self.limit, command=f"{self.command} --member={index}", **self.options,
            )  # fmt: skip
        for checkpoint in folder.glob("checkpoint*"):
            checkpoint.unlink()
        appear(folder, self.parts / name)

    def is_joined(self):
        """Whether the ensemble is written."""
        return (self.folder / "config.json").is_file()

    def join(self):
        """Write the ensemble of all members, which any number of workers may do at once.

        Each joins in a folder of its own, the first to rename it settles which one counts, and whoever
        comes links its files, so that a worker's death at any point leaves nothing half done.

        Returns:
            Its NLL on the test images.
        """
        whole = self.parts / "ensemble"
        if not whole.is_dir():
            draft = self.parts / f"ensemble.{uuid.uuid4().hex}"
            folders = [self.parts / name for name in self.names]
            try:
                join_runs(folders, self.data_dir, draft, self.limit, self.command)
                appear(draft, whole)
            except Exception:
                if not whole.is_dir():  # else another worker was faster, and has cleared up
                    raise
        for path in sorted(whole.iterdir(), key=lambda path: path.name == "config.json"):
            with contextlib.suppress(FileExistsError):
                os.link(path, self.folder / path.name)
        for draft in self.parts.glob("ensemble.*"):
            shutil.rmtree(draft, ignore_errors=True)
        return self.result()["metrics"][self.recipe.dataset]["nll"]

    def result(self):
        """What is in `config.json`; None where the ensemble is not written yet."""
        return json.loads((self.folder / "config.json").read_text()) if self.is_joined() else None
