"""Data parallelism on JAX: each batch is spread over the devices of one process or several."""

import contextlib
import os

import jax
import keras
import numpy as np

from zoo.training.devices.placement import Placement, cluster


def place(num_devices: int | None) -> "JaxPlacement":
    """Return the placement "data_parallel".

    Args:
        num_devices: int or None, devices of this process, as in `zoo.training.devices.choose.place`.

    Returns:
        A `JaxPlacement`.

    Raises:
        ValueError: if JAX has fewer devices than that in this process.
    """
    if num_devices and not _has_accelerator():
        try:
            jax.config.update("jax_num_cpu_devices", num_devices)
        except RuntimeError:
            pass  # JAX is at work already; what it has is counted below
    found = cluster()
    if found:
        addresses, worker = found  # not by Keras's function, which imports TensorFlow
        jax.distributed.initialize(addresses[0], len(addresses), worker)
    elif int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        jax.distributed.initialize()  # knows SLURM's variables
    local = jax.local_devices()
    if num_devices and len(local) != num_devices:
        if len(local) < num_devices or jax.process_count() > 1:
            raise ValueError(f"num_devices={num_devices}, but JAX has {len(local)} in this process")
        local = local[:num_devices]
    return JaxPlacement(local if jax.process_count() == 1 else jax.devices())


def _has_accelerator():
    """Whether JAX will find something faster than the CPU, without starting it."""
    return "cpu" not in os.environ.get("JAX_PLATFORMS", "cpu") or any(
        os.path.exists(path) for path in ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0")
    )


class JaxPlacement(Placement):
    """Data parallelism by `keras.distribution.DataParallel`.

    Args:
        devices: list of JAX devices, of this process or of all processes.
    """

    name = "data_parallel"

    def __init__(self, devices: list):
        self.worker, self.workers = jax.process_index(), jax.process_count()
        self.replicas = len(devices)
        names = [f"{device.platform}:{device.id}" for device in devices]
        self.distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)

    def active(self) -> contextlib.AbstractContextManager:
        return _distributed_by(self.distribution)

    def one_device(self) -> contextlib.AbstractContextManager:
        return _distributed_by(None)

    def lost(self, error: Exception) -> bool:
        return self.workers > 1 and isinstance(error, jax.errors.JaxRuntimeError)

    def sum(self, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array, "int32")
        if self.workers == 1 or not array.size:
            return array
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array)).sum(axis=0, dtype="int32")


@contextlib.contextmanager
def _distributed_by(distribution):
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
