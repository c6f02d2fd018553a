"""What only a fresh process can tell: cold imports, cold loading and peak memory.

    python -P probe.py '{"name": ..., "folder": ..., "batch_size": ..., "train_batch_size": ..., "precision": ...}'

prints one JSON object.  It is run as a file, so that nothing of the zoo is there before the clock starts.
"""

import json
import sys
import time

MIB = 2**20


def main(request: dict) -> None:
    """Measure and print the answer, one JSON object: seconds, and MiB of memory.

    Args:
        request: dict of "name" (str), "folder" (str, of the weights), "batch_size" and "train_batch_size"
            (int) and "precision" (str, default "float32"). Without "name", only imports are measured.
    """
    start = time.perf_counter()
    import keras

    imported = time.perf_counter()
    import zoo

    added = time.perf_counter()
    answer = {"keras_s": imported - start, "zoo_adds_s": added - imported}
    if "name" in request:
        answer |= _of_model(zoo, keras, request, Memory(keras.backend.backend()))
    print(json.dumps(answer))


def _of_model(zoo, keras, request, memory):
    import numpy as np

    precision = request.get("precision", "float32")
    keras.config.set_dtype_policy("mixed_" * (precision in ("bfloat16", "float16")) + precision)
    baseline = memory.now()
    start = time.perf_counter()
    model = zoo.load(request["name"], weights=request["folder"])
    answer = {"load_s": time.perf_counter() - start}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (request["batch_size"], *model.input_shape[1:]), "uint8")
    memory.restart()
    for _ in range(2):
        model.predict_on_batch(images)
    answer["inference_mib"] = memory.peak() - baseline
    answer["inference_gpu_mib"] = memory.gpu_peak()
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True), model.loss)
    count = request["train_batch_size"]
    images = rng.integers(0, 256, (count, *model.input_shape[1:]), "uint8")
    labels = rng.integers(0, model.num_classes, count)
    memory.restart()
    for _ in range(3):
        model.train_on_batch(images, labels)
    return answer | {"train_mib": memory.peak() - baseline, "train_gpu_mib": memory.gpu_peak()}


class Memory:
    """Resident memory of this process and, where there is one, allocated memory of its GPU, in MiB.

    Linux's own high-water mark (VmHWM) begins with this process and can be set back.  `ru_maxrss`, which
    serves elsewhere, is inherited from the parent on Linux and never falls.

    Args:
        backend: str, Keras's backend, whose GPU is meant.
    """

    def __init__(self, backend: str):
        self.backend = backend

    def now(self) -> float:
        """Resident memory."""
        return _status("VmRSS") or self.peak()

    def peak(self) -> float:
        """The most that was resident since `restart`, or at all where that cannot be set back."""
        found = _status("VmHWM")
        if found is not None:
            return found
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB

    def restart(self) -> None:
        """Begin to look for a new peak."""
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass
        if self.backend == "torch":
            import torch

            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
        elif self.backend == "tensorflow":
            import tensorflow as tf

            if tf.config.list_physical_devices("GPU"):
                tf.config.experimental.reset_memory_stats("GPU:0")

    def gpu_peak(self) -> float | None:
        """The most that was allocated on the first GPU, or None; with JAX since the process began."""
        if self.backend == "torch":
            import torch

            return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else None
        if self.backend == "jax":
            import jax

            stats = jax.devices()[0].memory_stats()
            return stats["peak_bytes_in_use"] / MIB if stats else None
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / MIB


def _status(key):
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(key + ":"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024 / MIB


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
