"""Check that a data set is there, at once and without importing a backend."""

import pathlib
from typing import Any


def check_present(name: str, data_dir: Any) -> None:
    """Check that a folder has a data set, as `NAME.npz` or prepared by TensorFlow Datasets.

    Args:
        name: str, the data set's name, such as "cifar10".
        data_dir: str or path of the data sets.

    Raises:
        FileNotFoundError: if there is no such folder, or neither form in it.
    """
    folder = pathlib.Path(data_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {data_dir}; pass the folder of the data sets")
    prepared = folder.joinpath(*name.split(":", 1)[0].split("/"))
    if not (folder / f"{name}.npz").is_file() and not any(prepared.rglob("dataset_info.json")):
        raise FileNotFoundError(
            f"no {name} in {data_dir}: neither {name}.npz nor a folder prepared by TensorFlow Datasets; "
            "docs/datasets.md says how to prepare it"
        )
