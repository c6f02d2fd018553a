"""The index of published weights, `saved_models/index.json`."""

import json
import os
import pathlib

from zoo import files
from zoo.files.config_files import read_config
from zoo.files.hashes import fingerprint
from zoo.files.json_files import check_index

_INDEXED = ("name", "dataset", "num_members", "parameters", "macs", "metrics", "files")


def _rank(dataset, order):
    return order.index(dataset) if dataset in order else len(order), dataset


def entry(folder: str, config: dict) -> dict:
    """Return what the index says of a set of weights; of sparse ones, how many weights exist.

    Args:
        folder: str, the name of their folder.
        config: dict, the contents of their `config.json`.

    Returns:
        dict.

    Raises:
        WeightsError: if the config does not hold the complete record of a training run.
    """
    existing = {key: value for key, value in config.get("tickets", {}).items() if key == "nonzeros"}
    found = {"folder": folder, **{key: config.get(key) for key in _INDEXED}, **existing}
    check_index([found])
    return found


def rebuild_index(folder: str | os.PathLike) -> list[dict]:
    """Write `index.json` from the folders of published weights; a name's first data set is its default.

    Args:
        folder: str or path, `saved_models`.

    Returns:
        The index, a list of dictionaries.
    """
    folder = pathlib.Path(folder)
    configs = [
        (path.name, read_config(path)) for path in folder.iterdir()
        if (path / "config.json").is_file() and not path.name.startswith(".")
    ]  # fmt: skip
    order = ("cifar10", "cifar100", "fashion_mnist", "mnist")
    configs.sort(key=lambda item: (item[1]["name"], *_rank(item[1]["dataset"], order)))
    index = [
        {**entry(name, config), "config": fingerprint(folder / name / "config.json")}
        for name, config in configs
    ]
    files.replace(folder / "index.json", json.dumps(index, indent=1) + "\n")
    return index
