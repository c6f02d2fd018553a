"""Weights files of sparse networks: a bit for each position of a masked kernel, and its unmasked values.

A file is a plain `.npz`.  Weight i of the network (masks are not counted) is in it as one-dimensional
arrays named after i and the weight:

    0003.kernel.shape   its shape; left out of vectors
    0003.kernel.mask    of a masked kernel, one bit a place (`numpy.packbits`), in C order
    0003.kernel.values  what the mask leaves, or all of it: float16, vectors (biases, ...) float32

An array that does not fit into a file continues in the next.  Nothing is compressed, so that the same
weights always give the same bytes; zlib would save another 15 to 30 %, but differs between versions.
"""

import glob
import io
import math
import pathlib
import re
import zipfile

import keras
import numpy as np
from keras import ops

from zoo.errors import WeightsError, one_line
from zoo.files.json_files import check_regular
from zoo.layers import sparse_layers

SUFFIX = ".weights.npz"
_ENTRY = re.compile(r"\d{4,9}\.\w{1,100}\.(shape|mask|values)\.npy", re.ASCII)
_DTYPES = {"shape": ("int32", "int64"), "mask": ("uint8",)}


def write(network: keras.Model, folder: pathlib.Path, shard_bytes: int) -> None:
    """Write `model.weights.npz`, or `model_00000.weights.npz` and so on.

    Kernels are rounded to float16, except one with a number beyond its range (65504), which stays
    float32. Masked values are not stored.

    Args:
        network: a `keras.Model` with sparse layers.
        folder: path of an existing folder.
        shard_bytes: int, about the largest size of a file, in bytes.
    """
    shards = list(_shards(_arrays(network), shard_bytes))
    for index, shard in enumerate(shards):
        number = f"_{index:05d}" if len(shards) > 1 else ""
        np.savez(folder / f"model{number}{SUFFIX}", allow_pickle=False, **shard)


def assign(network: keras.Model, arrays: dict[str, np.ndarray], path: pathlib.Path, name: str) -> None:
    """Give a network with the same masked kernels the weights that `read` found.

    Args:
        network: a `keras.Model`, whose masks and weights are replaced.
        arrays: dict of arrays by name, from `read`.
        path: path of the file, for messages.
        name: str, the model's name, for messages.

    Raises:
        WeightsError: for anything but finite weights of this architecture; the network is not changed.
    """
    weights = _weights(network)
    _check_fit(_described(arrays, path), weights, path, name)
    values = {}
    for key, (weight, mask) in weights.items():
        places = _places(arrays, key, weight, path)
        if mask is not None:
            values[id(mask)] = places
        values[id(weight)] = _restored(arrays[f"{key}.values"], places)
    network.set_weights([values[id(weight)] for weight in network.weights])


def _weights(network):
    """{key: (variable, its mask or None)}, in the network's order."""
    masks = {id(layer.kernel): layer.mask for layer in sparse_layers(network)}
    of_masks = {id(mask) for mask in masks.values()}
    others = [weight for weight in network.weights if id(weight) not in of_masks]
    return {f"{i:04d}.{weight.name}": (weight, masks.get(id(weight))) for i, weight in enumerate(others)}


def _arrays(network):
    """Name and content of every array of a file."""
    for key, (weight, mask) in _weights(network).items():
        value = ops.convert_to_numpy(weight)
        if value.ndim != 1:
            yield f"{key}.shape", np.array(value.shape, "int32")
        if mask is not None:
            mask = ops.convert_to_numpy(mask)
            yield f"{key}.mask", np.packbits(mask)
        existing = value.ravel() if mask is None else value[mask]
        yield f"{key}.values", _rounded(existing, weight)


def _rounded(values, weight):
    if not keras.backend.is_float_dtype(weight.dtype):
        return values
    values = values.astype("float32")  # bfloat16 is not one of NumPy's own types
    if len(weight.shape) < 2:
        return values
    with np.errstate(over="ignore"):
        half = values.astype("float16")
    return half if np.array_equal(np.isinf(half), np.isinf(values)) else values


