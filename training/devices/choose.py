"""Choose the placement of a run by the name of its strategy."""

import keras

from zoo.training.devices.placement import STRATEGIES, TENSORFLOW, Placement


def place(strategy: str = "none", num_devices: int | None = None) -> Placement:
    """Return the placement of a strategy, before anything is computed.

    Args:
        strategy: str. "none": one device. "mirrored": all devices of one machine. "multi_worker":
            several machines, each started with the same command and found by TF_CONFIG or SLURM's
            variables. "tpu": all cores of a TPU. "data_parallel", on JAX: one process or several.
            Default: "none".
        num_devices: int or None, the number of devices of this machine. None takes all GPUs, or else one
            CPU. A CPU is divided into that many logical devices. Default: None.

    Returns:
        A `Placement`.

    Raises:
        ValueError: if the backend or the strategy cannot do this; the message names the alternative.
    """
    backend = keras.backend.backend()
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}; got {strategy!r}")
    if num_devices is not None and num_devices < 1:
        raise ValueError(f"num_devices must be at least 1; got {num_devices}")
    if strategy == "parameter_server":
        raise ValueError(
            "parameter servers update asynchronously, so no two runs agree, and Keras 3's fit cannot use "
            "them; take --strategy=multi_worker, which is exact"
        )
    if strategy == "none":
        if num_devices not in (None, 1):
            alternative = "data_parallel" if backend == "jax" else "mirrored"
            raise ValueError(f"num_devices={num_devices} needs --strategy={alternative}")
        return Placement()
    needed = "tensorflow" if strategy in TENSORFLOW else "jax"
    if backend != needed:
        others = {"tensorflow": "mirrored or multi_worker", "jax": "data_parallel"}.get(backend, "none")
        raise ValueError(
            f"--strategy={strategy} needs KERAS_BACKEND={needed}; with {backend} there is --strategy={others}"
        )
    if needed == "jax":
        from zoo.training.devices import jax_data_parallel

        return jax_data_parallel.place(num_devices)
    from zoo.training.devices import tf_strategies

    return tf_strategies.place(strategy, num_devices)
