"""PyTorch weights files, read by NumPy alone: nothing in a file is imported or run."""

import collections
import io
import math
import pickle
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import WeightsError, one_line

_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}  # fmt: skip
_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Tensor(NamedTuple):
    """Where in a storage the numbers of a tensor are."""

    storage: tuple
    offset: int
    shape: tuple
    strides: tuple


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and ordered dictionaries; refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *values: _Tensor(*values[:4])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple:
        _, dtype, key, _, _, view = pid
        if view is not None:
            raise pickle.UnpicklingError("it has views of storages")
        return dtype, key


def read_state_dict(content: bytes) -> dict[str, np.ndarray]:
    """Read the weights in a file that `torch.save` wrote in its format of before version 1.6.

    Such a file is a row of pickles (magic number, version, machine, state dictionary, keys of storages), then
    the numbers of each storage. The pickles are read by an unpickler that knows no functions but its own,
    so a file made to run code is refused.

    Args:
        content: bytes, the whole file.

    Returns:
        A dictionary of NumPy arrays by parameter name, in the order of the file.

    Raises:
        WeightsError: a ValueError, for anything but a whole file of this kind.
    """
    file = io.BytesIO(content)
    try:
        magic_number, protocol, _ = (_Unpickler(file).load() for _ in range(3))
        if (magic_number, protocol) != (_MAGIC_NUMBER, _PROTOCOL):
            raise ValueError("it has another format")
        state, keys = _Unpickler(file).load(), _Unpickler(file).load()
        dtypes = {tensor.storage[1]: tensor.storage[0] for tensor in state.values()}
        storages = {key: _storage(file, dtypes[key]) for key in keys}
        return {name: _array(tensor, storages[tensor.storage[1]]) for name, tensor in state.items()}
    except Exception as error:  # what a damaged pickle raises may be anything
        raise WeightsError(
            f"this is not a PyTorch weights file ({one_line(error)}); restore it from its source"
        ) from None


def _storage(file, dtype):
    """The numbers that come next in a file, after their count."""
    count = int.from_bytes(file.read(8), "little")
    numbers = file.read(count * np.dtype(dtype).itemsize)
    if len(numbers) != count * np.dtype(dtype).itemsize:
        raise ValueError("it is truncated")
    return np.frombuffer(numbers, dtype)


def _array(tensor, storage):
    """The numbers of a tensor, checked to lie inside its storage."""
    steps = list(zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if min([tensor.offset, *tensor.shape, *tensor.strides]) < 0 or last >= len(storage):
        raise ValueError("it has a tensor outside its storage")
    if math.prod(tensor.shape) > len(storage):  # by a stride of 0
        raise ValueError("it has a tensor that is larger than its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
    return view.copy()
