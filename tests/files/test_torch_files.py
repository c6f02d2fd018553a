"""Tensors of PyTorch's files that claim more numbers than their storage has."""

import numpy as np
import pytest

from zoo.files import torch_files


def test_a_tensor_that_repeats_one_number_beyond_its_storage_is_refused():
    storage = np.arange(6, dtype="<f4")
    tensor = torch_files._Tensor(("<f4", "0"), 0, (2, 3), (3, 1))
    np.testing.assert_array_equal(torch_files._array(tensor, storage), storage.reshape(2, 3))
    with pytest.raises(ValueError, match="larger than its storage"):
        torch_files._array(tensor._replace(shape=(10**12,), strides=(0,)), storage)
