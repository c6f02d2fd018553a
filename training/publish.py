"""Move finished runs into `saved_models/`, and update its index and the tables of the documentation.

    python -m zoo.training.publish RUN [RUN ...]

Each RUN is an `--output_dir` of `zoo.training.train`.  Of runs that differ only in their seed, the one
with the lowest held-out NLL is shipped (the lowest seed if no images were held out), and all of them go
into the table of `docs/results.md`; published seeds of the same recipe stay there.  Without a RUN the index and the tables are written again: those of
README.md, docs/weights.md and docs/results.md.
"""

import json
import os
import pathlib
import shutil
import statistics
from collections.abc import Iterable

from zoo import registry
from zoo.errors import WeightsError
from zoo.files import config_files
from zoo.files.hashes import check_hash
from zoo.files.json_files import check_regular
from zoo.training import marked_sections, method_overview, recipes, weights_index
from zoo.training.start import start

COMMAND = "zoo.training.publish"
RECORDED = ("held_out", "metrics", "seconds")  # of each seed


def publish(runs: Iterable, folder: str | os.PathLike | None = None) -> list[dict]:
    """Copy runs into a folder of models, and update its index and tables.

    Args:
        runs: iterable of str or path, folders of finished runs.
        folder: str or path, or None for the installation's `saved_models`. Default: None.

    Returns:
        The new index, a list of dicts.

    Raises:
        ValueError: if runs of one model and data set differ in more than their seed.
        WeightsError: if a run is not whole; nothing is replaced then.
    """
    folder = pathlib.Path(folder or registry.home())
    groups: dict[str, list] = {}
    for run in map(pathlib.Path, runs):
        config = config_files.read_config(run)
        name = f"{config['name']}-{config['dataset']}"
        _check_whole(name, run, config)
        groups.setdefault(name, []).append((run, config))
    chosen = {name: _best(name, group, folder / name) for name, group in groups.items()}
    for name, (run, config) in chosen.items():
        _copy(run, config, folder / name)
    index = weights_index.rebuild_index(folder)
    root = folder.parent
    for page, sections in _sections(folder, index).items():
        if (root / page).is_file():  # an installation has no pages
            marked_sections.fill(root / page, COMMAND, sections)
    return index


def _sections(folder, index):
    """{page: {section: its text}}."""
    return {
        "README.md": {"methods": method_overview.table(index, folder.parent / "docs" / "speed")},
        "docs/weights.md": {"weights": table(index)},
        "docs/results.md": {"weights": seeds_table(folder, index)},
    }


def _published(folder, group):
    """Config of the published model if it differs from the runs in its seed alone, or None."""
    if not (folder / "config.json").is_file():
        return None
    config = config_files.read_config(folder)
    old, new = (recipes.recorded(one["recipe"]) for one in (config, group[0][1]))
    return config if {**old, "seed": None} == {**new, "seed": None} else None


def _best(name, group, folder):
    """(run, config) of the lowest held-out NLL; its config gets the record of every seed."""
    made = [{**recipes.recorded(config["recipe"]), "seed": None} for _, config in group]
    seeds = [config["recipe"]["seed"] for _, config in group]
    if any(recipe != made[0] for recipe in made) or len(set(seeds)) < len(seeds):
        raise ValueError(f"the runs of {name} must differ in their seeds, and in nothing else")
    published = _published(folder, group)
    if published and published["recipe"]["seed"] not in seeds:
        group = [*group, (folder, published)]
    if all(config["held_out"] for _, config in group):
        run, config = min(group, key=lambda pair: pair[1]["held_out"]["nll"])
    else:  # nothing to choose by
        run, config = min(group, key=lambda pair: pair[1]["recipe"]["seed"])
    records = {}
    for one in [*([published] if published else []), *(config for _, config in group)]:
        for record in one.get("seeds") or [{"seed": one["recipe"]["seed"], **one}]:
            records[record["seed"]] = {key: record[key] for key in ("seed", *RECORDED)}
    if len(records) > 1:
        config = {**config, "seeds": [records[seed] for seed in sorted(records)]}
    return run, config


def _check_whole(name, run, config):
    try:
        if not config.get("recipe"):
            raise WeightsError("it has no recipe")
        weights_index.entry(name, config)
    except WeightsError as error:
        raise WeightsError(f"{run / 'config.json'} is not the record of a run: {error}") from None
    for file, record in config["files"].items():
        check_hash(run / file, record)
    check_regular(run / "log.csv")


def _copy(run, config, target):
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in config["files"]:
        shutil.copy(run / name, draft / name)
    (draft / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    lines = (run / "log.csv").read_text().splitlines()
    (draft / "log.csv").write_text("\n".join(lines[:1] + lines[-5:]) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)


def seeds_table(folder: pathlib.Path, index: list[dict]) -> str:
    """Tabulate the models that were trained with several seeds, by their mean and standard deviation.

    Args:
        folder: `pathlib.Path` of the folder of models.
        index: list of dicts, from `weights_index.rebuild_index`.

    Returns:
        str, a Markdown table.
    """
    rows = [
        "| model | data set | seeds | updates | accuracy | NLL | ECE | minutes a run |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in index:
        config = config_files.read_config(folder / entry["folder"])
        if not config.get("seeds"):
            continue
        runs = [run["metrics"][config["dataset"]] for run in config["seeds"]]
        cells = []
        for metric in ("accuracy", "nll", "ece"):
            values = [run[metric] for run in runs]
            cells.append(f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
        updates = config["steps_per_epoch"] * config["recipe"]["epochs"]
        minutes = statistics.mean(run["seconds"] for run in config["seeds"]) / 60
        rows.append(
            f"| `{config['name']}` | {config['dataset']} | {len(runs)} | {updates:,} | {' | '.join(cells)} "
            f"| {minutes:.0f} |"
        )
    return "\n".join(rows)


def table(index: list[dict]) -> str:
    """Tabulate an index.

    Args:
        index: list of dicts, from `weights_index.rebuild_index`.

    Returns:
        str, a Markdown table.
    """
    rows = [
        "| model | data set | members | parameters | MACs | accuracy | NLL | ECE |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in index:
        metrics = entry["metrics"][entry["dataset"]]
        rows.append(
            f"| `{entry['name']}` | {entry['dataset']} | {entry['num_members']} "
            f"| {registry.parameters(entry)} | {entry['macs'] / 1e6:.1f} M | {metrics['accuracy']:.4f} | {metrics['nll']:.4f} "
            f"| {metrics['ece']:.4f} |"
        )
    return "\n".join(rows)


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name and the folders of runs.
    """
    print(json.dumps([entry["folder"] for entry in publish(argv[1:])], indent=1))


if __name__ == "__main__":
    start(main, COMMAND, takes_arguments=True)
