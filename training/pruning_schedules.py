"""Sparsity schedules of TensorFlow Model Optimization, without what importing it does to `tf.keras`.

The objects are TFMOT's own: `schedule(step)` gives (prune now?, sparsity), as `zoo.layers.MagnitudePruning`
takes it, on any backend.
"""

import contextlib
import importlib
import os

LEGACY = "TF_USE_LEGACY_KERAS"
# What TensorFlow calls `keras` there when that variable is set.
_KERAS_2 = {
    "tensorflow": "tf_keras.api._v2.keras",
    "tensorflow.compat.v1": "tf_keras.api._v1.keras",
    "tensorflow.compat.v2": "tf_keras.api._v2.keras",
}


def polynomial_decay(initial_sparsity, final_sparsity, begin_step, end_step, power=3, frequency=100):
    """TFMOT's `PolynomialDecay`: fast at first, then ever slower.

    From begin_step to end_step, every `frequency` steps, with p = (step - begin) / (end - begin):

        sparsity = final + (initial - final) * (1 - p) ** power.

    Args:
        initial_sparsity, final_sparsity: in [0, 1).
        begin_step, end_step: 0 <= begin_step < end_step; step 0 is before training.
        power: of the decay.
        frequency: must divide end_step - begin_step, or the final sparsity would never be reached.

    Returns:
        A `tfmot.sparsity.keras.PolynomialDecay`.

    Raises:
        ValueError: for arguments out of range.
        ImportError: without tensorflow-model-optimization, with what to install.

    Reference: Zhu & Gupta, To prune, or not to prune, 2017, arXiv 1710.01878.
    """
    if not begin_step < end_step:
        raise ValueError(
            f"begin_step must be less than end_step; got begin_step={begin_step}, end_step={end_step}"
        )
    if frequency > 0 and (end_step - begin_step) % frequency:
        raise ValueError(
            f"frequency={frequency} must divide end_step - begin_step = {end_step - begin_step}, "
            f"or sparsity {final_sparsity} is never reached"
        )
    return _schedule(
        "PolynomialDecay", initial_sparsity=initial_sparsity, final_sparsity=final_sparsity,
        begin_step=begin_step, end_step=end_step, power=power, frequency=frequency,
    )  # fmt: skip


def constant_sparsity(target_sparsity, begin_step, end_step=-1, frequency=100):
    """TFMOT's `ConstantSparsity`: one sparsity from begin_step to end_step, every `frequency` steps.

    Args:
        target_sparsity: in [0, 1).
        begin_step: from 0, which is before training.
        end_step: -1 goes on for ever.
        frequency: steps between two prunings.

    Returns:
        A `tfmot.sparsity.keras.ConstantSparsity`.

    Raises:
        ValueError, ImportError: as `polynomial_decay`.
    """
    return _schedule(
        "ConstantSparsity", target_sparsity=target_sparsity, begin_step=begin_step, end_step=end_step,
        frequency=frequency,
    )  # fmt: skip


def _schedule(name, **arguments):
    with _without_side_effects():
        from tensorflow_model_optimization.sparsity import keras as schedules
    try:
        return getattr(schedules, name)(**arguments)
    except ValueError as error:  # which does not say what it was given
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"{error}; got {name}({given})") from error


@contextlib.contextmanager
def _without_side_effects():
    """Import TFMOT in here, and `tf.keras` and the environment are afterwards what they were.

    TFMOT sets TF_USE_LEGACY_KERAS and then uses `keras` of TensorFlow and of its compat modules.  Each is a
    loader that reads the variable when it is first used, and puts what it finds in its own place for
    good.  So TFMOT gets Keras 2 in the place of the loaders, which stay unused and are put back.
    """
    try:
        # Before the variable is set, since these modules read it as they are imported.
        modules = [importlib.import_module(name) for name in _KERAS_2]
        stand_ins = [importlib.import_module(name) for name in _KERAS_2.values()]
        before, legacy = [vars(module).get("keras") for module in modules], os.environ.get(LEGACY)
        try:
            for module, keras in zip(modules, stand_ins):
                module.keras = keras
            yield
        finally:
            for module, keras in zip(modules, before):
                module.keras = keras
            os.environ.pop(LEGACY, None)
            if legacy is not None:
                os.environ[LEGACY] = legacy
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ImportError(
            f"pruning schedules need TensorFlow Model Optimization ({reason}); "
            "run: pip install tensorflow tensorflow-model-optimization tf-keras setuptools"
        ) from error
