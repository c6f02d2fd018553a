"""The precision of new models: Keras's dtype policy for a while."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """A context that sets Keras's dtype policy; half precision keeps float32 weights.

    Args:
        name: str, a dtype; "bfloat16" and "float16" mean Keras's mixed policies.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{name}" if name in ("bfloat16", "float16") else name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
