"""Random damage to files: bytes, JSON values, arrays of HDF5 and `.npz` files, entries of archives."""

import copy
import io
import json
import struct
import zipfile
import zlib

import h5py
import numpy as np

HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 1 << 30, 0, 1, 0xFFFF)
VALUES = (
    None, True, False, -1, 0, 1, 2, 7, 10**6, 10**9, 10**30, -(10**18), 1.5, -0.5, 1e9, 1e300, float("nan"),
    float("inf"), "", "x", "nan", "../../../etc/passwd", "/proc/kmsg", "a\nb", "\x1b[31m", "x" * 5000, [], {},
    [1], [[1.0, 2.0]], [None], {"x": 1}, {"": {}}, ["model.weights.h5"], [1e9] * 3,
)  # fmt: skip


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, half of the time among the first two thousand, or cut, repeat or insert some."""
    content = bytearray(content)
    size = max(len(content), 1)
    at = int(rng.integers(min(size, 2048) if rng.random() < 0.5 else size))
    length = int(rng.integers(1, 1 + min(64, size)))
    kind = rng.integers(8)
    if kind <= 2:
        for place in rng.integers(at, min(at + 512, size), rng.integers(1, 5)):
            if place < len(content):
                content[place] ^= 1 << rng.integers(8)
    elif kind == 3:
        content[at : at + length] = rng.bytes(length)
    elif kind == 4:
        del content[at:]
    elif kind == 5:
        del content[at : at + length]
    elif kind == 6:
        content[at:at] = content[at : at + length]
    else:
        number = struct.pack("<Q" if rng.random() < 0.5 else "<I", int(rng.choice(HUGE)))
        content[at : at + len(number)] = number
    return bytes(content)


def damage_json(text: str, rng: np.random.Generator) -> str:
    """Replace, remove or add one to three values anywhere in a JSON document; once in ten, damage its bytes."""
    if rng.random() < 0.1:
        return damage(text.encode(), rng).decode("latin-1")
    document = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        holders = list(_holders(document))
        if not holders:
            break
        holder = holders[rng.integers(len(holders))]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        value = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        kind = rng.integers(6)
        if kind == 0 and isinstance(holder, dict):
            holder[f"key{rng.integers(9)}"] = value
        elif kind == 0:
            holder.append(value)
        elif not keys:
            continue
        elif kind == 1:
            del holder[keys[rng.integers(len(keys))]]
        else:
            holder[keys[rng.integers(len(keys))]] = value
    return json.dumps(document)


def _holders(value):
    if isinstance(value, (dict, list)):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)


def damage_h5(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one array, link or attribute of an HDF5 file, whose checksums and structure stay right."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as root:
        names = []
        root.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        if not names:
            return content
        name = names[rng.integers(len(names))]
        change = H5_CHANGES[rng.integers(len(H5_CHANGES))]
        change(root, name, root[name][()], rng)
    return file.getvalue()


def _replaced(make):
    def change(root, name, value, rng):
        del root[name]
        make(root, name, value, rng)

    return change


def _with(convert):
    return _replaced(
        lambda root, name, value, rng: root.create_dataset(name, data=convert(value))
    )  # fmt: skip


def _spoiled(number):
    def change(root, name, value, rng):
        if value.dtype.kind == "f" and value.size:
            value = value.copy()
            value.flat[int(rng.integers(value.size))] = number
            root[name][...] = value

    return change


def _huge(root, name, value, rng):
    shape = (10 ** int(rng.integers(6, 12)), *value.shape[1:])
    root.create_dataset(name, shape, "float32", chunks=True, compression="gzip")


def _virtual(root, name, value, rng):
    layout = h5py.VirtualLayout(value.shape, value.dtype)
    layout[...] = h5py.VirtualSource("/proc/self/maps", "x", value.shape)
    root.create_virtual_dataset(name, layout)


def _external(root, name, value, rng):
    root.create_dataset(
        name, value.shape, value.dtype, external=[("/etc/passwd", 0, max(value.nbytes, 1))]
    )  # fmt: skip


H5_CHANGES = (
    *(_with(lambda v, kind=kind: v.astype(kind)) for kind in
      ("int32", "int8", "float64", "complex64", "bool", "float16", ">f4")),
    _with(lambda v: v.astype("S8")),
    _with(lambda v: np.zeros(v.shape, [("a", "f4"), ("b", "f4")])),
    _with(lambda v: v.reshape(-1)),
    _with(lambda v: v[..., None]),
    _with(lambda v: v.reshape(-1)[:0]),
    _with(lambda v: 3.0),
    *map(_spoiled, (np.nan, np.inf, -np.inf, 6e4)),
    _replaced(lambda root, name, value, rng: None),
    _replaced(lambda root, name, value, rng: root.create_group(name)),
    _replaced(lambda root, name, value, rng: root.__setitem__(name, h5py.SoftLink("/" + name))),
    _replaced(lambda root, name, value, rng: root.__setitem__(name, h5py.ExternalLink("/etc/passwd", "x"))),
    _replaced(lambda root, name, value, rng: root.__setitem__(name, root["/"])),
    _replaced(lambda root, name, value, rng: root.create_dataset(
        name, data=np.array(["a"] * max(value.size, 1), object), dtype=h5py.string_dtype())),
    _replaced(_huge),
    _replaced(_virtual),
    _replaced(_external),
    lambda root, name, value, rng: root.__setitem__(name + "9", value),
    lambda root, name, value, rng: root[name].attrs.__setitem__("dtype", "bfloat16"),
    lambda root, name, value, rng: root.move(name.split("/")[0], "other"),
)  # fmt: skip


def damage_archive(content: bytes, rng: np.random.Generator, entry_damage) -> bytes:
    """Write an archive again with one entry changed, its checksums right.

    Args:
        content: bytes of a zip file.
        rng: `np.random.Generator`.
        entry_damage: function (name, bytes, rng) that returns bytes, or None to leave the entry out.

    Returns:
        bytes.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = int(rng.integers(len(entries)))
    method = int(rng.choice([0] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for i, (name, entry) in enumerate(entries):
            if i == chosen:
                kind = rng.integers(6)
                if kind == 0:
                    name = ("../" + name, "/" + name, name * 2, entries[0][0])[rng.integers(4)]
                elif kind == 1:
                    entry += bytes(1 << 26)
                else:
                    entry = entry_damage(name, entry, rng)
            if entry is not None:
                archive.writestr(name, entry)
    return target.getvalue()


def damage_array(name: str, content: bytes, rng: np.random.Generator) -> bytes | None:
    """Change an array of NumPy's file format."""
    array = np.load(io.BytesIO(content))
    kind = rng.integers(9)
    if kind == 0:
        return None
    if kind == 1:
        return damage(content, rng)
    if kind == 2:
        shape = str((10 ** int(rng.integers(3, 14)),))
        header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}}}\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content[128:]
    if kind == 3:
        array = array.astype(str(rng.choice(["int32", "float64", "complex64", "S4", "bool", "uint8"])))
    if kind == 4:
        array = np.array([{}] * len(array), object)
    if kind == 5 and array.dtype.kind == "f" and array.size:
        array[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    if kind == 6:
        array = array[None]
    if kind == 7:
        array = array[1:]
    if kind == 8:
        array = np.resize(array, 10 ** int(rng.integers(0, 7)))
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def bomb(size: int) -> bytes:
    """Return `size` zero bytes, deflated."""
    return zlib.compress(bytes(size))
