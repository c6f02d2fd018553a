"""He's initialiser, which draws nothing for a network whose weights are read from a file at once."""

import contextlib
import contextvars

import keras
from keras import ops

_UNDRAWN = contextvars.ContextVar("undrawn", default=False)


@contextlib.contextmanager
def undrawn():
    """Kernels made by `HeNormal` within are zeros: half of the time that building a ResNet-50 takes."""
    token = _UNDRAWN.set(True)
    try:
        yield
    finally:
        _UNDRAWN.reset(token)


@keras.saving.register_keras_serializable(package="zoo")
class HeNormal(keras.initializers.HeNormal):
    """Keras's `HeNormal`: a truncated normal of variance 2 / inputs (He et al., 2015, arXiv 1502.01852).

    Args:
        seed: an integer, or None for one of its own.
    """

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype) if _UNDRAWN.get() else super().__call__(shape, dtype)
