"""The devices and machines that a run trains on, behind one interface.

This module has the interface, training on one device, and the checks made before the first step.
`tf_strategies.py` has the strategies of `tf.distribute`, `jax_data_parallel.py` JAX's data parallelism.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo.training.recipes import Recipe

TENSORFLOW = ("mirrored", "multi_worker", "tpu")
STRATEGIES = ("none", *TENSORFLOW, "parameter_server", "data_parallel")


class Placement:
    """Training in one process on one device, and the interface of all other placements.

    Attributes:
        name: str, the strategy.
        replicas: int, the devices of all workers together; each batch is split over them.
        worker: int, the index of this process.
        workers: int, the number of processes.
    """

    name = "none"
    replicas = workers = 1
    worker = 0

    @property
    def chief(self) -> bool:
        """Whether this process writes the files that exist once: log, weights, and card."""
        return self.worker == 0

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context in which the model and its optimiser are created."""
        return contextlib.nullcontext()

    def active(self) -> contextlib.AbstractContextManager:
        """Return the context that surrounds the whole run."""
        return contextlib.nullcontext()

    def one_device(self) -> contextlib.AbstractContextManager:
        """Return a context, outside `scope`, for models that this process alone creates and uses."""
        return contextlib.nullcontext()

    def lost(self, error: Exception) -> bool:
        """Tell whether an error means that another worker is gone.

        Args:
            error: Exception that training raised.

        Returns:
            bool.
        """
        return False

    def feed(self, batches: Any) -> dict:
        """Return the arguments by which `fit` trains on batches.

        Args:
            batches: iterable of training batches, as `Split.shuffled` of `zoo.data` returns.

        Returns:
            dict of keyword arguments: the data, and the steps of an epoch if the data do not tell.
        """
        return batches.feed()

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Add up an array over all workers.

        Args:
            array: int32 array of the same shape on all workers.

        Returns:
            int32 array of that shape.
        """
        return array

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set on any worker; all workers must call this at the same step.

        Args:
            flag: bool, this worker's flag.

        Returns:
            bool.
        """
        return bool(self.sum(np.array([flag], "int32"))[0])

    def gather(self, row: Sequence[int]) -> np.ndarray:
        """Collect the same number of integers from each worker.

        Args:
            row: sequence of n integers, this worker's.

        Returns:
            int32 array (workers, n).
        """
        rows = np.zeros((self.workers, len(row)), "int32")
        rows[self.worker] = row
        return self.sum(rows)

    def broadcast(self, contents: bytes, source: int) -> bytes:
        """Send bytes from one worker to all.

        Args:
            contents: bytes to send; ignored on the other workers.
            source: int, the index of the worker that sends.

        Returns:
            bytes, those of the worker `source`.
        """
        length = int(self.sum(np.array([len(contents) * (self.worker == source)], "int32"))[0])
        words = np.zeros(-(-length // 4), "int32")
        if self.worker == source:
            words = np.frombuffer(contents.ljust(4 * len(words), b"\0"), "int32")
        return self.sum(words).tobytes()[:length]


def check(
    placement: Placement,
    recipe: Recipe,
    *,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
    steps: int | None = None,
    **_: Any,
) -> None:
    """Refuse, before the first step, whatever a placement cannot do exactly or at all.

    Args:
        placement: `Placement`.
        recipe: `zoo.training.recipes.Recipe`, for its batch size, accumulation and clipping.
        steps_per_execution: int, `compile`'s argument; other options of `compile` are accepted and
            ignored. Default: 1.
        jit_compile: bool or "auto", `compile`'s argument. Default: "auto".
        steps: int or None, steps of an epoch; None skips the check of `steps_per_execution`. Default:
            None.

    Raises:
        ValueError: with one line that names the alternative.
    """
    batch, replicas = recipe.batch_size, placement.replicas
    if batch % replicas:
        lower, upper = batch // replicas * replicas, -(-batch // replicas) * replicas
        choice = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(
            f"batch_size={batch} is global and not divisible by {replicas} devices; choose {choice}"
        )
    if placement.name not in TENSORFLOW or replicas == 1:
        return
    with_jax = "; KERAS_BACKEND=jax --strategy=data_parallel can"
    if recipe.accumulate > 1:
        raise ValueError(
            f"--strategy={placement.name} cannot accumulate gradients (Keras merges them inside a "
            f"condition){with_jax}"
        )
    if recipe.clip_norm:
        raise ValueError(
            f"--strategy={placement.name} would clip each device's gradient before they are added up, which "
            f"differs from one device's update{with_jax} clip by norm exactly"
        )
    if jit_compile is True and placement.name != "tpu":
        raise ValueError(
            f"--strategy={placement.name} cannot compile with XLA: variables lie on several devices; leave "
            f"--jit_compile out{with_jax}, it always compiles"
        )
    if steps and steps % steps_per_execution:
        fits = [n for n in range(1, 2 * steps_per_execution + 1) if steps % n == 0]
        nearest = min(fits, key=lambda n: abs(n - steps_per_execution))
        raise ValueError(
            f"under --strategy={placement.name} steps_per_execution={steps_per_execution} must divide the "
            f"{steps} steps of an epoch; {nearest} does"
        )


def cluster() -> tuple[list[str], int] | None:
    """Read the workers of a run from TF_CONFIG.

    Returns:
        (addresses of all workers, index of this worker), or None if TF_CONFIG is not set.

    Raises:
        ValueError: if TF_CONFIG names no workers, or a task that is not among them.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        names = [(job, index) for job in ("chief", "worker") for index in range(len(jobs.get(job, ())))]
        addresses = [jobs[job][index] for job, index in names]
        return addresses, names.index((task["type"], int(task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": '
            f'"worker", "index": 0}}}}, with a task of the cluster ({error}); got {text}'
        ) from None
