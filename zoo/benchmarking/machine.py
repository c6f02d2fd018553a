"""What a benchmark ran on, for its record."""

import importlib.metadata
import os
import platform

from zoo.latency import conditions, cores


def machine() -> dict:
    """Describe this machine: processor, cores, load, memory, backend, device and versions.

    Returns:
        A dictionary.
    """
    import keras

    backend = keras.backend.backend()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    names = ("ensemble-zoo", "keras", backend, "numpy")
    return {
        "processor": _processor(),
        "cores": cores(),
        "cores_of_machine": os.cpu_count(),
        "load_before": load and round(load, 2),
        "memory_gib": _memory(),
        "platform": platform.platform(),
        "backend": backend,
        "device": conditions(),
        "precision": keras.config.dtype_policy().name,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
        "environment": {key: value for key, value in os.environ.items()
                        if key in ("OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")},
    }  # fmt: skip


def in_words(found: dict) -> str:
    """Describe a machine in one line.

    Args:
        found: dict, from `machine`.

    Returns:
        A string.
    """
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    load = "" if found["load_before"] is None else f"; load before the run {found['load_before']}"
    return (
        f"{found['processor']}, {found['cores']} of {found['cores_of_machine']} cores, {found['memory_gib']} GiB; "
        f"{found['device']}, {found['precision']}; Python {found['python']}, {versions}{load}"
    )


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor() or platform.machine()


def _memory():
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