def _shards(arrays, shard_bytes):
    """{name: array} of every file."""
    shard, room = {}, shard_bytes
    for name, array in arrays:
        while array.nbytes > room:
            first, array = np.split(array, [room // array.itemsize])
            yield {**shard, name: first}
            shard, room = {}, shard_bytes
        shard[name] = array
        room -= array.nbytes
    yield shard


def parts_of(path: pathlib.Path) -> list[pathlib.Path]:
    """List the files that belong together with one of them.

    Args:
        path: path of a weights file, or of one of several.

    Returns:
        List of paths, in order; the path alone if its name has no number.
    """
    found = re.fullmatch(rf"(.*)_\d{{5}}{re.escape(SUFFIX)}", path.name)
    if not found:
        return [path]
    return sorted(path.parent.glob(f"{glob.escape(found[1])}_[0-9][0-9][0-9][0-9][0-9]{SUFFIX}"))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read a file, or all files of a set, without NumPy's loader: no object is ever unpickled.

    Args:
        path: path of the file, or of one of several.

    Returns:
        A dictionary of one-dimensional arrays by name, of finite numbers, together no larger than the
        files.

    Raises:
        WeightsError: for files that are incomplete or whose checksums are wrong.
    """
    arrays: dict[str, list] = {}
    for part in parts_of(path):
        size = check_regular(part, kind="weights file")
        try:
            for key, array in _arrays_in(part, size):
                arrays.setdefault(key, []).append(array)
        except WeightsError as error:
            raise WeightsError(f"{part}: {error}; restore it, or make it by zoo.weights.write") from None
        except Exception as error:  # zipfile and NumPy raise many kinds for a damaged archive
            raise WeightsError(
                f"{part} is not a complete weights file ({one_line(error)}); restore it from its source"
            ) from None
    try:
        return {key: np.concatenate(several) for key, several in arrays.items()}
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} has parts that do not fit ({one_line(error)}); restore it") from None


def _arrays_in(path, size):
    """Name and array of every entry of an archive, whose headers are read before any content."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise WeightsError("it has two entries of one name")
        if sum(entry.file_size for entry in entries) > size:
            raise WeightsError("it would be larger when unpacked than it is, which weights never are")
        for entry in entries:
            found = _ENTRY.fullmatch(entry.filename)
            if not found or entry.compress_type != zipfile.ZIP_STORED:
                raise WeightsError(
                    f"it holds other arrays than weights, such as {entry.filename[:60]!r}"
                )
            yield entry.filename.removesuffix(".npy"), _array(archive.read(entry), found[1])


def _array(content, kind):
    """The array of a `.npy` file, from its header and as many bytes as that says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise WeightsError(f"an array has the format {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    known = _DTYPES.get(kind, ())
    if (
        dtype.hasobject
        or len(shape) != 1
        or (known and dtype.name not in known)
        or dtype.kind not in "fiub"
    ):
        raise WeightsError(f"it holds other arrays than weights: {kind} of {dtype} and shape {shape}")
    array = np.frombuffer(content, dtype, offset=file.tell())
    if array.shape != shape:
        raise WeightsError(f"an array of shape {shape} has {len(array)} numbers")
    if not np.isfinite(array).all():
        raise WeightsError("it holds NaN or infinite weights")
    return array


def shapes_in(arrays: dict[str, np.ndarray], path: pathlib.Path) -> list[tuple]:
    """List the full shapes of the weights in a file, masked positions included.

    Args:
        arrays: dict of arrays by name, from `read`.
        path: path of the file, for messages.

    Returns:
        A list of tuples.
    """
    return [shape for shape, _ in _described(arrays, path).values()]


def _described(arrays, path):
    """{key: (shape, whether it is masked)} of a file's arrays."""
    kinds = {}
    for name in arrays:
        key, _, kind = name.rpartition(".")
        kinds.setdefault(key, set()).add(kind)
    described = {}
    for key, has in kinds.items():
        if not {"values"} <= has <= {"values", "shape", "mask"}:
            raise WeightsError(
                f"{path} holds other arrays than weights, such as {key!r}; make it by zoo.weights.write"
            )
        shape = arrays[f"{key}.shape"].tolist() if "shape" in has else [len(arrays[f"{key}.values"])]
        if min(shape, default=1) < 0 or len(shape) > 8:
            raise WeightsError(f"{path} is damaged: {key} has the shape {shape}; restore it")
        described[key] = tuple(shape), "mask" in has
    return described


def _check_fit(stored, weights, path, name):
    """ValueError where a file's weights are not those of a network."""
    wanted = {key: (tuple(weight.shape), mask is not None) for key, (weight, mask) in weights.items()}
    for key in sorted(stored.keys() | wanted.keys()):
        (shape, _), (other, _) = (weights.get(key, ("none", False)) for weights in (stored, wanted))
        if shape != other:
            raise WeightsError(
                f"{path} holds {len(stored)} weights, {name} has {len(wanted)}; {key} has the shapes {shape} "
                f"and {other}: build the model with the arguments that the weights were trained with"
            )
    if stored != wanted:
        counts = [sum(is_masked for _, is_masked in weights.values()) for weights in (stored, wanted)]
        raise WeightsError(mismatch(path, counts[0], name, counts[1]))


def mismatch(path: pathlib.Path, stored: int, name: str, wanted: int) -> str:
    """Return the message about a file with other masks than the model.

    Args:
        path: path of the file.
        stored: int, the masked kernels in the file.
        name: str, the model's name.
        wanted: int, the masked kernels of the model.

    Returns:
        A string.
    """
    holds, takes = (f"masks of {n} kernels" if n else "a dense network" for n in (stored, wanted))
    return (
        f"{path} holds {holds}, {name} is made for {takes}; load it into a model of its own kind, then "
        "use zoo.layers.sparsify or zoo.layers.densify"
    )


def _places(arrays, key, weight, path):
    """Where a weight has values: boolean, of its shape."""
    values, size = arrays[f"{key}.values"], math.prod(weight.shape)
    bits = arrays.get(f"{key}.mask")
    if bits is None:
        bits = np.packbits(np.ones(size, bool))
    places = np.unpackbits(bits) if bits.dtype == np.uint8 else np.zeros(0, "uint8")
    if keras.backend.is_float_dtype(weight.dtype):
        types = ("float16", "float32", *(["float64"] if weight.dtype == "float64" else []))
    else:
        types = (str(weight.dtype),)
    floats = values.dtype.isnative and values.dtype.name in types
    fits = len(bits) == -(-size // 8) and not places[size:].any() and places.sum() == len(values)
    if not (fits and floats):
        raise WeightsError(
            f"{path} is damaged: {key} has {len(values)} {values.dtype} values and {places.sum()} of {size} "
            "places for them; restore it from its source"
        )
    return places[:size].reshape(weight.shape).astype(bool)


def _restored(values, places):
    """Values at their places, zeros elsewhere; halves as the float32 that they are in a network."""
    whole = np.zeros(places.shape, "float32" if values.dtype == np.float16 else values.dtype)
    whole[places] = values
    return whole
