"""On which devices and machines a run trains: one placement a strategy, behind one interface.

`tf.distribute` is in `tf_strategies.py`, JAX's data parallelism in `jax_data_parallel.py`; here is what they
have in common, training on one device, and what is refused before any step.
"""

import contextlib
import json
import os

import numpy as np

TENSORFLOW = ("mirrored", "multi_worker", "tpu")
STRATEGIES = ("none", *TENSORFLOW, "parameter_server", "data_parallel")


class Placement:
    """Training in one process on one device; other placements override what differs.

    Attributes:
        name: of the strategy.
        replicas: devices of all workers, among which each batch is shared out.
        worker, workers: which process this is, and of how many.
    """

    name = "none"
    replicas = workers = 1
    worker = 0

    @property
    def chief(self):
        """Whether this process writes what there is one of: log, weights, card."""
        return self.worker == 0

    def scope(self):
        """A context in which the model and its optimiser are made."""
        return contextlib.nullcontext()

    def active(self):
        """A context around all of a run."""
        return contextlib.nullcontext()

    def one_device(self):
        """A context, outside `scope`, in which models are made and used by this process alone."""
        return contextlib.nullcontext()

    def lost(self, error):
        """Whether an error says that another worker is gone."""
        return False

    def feed(self, batches):
        """What `fit` takes to train by such batches: data, and steps where the data do not say."""
        return batches.feed()

    def sum(self, array):
        """Sum of a NumPy array of int32 over all workers."""
        return array

    def any(self, flag):
        """Whether a flag is set on any worker: all are asked at the same step."""
        return bool(self.sum(np.array([flag], "int32"))[0])

    def gather(self, row):
        """Integers (n,) of each worker, (workers, n)."""
        rows = np.zeros((self.workers, len(row)), "int32")
        rows[self.worker] = row
        return self.sum(rows)

    def broadcast(self, contents, source):
        """The bytes that the worker `source` has."""
        length = int(self.sum(np.array([len(contents) * (self.worker == source)], "int32"))[0])
        words = np.zeros(-(-length // 4), "int32")
        if self.worker == source:
            words = np.frombuffer(contents.ljust(4 * len(words), b"\0"), "int32")
        return self.sum(words).tobytes()[:length]


def check(placement, recipe, *, steps_per_execution=1, jit_compile="auto", steps=None, **_):
    """Refuse before any step what a placement cannot do exactly, or at all.

    Args:
        placement: a `Placement`.
        recipe: whose batch, accumulation and clipping it must be able to do.
        steps_per_execution, jit_compile: as `compile` takes them, whose other options are no matter here.
        steps: of an epoch.

    Raises:
        ValueError: one line that names the alternative.
    """
    batch, replicas = recipe.batch_size, placement.replicas
    if batch % replicas:
        lower, upper = batch // replicas * replicas, -(-batch // replicas) * replicas
        choice = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(
            f"batch_size={batch} is global and does not divide by {replicas} devices; choose {choice}"
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
            f"is another update than on one device{with_jax} clip by norm exactly"
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


def cluster():
    """(addresses of all workers, index of this one) from TF_CONFIG, or None without it.

    Raises:
        ValueError: for a TF_CONFIG that names no workers, or a task that is not among them.
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
