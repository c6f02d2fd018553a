"""Single networks that were trained separately, joined into a deep ensemble."""

import dataclasses
import os
import pathlib

from zoo.data.presence import check_present
from zoo.files import config_files
from zoo.training import recipes


def join_runs(
    runs: list,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    limit: int | None = None,
    command: str = "",
) -> dict:
    """Join finished runs into a deep ensemble, and evaluate it like any other model.

    Args:
        runs: list of str or path, folders of single networks that differ only in their seeds.
        data_dir: str or path of the folder of the data set.
        output_dir: str or path of the folder to write to.
        limit: int or None, how many images the runs were trained on; None for all. Default: None.
        command: str, the command that `config.json` records. Default: "".

    Returns:
        The dictionary written to `config.json`.

    Raises:
        ValueError: if there is no run, a run is not of a single network, seeds are equal, or runs differ
            in more than their seeds.
        FileNotFoundError: if a folder or the data set does not exist.
    """
    configs = _read_configs(runs)
    check_present(configs[0]["dataset"], data_dir)
    # Keras, and so the backend, only now.
    import zoo
    from zoo.training.loop import from_recipe, run_record

    made = recipes.recorded(configs[0]["recipe"])
    models = [zoo.load(config["name"], weights=folder) for config, folder in zip(configs, runs)]
    model = zoo.fuse(models, zoo.methods.DeepEnsemble(len(models)))
    recipe = recipes.Recipe(**{**made, "milestones": tuple(made["milestones"])})
    recipe = dataclasses.replace(recipe, method="deep_ensemble", num_members=len(models))
    splits, _ = from_recipe.load_splits(recipe, data_dir, limit)
    folder = pathlib.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{member},{config['recipe']['seed']},{config['metrics'][recipe.dataset]['nll']}"
        for member, config in enumerate(configs)
    ]
    (folder / "log.csv").write_text("\n".join(["member,seed,nll", *rows]) + "\n")
    seconds = sum(config["seconds"] for config in configs)
    members = [{key: config[key] for key in ("command", "hardware", "commit")} for config in configs]
    known = all("flops" in config for config in configs)
    flops = {"flops": sum(config["flops"] for config in configs)} if known else {}
    return run_record.write_run(model, recipe, splits, folder, command, seconds, joined=members, **flops)


def _read_configs(runs):
    """What the runs' `config.json` have, where these are single networks that differ in their seeds."""
    if not runs:
        raise ValueError("runs must be one or more folders of single networks; got none")
    configs = [config_files.read_config(folder) for folder in runs]
    made = [recipes.recorded(config["recipe"]) for config in configs]
    seeds = [recipe["seed"] for recipe in made]
    if any(config["spec"]["method"] != {"name": "single"} for config in configs):
        raise ValueError(
            "a deep ensemble is joined from single networks; train them with recipes of single"
        )
    if any({**recipe, "seed": None} != {**made[0], "seed": None} for recipe in made):
        raise ValueError("the runs must differ in their seeds alone; train them with one recipe")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"the runs must have different seeds; got {seeds}")
    return configs
