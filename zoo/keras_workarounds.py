"""Workarounds for faults of Keras's trainer under `tf.distribute`, switched off by Keras's version.

Each fault has a minimal reproduction in `docs/keras_bugs/`; tests run them against the installed Keras
and fail as soon as one is fixed.  Then set `FIXED_IN`, and later delete this file.

1. `fit` under MultiWorkerMirroredStrategy: the symbolic build reduces a nest of per-replica values, and
   the mean over workers is taken along an axis that scalar logs do not have (keras #20585).
2. `fit` under several replicas whose number does not divide the first batch: the same reduction.
3. `steps_per_execution` > 1 under several replicas: "You must feed a value for placeholder" (keras
   #19246).
4. Gradient accumulation under several replicas: "merge_call called while defining a new graph"; and
   clipping by norm silently clips each replica's gradient before the sum.  Both are refused.
5. Loss scaling (float16) looks for overflow in the first replica's gradient only: an overflow on another
   replica reaches the weights.
"""

from typing import TYPE_CHECKING

import keras

from zoo.layers.keras_internals import distribute_strategy, in_multi_worker_mode, symbolic_build

FIXED_IN = None  # a version such as (3, 18), when Keras has mended all of them


def needed(version: str = keras.__version__) -> bool:
    """Tell whether a version of Keras has the faults.

    Args:
        version: str, such as "3.15.1". Default: the installed one.

    Returns:
        A bool.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return FIXED_IN is None or numbers < FIXED_IN


class _Unchanged:
    """Keras as it is."""


class _TensorFlowTrainer:
    """A mix-in before `keras.Model` on TensorFlow."""

    @property
    def _replicas(self):
        strategy = distribute_strategy(self)
        return 1 if strategy is None else strategy.num_replicas_in_sync

    # Keras's private method, checked on 3.15.1: an override has to stand in the class itself.
    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = distribute_strategy(self)
        if strategy is None or iterator is None:
            return super()._maybe_symbolic_build(iterator, data_batch)
        for _, _, batches in iterator:
            # One replica's part has the right shapes: nothing needs to be reduced.
            data_batch = keras.tree.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], next(batches)
            )
            break
        with strategy.scope():
            symbolic_build(self, data_batch)

    def train_step(self, data):
        return self._reducible(super().train_step(data))

    def test_step(self, data):
        return self._reducible(super().test_step(data))

    def _reducible(self, logs):
        """Logs with the axis along which Keras takes means over workers."""
        import tensorflow as tf

        strategy = distribute_strategy(self)
        several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if not (several and in_multi_worker_mode(strategy)):
            return logs
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}

    def make_train_function(self, force=False):
        _refuse(self.optimizer, self._replicas)
        _look_everywhere_for_overflow(self.optimizer, self._replicas)
        if self._replicas == 1 or self.steps_per_execution == 1:
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = _inner_loop(self)


def _refuse(optimizer, replicas):
    """ValueError for what Keras's optimisers do wrongly on several replicas."""
    if replicas == 1 or optimizer is None:
        return
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    accumulates = (optimizer.gradient_accumulation_steps or 1) > 1
    clips = optimizer.clipnorm is not None or optimizer.global_clipnorm is not None
    if accumulates or clips:
        what = "gradients cannot be accumulated" if accumulates else "clipping by norm is another update"
        raise ValueError(
            f"{what} on {replicas} replicas of tf.distribute; leave it out, or train on one device or by "
            "keras.distribution.DataParallel with KERAS_BACKEND=jax"
        )


def _look_everywhere_for_overflow(optimizer, replicas):
    """Make a LossScaleOptimizer skip a step in which the gradient of any replica overflows."""
    if (
        replicas == 1
        or not hasattr(optimizer, "check_finite")
        or hasattr(optimizer, "zoo_looks_everywhere")
    ):
        return
    import tensorflow as tf

    check = optimizer.check_finite

    def on_all(gradients):
        overflows = 1.0 - tf.cast(check(gradients), "float32")
        return tf.distribute.get_replica_context().all_reduce("SUM", overflows) == 0

    optimizer.zoo_looks_everywhere = True
    optimizer.check_finite = on_all


def _inner_loop(model):
    """A train function of several steps in one graph, on all replicas."""
    import tensorflow as tf

    strategy, steps = model.distribute_strategy, model.steps_per_execution
    step = tf.autograph.experimental.do_not_convert(model.train_step)

    @tf.function
    def function(iterator):
        for _ in tf.range(steps - 1):
            strategy.run(step, args=(next(iterator),))
        logs = strategy.run(step, args=(next(iterator),))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return function


affected = keras.backend.backend() == "tensorflow" and needed()
if TYPE_CHECKING:  # a base class that is chosen at run time is none to type checkers
    TrainsUnderStrategies = _Unchanged
else:
    TrainsUnderStrategies = _TensorFlowTrainer if affected else _Unchanged
