"""Placements of `tf.distribute`: several devices of one machine, several machines, or a TPU."""

import contextlib
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.training.devices.placement import Placement, cluster


def place(name: str, num_devices: int | None) -> "StrategyPlacement":
    """Return the placement of a strategy of `tf.distribute`.

    Args:
        name: "mirrored", "multi_worker" or "tpu".
        num_devices: int or None, devices of this machine, as in `zoo.training.devices.choose.place`.

    Returns:
        A `StrategyPlacement`.

    Raises:
        ValueError: if the machine, TensorFlow or the cluster does not have these devices.
    """
    return {"mirrored": _mirrored, "multi_worker": _multi_worker, "tpu": _tpu}[name](num_devices)


class StrategyPlacement(Placement):
    """Training under a `tf.distribute.Strategy`, on one worker or several.

    Args:
        name: str, the name of the strategy.
        strategy: `tf.distribute.Strategy`.
        worker: int, the index of this process. Default: 0.
        workers: int, the number of processes. Default: 1.
    """

    def __init__(self, name: str, strategy: tf.distribute.Strategy, worker: int = 0, workers: int = 1):
        self.name, self.strategy = name, strategy
        self.worker, self.workers = worker, workers
        self.replicas = strategy.num_replicas_in_sync
        self._sum = tf.function(self._sum_over_replicas, reduce_retracing=True)

    def scope(self) -> contextlib.AbstractContextManager:
        return self.strategy.scope()

    def lost(self, error: Exception) -> bool:
        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
                tf.errors.InternalError, tf.errors.DeadlineExceededError)  # fmt: skip
        return self.workers > 1 and isinstance(error, gone)

    def feed(self, batches: Any) -> dict:
        """Distribute the batches: each device gets its contiguous part of each global batch.

        This is not `experimental_distribute_dataset`: its automatic sharding would give workers other
        images than one device sees in the same step.

        Args:
            batches: batches with a method `dataset` and a length.

        Returns:
            dict of keyword arguments of `fit`.
        """
        local = self.replicas // self.workers
        feed = self.strategy.distribute_datasets_from_function(lambda context: batches.dataset(local))
        return {"x": feed, "steps_per_epoch": len(batches)}

    def sum(self, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array, "int32")
        if self.workers == 1 or not array.size:
            return array
        summed = self.strategy.experimental_local_results(self._sum(tf.constant(array)))[0]
        return summed.numpy()

    def _sum_over_replicas(self, array):
        def of_replica():
            context = tf.distribute.get_replica_context()
            local = self.replicas // self.workers
            first = context.replica_id_in_sync_group % local == 0  # or each device would count
            return context.all_reduce("SUM", array if first else tf.zeros_like(array))

        return self.strategy.run(of_replica)


def _mirrored(num_devices):
    gpus = tf.config.list_physical_devices("GPU")
    count = num_devices or len(gpus) or 1
    if gpus:
        if count > len(gpus):
            raise ValueError(f"num_devices={count}, but this machine has {len(gpus)} GPUs")
        devices = [f"GPU:{index}" for index in range(count)]
    else:
        _divide_cpu(count)
        devices = [f"CPU:{index}" for index in range(count)]
    return StrategyPlacement("mirrored", tf.distribute.MirroredStrategy(devices))


def _divide_cpu(count):
    """Make `count` logical devices of the CPU."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:  # TensorFlow is at work already
        present = len(tf.config.list_logical_devices("CPU"))
        if present < count:
            raise ValueError(
                f"num_devices={count}, but TensorFlow has started with {present} logical CPUs in this process"
            ) from None


def _multi_worker(num_devices):
    gpus = tf.config.list_physical_devices("GPU")
    if num_devices and num_devices > max(len(gpus), 1):
        have = f"{len(gpus)} GPUs" if gpus else "no GPU: its CPU is one device"
        raise ValueError(f"num_devices={num_devices}, but this machine has {have}")
    if num_devices and gpus:
        tf.config.set_visible_devices(gpus[:num_devices], "GPU")
    if cluster() is None:
        os.environ["TF_CONFIG"] = _slurm()
    addresses, worker = cluster()
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(f"no multi-worker strategy: {str(error).splitlines()[0]}") from None
    return StrategyPlacement("multi_worker", strategy, worker, len(addresses))


def _slurm():
    """TF_CONFIG of a task that srun started, by TensorFlow's reading of SLURM's variables."""
    if "SLURM_PROCID" not in os.environ:
        raise ValueError(
            "--strategy=multi_worker finds its workers by TF_CONFIG or, started by srun, by SLURM's variables; "
            "neither is set. For one machine take --strategy=mirrored"
        )
    try:
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=int(os.environ.get("ZOO_PORT", 8888)), auto_set_gpu=False,
            gpus_per_node=tasks, gpus_per_task=1,  # whatever there is: SLURM itself hands out GPUs
        )  # fmt: skip
        workers = resolver.cluster_spec().as_dict()["worker"]
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"SLURM's variables name no workers ({error}); start by srun") from None
    return json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": resolver.task_id}}
    )


def _tpu(num_devices):
    if num_devices is not None:
        raise ValueError("--strategy=tpu takes all cores of its TPU; leave --num_devices out")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except Exception as error:  # each way of not finding one has an error of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"no TPU found ({reason}); set TPU_NAME, or on JAX take --strategy=data_parallel"
        ) from None
    return StrategyPlacement("tpu", tf.distribute.TPUStrategy(resolver))
