"""The headers of Keras weights files, read and compared before any number is.

HDF5 can do much that weights never need: links and data in other files, virtual and compressed arrays, arrays that
claim more room than the file has. Keras itself loads some of that; here all is refused.
"""

import pathlib
from typing import NamedTuple

import h5py
import numpy as np

from zoo.errors import WeightsError, one_line
from zoo.files.json_files import check_regular

MOST_OBJECTS = 200_000
OTHER_STATE = ("optimizer", "metrics", "_metrics", "compile")  # not of the network


class Header(NamedTuple):
    """A file's header of one array: its path, shape and type ("float64", or "float" if narrower)."""

    name: str
    shape: tuple
    kind: str


def headers(path: pathlib.Path) -> list[Header]:
    """Read the shape and type of every weight in a file.

    Args:
        path: path of a `.weights.h5` file.

    Returns:
        A list of `Header`s. State of an optimiser is left out.

    Raises:
        WeightsError: for anything but a complete weights file.
        MissingWeightsError: for no file.
    """
    size = check_regular(path, kind="weights file")
    try:
        with h5py.File(path, "r") as file:
            found: list[tuple] = []
            _walk(file, "", found, set())
            shapes = [Header(name, item.shape, _kind(name, item)) for name, item in found]
            needed = sum(item.nbytes for _, item in found)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; restore it from its source") from None
    except Exception as error:  # h5py raises nearly anything for a damaged file
        raise WeightsError(
            f"{path} is not a complete weights file ({one_line(error)}); restore it from its source"
        ) from None
    if needed > size:
        raise WeightsError(f"{path} says that it holds {needed:,} bytes of weights and has {size:,}; restore it "
                           "from its source")  # fmt: skip
    return [header for header in shapes if not header.name.startswith(OTHER_STATE)]


def _walk(group, prefix, found, seen):
    """All arrays below a group; nothing but plain groups and plain arrays, each there once."""
    for key in group:
        name = f"{prefix}{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise WeightsError(f"{name[:80]!r} links to something else")
        item = group[key]
        place = h5py.h5o.get_info(item.id).addr
        if place in seen:
            raise WeightsError(f"{name[:80]!r} is in it twice")
        seen.add(place)
        if len(seen) > MOST_OBJECTS:
            raise WeightsError(f"it holds more than {MOST_OBJECTS:,} objects")
        if isinstance(item, h5py.Group):
            _walk(item, f"{name}/", found, seen)
        elif isinstance(item, h5py.Dataset):
            _check_array(name, item)
            found.append((name, item))
        else:
            raise WeightsError(f"{name[:80]!r} is not an array")


def _check_array(name, item):
    if item.is_virtual or item.external:
        raise WeightsError(f"{name[:80]!r} has its numbers in another file")
    if item.compression or item.shuffle or item.fletcher32 or item.scaleoffset:
        raise WeightsError(f"{name[:80]!r} is compressed, which weights never are")
    if item.shape is None:
        raise WeightsError(f"{name[:80]!r} is empty")


def _kind(name, item):
    """The type of an array, "float" for each that a float32 variable takes."""
    if item.attrs.get("dtype") == "bfloat16" and item.dtype.itemsize == 2:
        return "float"
    if item.dtype.kind not in "fbiu" or item.dtype.byteorder == ">":
        raise WeightsError(f"{name[:80]!r} holds {item.dtype}, not numbers of a network")
    return "float" if item.dtype in (np.float16, np.float32) else item.dtype.name
