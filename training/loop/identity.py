"""The identity of a run's data and folder, so that another run does not resume it by mistake."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not noticed
    fcntl = None

_NAMED = {
    "backend": "on another backend",
    "classes": "with other classes",
    "training": "on other training images or labels",
    "held_out": "with other held-out images",
    "test": "with other test images",
}


def of_splits(splits: tuple) -> dict:
    """Return what identifies the data of a run.

    Args:
        splits: (training, held out, test), from `load_splits`.

    Returns:
        {part: the number of images and the sha256 of images and labels, or of a stream's description}.
    """
    return {name: _of_split(split) for name, split in zip(("training", "held_out", "test"), splits)}


def _of_split(split):
    digest = hashlib.sha256()
    for array in (getattr(split, "images", None), getattr(split, "labels", None)):
        if isinstance(array, np.ndarray):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    digest.update(f"{tuple(split.image_shape)}".encode())
    return f"{len(split)} images {digest.hexdigest()}"


def check(folder: pathlib.Path, there: dict, this: dict) -> None:
    """Check that a folder's run has the same data as this one.

    Args:
        folder: path of the folder.
        there: dict, from `of_splits`, of the folder's run.
        this: dict, from `of_splits`, of this run.

    Raises:
        ValueError: naming the first difference.
    """
    for name in this:
        if there.get(name) != this[name]:
            had, has = (str(made.get(name)).split(" images ")[0] for made in (there, this))
            had, has = (had, has) if had != has else ("other ones", f"the {has} of now")
            raise ValueError(
                f"{folder} holds a run {_NAMED.get(name, name)} ({had}, not {has}); check --data_dir, --limit "
                "and --held_out, or choose another --output_dir"
            )


@contextlib.contextmanager
def alone_in(folder: pathlib.Path) -> Iterator[None]:
    """A context in which no other process of this machine may train in a folder.

    The operating system releases the folder when the process ends, for whatever reason.

    Args:
        folder: path of an existing folder.

    Raises:
        ValueError: if another process is there already.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process trains in {folder}; wait for it, or choose another --output_dir"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def trim_log(path: pathlib.Path, epochs: int) -> None:
    """Drop the lines of a `log.csv` that a run will write again, and incomplete lines.

    Args:
        path: path of the file; it may be missing.
        epochs: int, whole epochs that the checkpoint has seen.
    """
    from zoo import files

    if not path.is_file():
        return
    header, *lines = path.read_text(errors="replace").splitlines(keepends=True) or [""]
    kept = {}
    for line in lines:
        epoch = line.split(",", 1)[0]
        if epoch.isdigit() and int(epoch) < epochs and line.endswith("\n"):
            kept[int(epoch)] = line
    whole = header if header.endswith("\n") else ""
    files.replace(path, whole + "".join(kept[epoch] for epoch in sorted(kept)) if whole else "")
