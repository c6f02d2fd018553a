"""Plans: TOML files that say which recipes and seeds `zoo.training.fill` trains, and in which order."""

import dataclasses
import os
import pathlib
import sys
import tomllib

from zoo.training import recipes


@dataclasses.dataclass(frozen=True)
class Run:
    """One entry of the queue.

    Args:
        recipe: `zoo.training.recipes.Recipe`, with its seed and what the plan changes.
        flags: list of str, the training script's arguments for it.
        join: list of int, seeds of single networks to join. Default: (), none.
    """

    recipe: recipes.Recipe
    flags: tuple
    join: tuple = ()

    @property
    def name(self) -> str:
        """Name of the folder: DATASET_METHOD_BACKBONE-SEED, and the fields that the plan changes."""
        changed = (
            "".join(f"-{flag[2:]}" for flag in self.flags[1:-1]).replace(":", "x").replace("/", "_")
        )
        return f"{self.flags[0].removeprefix('--recipe=')}{changed}-{self.recipe.seed}"

    @property
    def sources(self) -> list[str]:
        """Names of the runs of single networks that are joined, a list."""
        single = dataclasses.replace(self.recipe, method="single")
        return [
            Run(dataclasses.replace(single, seed=seed), self._single_flags(seed)).name
            for seed in self.join
        ]

    def command(self, data_dir: str | os.PathLike, runs: pathlib.Path) -> list[str]:
        """Return the training script and its arguments, a list for `subprocess`.

        Args:
            data_dir: str or path of the data sets.
            runs: `pathlib.Path` of the folder of the runs.
        """
        folders = [f"--data_dir={data_dir}", f"--output_dir={runs / self.name}"]
        if self.join:
            joined = ",".join(str(runs / source) for source in self.sources)
            return [sys.executable, "-m", "zoo.training.join_runs", f"--runs={joined}", *folders]
        script = recipes.SCRIPTS.get(self.recipe.method, "train")
        return [sys.executable, "-m", f"zoo.training.{script}", *self.flags, *folders, "--notensorboard"]

    def _single_flags(self, seed):
        recipe = self.flags[0].replace("deep_ensemble", "single")
        return (recipe, *self.flags[1:-1], f"--seed={seed}")


def read_plan(path: str | os.PathLike) -> list[Run]:
    """Read the runs of a plan, in order.

    Args:
        path: str or path of a TOML file.

    Returns:
        A list of `Run`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for a file that is not a plan, an unknown recipe or an unknown field.
    """
    path = pathlib.Path(path)
    try:
        entries = tomllib.loads(path.read_text())["run"]
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a plan ({error}); it takes [[run]] entries") from None
    if not (entries and isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise ValueError(f"{path} is not a plan (run = {entries}); it takes [[run]] entries")
    runs = [run for entry in entries for run in _runs(path, dict(entry))]
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has {twice[0]} more than once")
    return runs


def _runs(path, entry):
    name, seeds, join = entry.pop("recipe", None), entry.pop("seeds", [0]), entry.pop("join", [])
    if not isinstance(name, str):
        raise ValueError(f"{path}: every [[run]] names a recipe; got {entry}")
    if not (isinstance(seeds, list) and isinstance(join, list)):
        raise ValueError(f"{path}: seeds and join of {name} are lists of integers")
    recipe = recipes.recipe(name)
    known = [field.name for field in dataclasses.fields(recipe)]
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f"{path}: {name} has no field {', '.join(unknown)}")
    if join and recipe.method != "deep_ensemble":
        raise ValueError(f"{path}: join makes a deep_ensemble, not {recipe.method}")
    for seed in seeds:
        members = {"num_members": len(join)} if join else {}
        made = dataclasses.replace(recipe, **{**entry, **members, "seed": seed})
        changed = (f"--{key}={value}" for key, value in entry.items())
        yield Run(made, (f"--recipe={name}", *changed, f"--seed={seed}"), tuple(join))
