"""The identity of a run in a folder that several workers share: they agree on it, or stop."""

import json
import os
import pathlib
import uuid

from zoo.training.loop import identity
from zoo.training.recipes import recorded


def agree(folder: str | os.PathLike, kind: str, this: dict, splits: tuple | None = None) -> str:
    """Record which run a folder holds, or check that it holds this one.

    Args:
        folder: str or path; the folder is created if it does not exist.
        kind: str, the kind of run, such as "search"; it names the file.
        this: dict of all that decides the run besides its data, JSON-serialisable.
        splits: (training, held out, test) from `load_splits`, whose images and labels must be the same
            for all workers. Default: None, nothing is compared.

    Returns:
        str, a name that all workers of the run share.

    Raises:
        ValueError: if the folder holds another run.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    this = _complete(json.loads(json.dumps(this)))
    data = identity.of_splits(splits) if splits else {}
    path, draft = folder / f"{kind}.json", folder / f"{kind}.{uuid.uuid4().hex}"
    if (folder / "config.json").exists() and not path.exists():
        raise ValueError(f"{folder} holds another run; choose another --output_dir")
    study = f"{kind}-{uuid.uuid4().hex[:12]}"  # one database may serve many runs
    draft.write_text(json.dumps({"study": study, **this, "data": data}, indent=1) + "\n")
    try:
        os.link(draft, path)  # fails where there is one, so that one worker alone begins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    there = _complete(json.loads(path.read_text()))
    if splits and "data" not in there:
        raise ValueError(
            f"{folder} holds a {kind} of an earlier version, which does not say its data; choose another "
            "--output_dir"
        )
    changed = next((key for key, value in this.items() if there.get(key) != value), None)
    # Other images may change what follows from them, such as the ranges of a search.
    if changed != "recipe":
        identity.check(folder, there.get("data", {}), data)
    if changed is not None:
        raise ValueError(
            f"{folder} holds a {kind} with another {_difference(changed, there.get(changed), this[changed])}; "
            "choose another --output_dir"
        )
    return there["study"]


def _complete(run):
    return {**run, "recipe": recorded(run["recipe"])} if "recipe" in run else run


def _difference(key, old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        field = next(name for name in {**old, **new} if old.get(name) != new.get(name))
        return f"{field} ({old.get(field)}, not {new.get(field)})"
    return f"{key} ({old}, not {new})"
