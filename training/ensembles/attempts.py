"""Several workers' attempts at one network: a folder each, and one rename that decides who was first."""

import pathlib
import shutil


def working_folder(parent: pathlib.Path, name: str, attempt: int | str) -> pathlib.Path:
    """Create the folder of an attempt, and move the checkpoint of an earlier attempt into it.

    Args:
        parent: `pathlib.Path` of the folder of all networks.
        name: str, the network.
        attempt: int or str that no other attempt at this network has.

    Returns:
        `pathlib.Path` of the folder.
    """
    folder = parent / f"{name}.attempt{attempt}"
    for earlier in parent.glob(f"{name}.attempt*"):
        try:
            earlier.rename(folder)
            break
        except OSError:  # its worker lives, and has just finished
            continue
    folder.mkdir(exist_ok=True)
    return folder


def publish_folder(folder: pathlib.Path, whole: pathlib.Path) -> None:
    """Rename a complete folder, or delete it if another worker was faster with the same contents.

    Args:
        folder: `pathlib.Path` of an attempt's folder.
        whole: `pathlib.Path` under which the network counts as trained.
    """
    try:
        folder.rename(whole)
    except OSError:
        if not whole.is_dir():
            raise
        shutil.rmtree(folder, ignore_errors=True)
