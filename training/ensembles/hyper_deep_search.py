"""Hyper-deep ensembles: random search, greedy selection, new seeds, selection again, one model.

The stages are those of Wenzel et al., Hyperparameter Ensembles for Robustness and Uncertainty
Quantification, NeurIPS 2020, arXiv 2006.13570, algorithm 1.  Each stage is a list of tasks that any
number of workers share (`task_queue`); each worker computes the selection from the stored predictions.
"""

import dataclasses
import json
import os
import pathlib
import zlib

import keras

from zoo import methods
from zoo.joining import fuse
from zoo.precision import precision
from zoo.training.ensembles import run_identity, task_queue
from zoo.training.ensembles.greedy_selection import greedy_selection
from zoo.training.ensembles.network_store import NetworkStore, name_of, numbers_of
from zoo.training.ensembles.progress import SearchProgress
from zoo.training.ensembles.search_plot import draw_search
from zoo.training.ensembles.search_space import search_space
from zoo.training.loop import from_recipe, run_record
from zoo.training.loop.preemption import Preempted
from zoo.training.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What is searched, and how large the ensemble is.

    The defaults of `l2` and `label_smoothing` are the paper's for CIFAR-10, whose L2 is c * |w|^2.

    Args:
        trials: int, the configurations tried, kappa in the paper; the first is the recipe's own.
            Default: 50.
        members: int, the most different networks in the ensemble and the seeds that each chosen
            configuration is trained on, K in the paper. Default: 4.
        tune: tuple of names from `search_space.TUNABLE`. Default: ("l2", "label_smoothing").
        l2: (low, high) of a log-uniform range, divided by the number of training images. Default: (0.02,
            200).
        label_smoothing: (low, high) of a log-uniform range. Default: (1e-5, 0.2).
        learning_rate: (low, high) of a log-uniform range, times the recipe's. Default: (0.3, 3).
        dropout: (low, high) of a log-uniform range. Default: (0.01, 0.5).
    """

    trials: int = 50
    members: int = 4
    tune: tuple = ("l2", "label_smoothing")
    l2: tuple = (2e-2, 2e2)
    label_smoothing: tuple = (1e-5, 0.2)
    learning_rate: tuple = (0.3, 3.0)
    dropout: tuple = (0.01, 0.5)


def search_ensemble(
    recipe: Recipe,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    options: SearchOptions = SearchOptions(),
    *,
    storage: str | None = None,
    heartbeat: int = 60,
    pause: float = 2.0,
    limit: int | None = None,
    command: str = "",
    compile_options: dict | None = None,
) -> dict:
    """Make a hyper-deep ensemble, resuming earlier workers' runs and sharing the work with others.

    Args:
        recipe: `zoo.training.recipes.Recipe` of a single network, with `held_out` > 0.
        data_dir: str or path of the folder of the data set.
        output_dir: str or path of the folder of the networks, the search and its result, shared by all
            workers.
        options: `SearchOptions`; `trials` and `members` may differ when a search is resumed. Default:
            `SearchOptions()`.
        storage: str, URL of a database for Optuna, or None for an SQLite file in `output_dir`. Default:
            None.
        heartbeat: int, seconds between a worker's signs of life. Default: 60.
        pause: float, seconds between checks while other workers train. Default: 2.0.
        limit: int or None, how many images to train and test on; None for all. Default: None.
        command: str, the command that `config.json` records. Default: "".
        compile_options: dict or None, further arguments of `compile`. Default: None.

    Returns:
        The dictionary written to `config.json`: that of any run, with `hyper_deep`.

    Raises:
        ValueError: if options, a recipe or a storage cannot be used, or the folder holds another search.
        FileNotFoundError: if the data set is not in `data_dir`.
        TaskFailed: if a network's training keeps killing its workers.

    References:
        Wenzel et al., Hyperparameter Ensembles for Robustness and Uncertainty Quantification, NeurIPS
        2020, arXiv 2006.13570, algorithm 1.
    """
    _check(recipe, options)
    splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
    if not len(splits[1]):
        raise ValueError(f"held_out={recipe.held_out} leaves no image to select by; take a larger share")
    with precision(recipe.precision):
        model = from_recipe.model_of(recipe, splits[0].images.shape[1:], classes)
    from_recipe.learning_rate(recipe, 1)  # fails for an unknown schedule
    ranges = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)[2:]}
    space = search_space(recipe, model.network, len(splits[0]), **ranges)
    folder = pathlib.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    database = task_queue.open_storage(storage or f"sqlite:///{folder.resolve()}/search.db", heartbeat)
    this = {
        "recipe": dataclasses.asdict(recipe),
        "ranges": space.ranges,
        "backend": keras.backend.backend(),  # a seed means other initial weights on another
    }
    study = run_identity.agree(folder, "search", this, splits)
    networks = NetworkStore(folder / "networks", recipe, splits, classes, compile_options)
    for name in networks.names():  # damage shows before anything is trained
        networks.held_out(name)
    with SearchProgress() as progress:
        search = _Search(folder, options, networks, space, study, database, progress, pause)
        return search.run(command)


def _check(recipe, options):
    if recipe.method != "single":
        raise ValueError(
            f"a hyper-deep ensemble is made of single networks; take the recipe {recipe.dataset}_single_"
            f"{recipe.backbone}"
        )
    for name in ("trials", "members"):
        value = getattr(options, name)
        if not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
    if not 0 < recipe.held_out < 1:
        raise ValueError(
            f"held_out must be between 0 and 1, as networks are selected by it; got {recipe.held_out}"
        )


class _Search:
    """One worker's part in a search."""

    def __init__(self, folder, options, networks, space, study, database, progress, pause):
        self.folder, self.options, self.networks, self.space = folder, options, networks, space
        self.study, self.database, self.progress, self.pause = study, database, progress, pause

    def run(self, command):
        """Work through all stages; returns the configuration of the result."""
        tried = [name_of(index, 0) for index in range(self.options.trials)]
        self._train_stage("search", tried)
        first, _ = self._select(tried)
        seeds = range(self.options.members)
        kinds = sorted({numbers_of(name)[0] for name in first})
        stratified = [name_of(index, seed) for index in kinds for seed in seeds]
        self._train_stage("seeds", stratified)
        chosen, path = self._select(stratified)
        self._finish(tried, first, chosen, path, command)
        draw_search(self.folder / "search.png", self.networks, self.space, tried, first, chosen)
        return self._result(chosen)

    def _train_stage(self, stage, names):
        tasks = {name: self._configuration(name) for name in names}

        def there():
            return sum(map(self.networks.is_done, names))

        def look():
            self.progress.others(there())

        def perform(name, trial):
            configuration = {
                key: trial.suggest_float(key, *self.space.ranges[key], log=True)
                for key in self._configuration(name)
            }
            nll = self.networks.ensure_trained(
                name, configuration, trial.number, [self.progress.callback(name)]
            )
            self.progress.network(name, nll, there())
            return nll

        self.progress.stage(stage, len(names), there())
        study = task_queue.open_study(f"{self.study}-{stage}", self.database)
        task_queue.work_off(
            study, tasks, perform, self.networks.is_done, self.pause, look,
            stopped=(Preempted, KeyboardInterrupt),
        )  # fmt: skip

    def _configuration(self, name):
        index = numbers_of(name)[0]
        return self.space.sample(index) if index else {}

    def _select(self, names):
        predictions = (self.networks.held_out(name) for name in names)
        labels = self.networks.splits[1].labels
        indices, path = greedy_selection(predictions, labels, self.options.members)
        chosen = [names[index] for index in indices]
        self.progress.say(f"selected: {', '.join(chosen)}; held-out NLL {path[-1]:.4f}")
        return chosen, path

    def _finish(self, tried, first, chosen, path, command):
        """Have one worker write the ensemble."""

        def is_done(name):
            return self._result(chosen) is not None

        def write(name, trial):
            if not is_done(name):
                self._write(first, chosen, path, command)
            return path[-1]

        task = f"join_{zlib.crc32(json.dumps(chosen).encode()):08x}"
        study = task_queue.open_study(f"{self.study}-join", self.database)
        task_queue.work_off(study, {task: {}}, write, is_done, self.pause)

    def _result(self, chosen):
        """The finished run of this very ensemble, or None."""
        path = self.folder / "config.json"
        config = json.loads(path.read_text()) if path.is_file() else {}
        return config if config.get("hyper_deep", {}).get("chosen") == chosen else None

    def _write(self, first, chosen, path, command):
        networks, count = self.networks, len(chosen)
        recipe = dataclasses.replace(networks.recipe, method="hyper_deep", num_members=count)
        singles = {name: networks.model(name) for name in set(chosen)}
        rows = [f"{step},{name},{nll}" for step, (name, nll) in enumerate(zip(chosen, path))]
        (self.folder / "log.csv").write_text("\n".join(["step,network,held_out_nll", *rows]) + "\n")
        details = {
            "trials": self.options.trials,
            "members": self.options.members,
            "ranges": self.space.ranges,
            "chosen_in_search": first,
            "chosen": chosen,
            "held_out_nll": path,
            "networks_trained": len(networks.names()),
            "configurations": {name: networks.result(name)["configuration"] for name in sorted(singles)},
        }
        seconds = sum(networks.result(name)["seconds"] for name in networks.names())
        with precision(recipe.precision):
            model = fuse([singles[name] for name in chosen], method=methods.HyperDeep(count))
            run_record.write_run(
                model, recipe, networks.splits, self.folder, command, seconds, hyper_deep=details
            )
