"""Attempts at a network by several workers: one folder each, and one rename that settles who was first."""

import shutil


def working_folder(parent, name, attempt):
    """An attempt's folder, with the checkpoint of the last attempt, which it is taken away from.

    Args:
        parent: folder of all networks.
        name: of the network.
        attempt: a number or word that no other attempt at it has.
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


def appear(folder, whole):
    """Rename a folder that is complete, unless another worker was faster, with the same contents."""
    try:
        folder.rename(whole)
    except OSError:
        if not whole.is_dir():
            raise
        shutil.rmtree(folder, ignore_errors=True)
