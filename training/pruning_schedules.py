"""Sparsity schedules of TensorFlow Model Optimization (TFMOT), imported without changing `tf.keras`.

The objects are TFMOT's own: `schedule(step)` returns (prune now?, sparsity), which
`zoo.layers.MagnitudePruning` takes on any backend.
"""

import contextlib
import importlib
import os
from typing import Any

LEGACY = "TF_USE_LEGACY_KERAS"
# What TensorFlow calls `keras` there when that variable is set.
_KERAS_2 = {
    "tensorflow": "tf_keras.api._v2.keras",
    "tensorflow.compat.v1": "tf_keras.api._v1.keras",
    "tensorflow.compat.v2": "tf_keras.api._v2.keras",
}


def polynomial_decay(
    initial_sparsity: float,
    final_sparsity: float,
    begin_step: int,
    end_step: int,
    power: float = 3,
    frequency: int = 100,
) -> Any:
    """Return TFMOT's `PolynomialDecay`, in which sparsity grows fast at first and then ever slower.

    From begin_step to end_step, every `frequency` steps, with p = (step - begin) / (end - begin):

        sparsity = final + (initial - final) * (1 - p) ** power.

    Args:
        initial_sparsity: float in [0, 1), the share of zeros at begin_step.
        final_sparsity: float in [0, 1), the share of zeros at end_step.
        begin_step: int >= 0; step 0 is before training.
        end_step: int > begin_step.
        power: float, the exponent. Default: 3.
        frequency: int, steps between two prunings; it must divide end_step - begin_step, or the final
            sparsity would never be reached. Default: 100.

    Returns:
        `tfmot.sparsity.keras.PolynomialDecay`.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if tensorflow-model-optimization is missing; the message tells what to install.

    References:
        Zhu & Gupta, To prune, or not to prune, 2017, arXiv 1710.01878.
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


def constant_sparsity(
    target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
) -> Any:
    """Return TFMOT's `ConstantSparsity`, with which all prunings are to the same sparsity.

    Args:
        target_sparsity: float in [0, 1), the share of zeros.
        begin_step: int >= 0, the first pruning; step 0 is before training.
        end_step: int, the last possible pruning, or -1 for no end. Default: -1.
        frequency: int, steps between two prunings. Default: 100.

    Returns:
        `tfmot.sparsity.keras.ConstantSparsity`.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if tensorflow-model-optimization is missing; the message tells what to install.
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
    """Import TFMOT in this context without changing `tf.keras` or the environment for good.

    TFMOT sets TF_USE_LEGACY_KERAS and then uses `keras` of TensorFlow and of its compat modules.  Each
    is a loader that reads the variable when it is first used, and replaces itself for good by what it
    finds.  So TFMOT gets Keras 2 in place of the loaders, which stay unused and are put back.
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
