"""Models timed side by side: `interleaved` calls that take turns, and `latencies`, built on it."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

BATCH_SIZES = (1, 32)


def timed(call: Callable[[], Any]) -> Callable[[], tuple[float, float]]:
    """Return a function that makes a call and measures it.

    Args:
        call: function without arguments.

    Returns:
        A function without arguments that returns (wall, CPU) seconds; CPU of all threads of this
        process.
    """

    def measure():
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        return time.perf_counter() - wall, time.process_time() - cpu

    return measure


def interleaved(calls: Mapping, rounds: int, seconds: float, least: int = 3) -> dict:
    """Time calls that take turns, so that other load on the machine affects all of them alike.

    A round is one call of each. Compile and warm up before.

    Args:
        calls: {key: function without arguments that returns (wall, CPU) seconds}, see `timed`.
        rounds: int, the largest number of rounds.
        seconds: float, the time after which no further round begins.
        least: int, rounds that are made in any case, unless `rounds` is less. Default: 3.

    Returns:
        {key: float array (rounds made, 2) of wall and CPU seconds}.

    Example:
        >>> from zoo import latency
        >>> times = latency.interleaved({"nothing": latency.timed(lambda: None)}, rounds=5, seconds=60)
        >>> times["nothing"].shape
        (5, 2)
    """
    times, start = {key: [] for key in calls}, time.perf_counter()
    for done in range(rounds):
        if done >= least and time.perf_counter() - start > seconds:
            break
        for key, call in calls.items():
            times[key].append(call())
    return {key: np.array(values) for key, values in times.items()}


def latencies(
    models: Mapping[str, Any],
    images: Any = None,
    rounds: int = 20,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 3.0,
) -> dict[str, dict[int, float]]:
    """Measure the milliseconds of a call of each model, by batch size: the median over rounds.

    A call is `model.predict_on_batch`, from NumPy images to the NumPy average of the members, so it
    includes the way to the device and back. All models are measured in this process, one call of each
    after the other in every round (`interleaved`); compilation and warm-up (two calls of each before the
    first round) are not counted. Times from different machines, backends or numbers of threads cannot be
    compared.

    Args:
        models: {name: `keras.Model`} with inputs (B, H, W, C).
        images: array (N, H, W, C) that all models take, repeated as often as a batch needs. Default:
            None, uint8 images of each model's own shape, drawn at random.
        rounds: int >= 1, timed calls of each model and batch size. Default: 20.
        batch_sizes: ints >= 1, images per call. Default: (1, 32).
        seconds: float, the time per model after which no further round begins; three rounds are always
            made. Default: 3.

    Returns:
        {name: {batch size: milliseconds}}.

    Raises:
        ValueError: for no models, rounds or batch sizes below 1, or images of another shape.
    """
    if not (isinstance(models, Mapping) and models):
        raise ValueError("latencies takes {name: model} with at least one model")
    for what, values in (("rounds", [rounds]), ("batch sizes", batch_sizes)):
        if not values or min(values) < 1:
            raise ValueError(f"{what} must be at least 1; got {', '.join(map(str, values)) or 'none'}")
    calls = {
        (name, size): _call(model, _batch(name, model, images, size))
        for size in batch_sizes
        for name, model in models.items()
    }
    for _ in range(2):
        for call in calls.values():
            call()
    times = interleaved(calls, rounds, seconds * len(models))
    return {
        name: {size: float(np.median(times[name, size][:, 0]) * 1e3) for size in batch_sizes}
        for name in models
    }


def _call(model, batch):
    return timed(lambda: model.predict_on_batch(batch))


def conditions() -> str:
    """Describe what latencies were measured on: backend, device and the cores of this process."""
    import keras

    device = str(keras.ops.zeros(1).device).rsplit("device:")[-1]
    device = "the CPU" if "cpu" in device.lower() else device
    return f"{keras.backend.backend()} on {device}, {cores()} CPU core{'s' * (cores() != 1)}"


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _batch(name, model, images, size):
    shape = tuple(model.input_shape[1:])
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (size, *shape), "uint8")
    images = np.asarray(images)
    if images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"{name} takes images (N, {', '.join(map(str, shape))}), N >= 1; got {images.shape}"
        )
    return np.resize(images, (size, *shape))
