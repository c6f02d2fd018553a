"""Initialisers of backbones, which draw nothing for a network whose weights are read from a file."""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

_UNDRAWN: contextvars.ContextVar[Any] = contextvars.ContextVar("undrawn", default=None)


class TooManyKernels(ValueError):
    """A network would have more numbers than its weights file."""


class _Budget:
    """How many numbers kernels may still have."""

    def __init__(self, numbers):
        self.numbers = numbers

    def zeros(self, shape, dtype):
        self.numbers -= math.prod(shape)
        if self.numbers < 0:
            raise TooManyKernels("the network would be larger than its weights")
        return ops.zeros(shape, dtype)


@contextlib.contextmanager
def undrawn(numbers: float = math.inf) -> Iterator[None]:
    """Make `HeNormal` and `PartialIdentity` return zeros within a `with` statement.

    For networks whose weights are loaded right after they are built: drawing kernels takes half of the
    time that building a ResNet-50 takes.

    Args:
        numbers: how many numbers all kernels together may have, those of the weights file, so that a
            manipulated config cannot take more memory than the file. Default: any number.

    Raises:
        TooManyKernels: for a kernel beyond that, before it is made.
    """
    token = _UNDRAWN.set(_Budget(numbers))
    try:
        yield
    finally:
        _UNDRAWN.reset(token)


@keras.saving.register_keras_serializable(package="zoo")
class HeNormal(keras.initializers.HeNormal):
    """Keras's `HeNormal`, a truncated normal distribution of variance 2 / inputs.

    Args:
        seed: int, or None to draw one. Default: None.

    References:
        He et al., 2015, arXiv 1502.01852.
    """

    def __call__(self, shape, dtype=None):
        budget = _UNDRAWN.get()
        return budget.zeros(shape, dtype) if budget else super().__call__(shape, dtype)


@keras.saving.register_keras_serializable(package="zoo")
class PartialIdentity(keras.initializers.VarianceScaling):
    """The first filters of a convolution copy its inputs; the others are uniform in +-1/sqrt(inputs).

    A kernel with fewer filters than inputs has only random filters.

    Args:
        seed: int, or None to draw one. Default: None.

    References:
        Jordan, arXiv 2404.00498, section 3.2 (Dirac initialisation).
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(scale=1 / 3, mode="fan_in", distribution="uniform", seed=seed)

    def __call__(self, shape, dtype=None):
        if budget := _UNDRAWN.get():
            return budget.zeros(shape, dtype)
        kernel = super().__call__(shape, dtype)
        *sizes, inputs, filters = shape
        if filters < inputs:
            return kernel
        identity = np.zeros((*sizes, inputs, inputs), "float32")
        identity[tuple(size // 2 for size in sizes)] = np.eye(inputs)
        identity = ops.convert_to_tensor(identity, kernel.dtype)
        return ops.concatenate([identity, kernel[..., inputs:]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}
