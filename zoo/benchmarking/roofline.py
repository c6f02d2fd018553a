"""How near a model comes to what its device can do: peaks measured there, and work counted from layers."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.latency import timed

LONG = 0.03  # seconds a call must take for its clock, and what starts it, not to matter
CHAIN = 4


def peaks() -> dict[str, float]:
    """Measure the device's best rates, in the compute dtype of Keras's policy.

    Returns:
        {"flops": FLOP/s of products of square matrices, "bytes": bytes/s of reading or of copying a
        vector}.
    """
    dtype = keras.config.dtype_policy().compute_dtype
    return {
        "flops": _rate(_product, [2**k for k in range(9, 15)], dtype),
        "bytes": max(_rate(move, [2**k for k in range(22, 29)], dtype) for move in (_reading, _copying)),
    }


def training_work(cost: Any, batch_size: int) -> tuple[float, float]:
    """Return the least FLOPs and bytes of a training step.

    Every activation that the backward pass needs is written once and read twice, forward and backward;
    weights are read in both, gradients written, and the optimiser reads weight, momentum and gradient
    and writes the first two.

    Args:
        cost: a `zoo.step_cost.StepCost`.
        batch_size: int >= 1, images per step.

    Returns:
        (FLOPs, bytes).
    """
    needed = 3 * cost.activation_bytes * batch_size + 8 * cost.gradient_bytes
    return cost.training_flops * batch_size, needed


def nearest_limit(
    work: tuple[float, float], seconds: float, found: dict[str, float]
) -> tuple[str, float]:
    """Return the limit that would stop a faster program first.

    Args:
        work: (FLOPs, bytes).
        seconds: float, the time that it took.
        found: dict, from `peaks`.

    Returns:
        ("arithmetic" or "memory", the share of that limit that is used).
    """
    shares = {
        "arithmetic": work[0] / found["flops"] / seconds,
        "memory": work[1] / found["bytes"] / seconds,
    }
    return max(shares.items(), key=lambda item: item[1])


def _rate(work, sizes, dtype):
    """Work a second of the fastest call, of the first size that is long enough."""
    for size in sizes:
        amount, call = work(size, dtype)
        call()
        fastest = min(timed(call)()[0] for _ in range(5))
        if fastest > LONG:
            break
    return amount / fastest


def _product(size, dtype):
    matrix = ops.full((size, size), 1 / size, dtype)

    def call():
        x = matrix
        for _ in range(CHAIN):
            x = ops.matmul(x, matrix)
        return _wait(x[0, 0])

    return CHAIN * 2 * size**3, call


def _reading(size, dtype):
    vector = ops.ones((size,), dtype)
    return size * _bytes(dtype), lambda: _wait(ops.max(vector))


def _copying(size, dtype):
    vector = ops.ones((size,), dtype)
    return 2 * size * _bytes(dtype), lambda: _wait((vector + 1)[0])


def _bytes(dtype):
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _wait(scalar):
    return np.asarray(ops.convert_to_numpy(ops.cast(scalar, "float32")))
