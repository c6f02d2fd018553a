"""Learning-rate factors of fast weights, under any Keras optimiser."""

from typing import Any

from zoo.layers import keras_internals
from zoo.layers.keras_internals import variable_key


def apply_multipliers(optimizer: Any, model: Any, factors: Any = ()) -> None:
    """Make an optimiser give a model's fast weights their learning-rate factor and no weight decay.

    Layers say which variables are fast (`fast_weights`, `fast_weight_lr_multiplier`). The learning rate
    is multiplied, variable by variable, because scaling gradients has no effect under Adam and similar
    optimisers. Repeating the call changes nothing.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        model: the `keras.Model` it trains, built.
        factors: further (variable, factor of the learning rate) pairs. Default: none.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    factors = {variable_key(optimizer, weight): factor for weight, factor in factors} | {
        variable_key(optimizer, weight): layer.fast_weight_lr_multiplier
        for layer in keras_internals.flatten_layers(model)
        for weight in getattr(layer, "fast_weights", ())
    }
    if not factors or hasattr(optimizer, "zoo_applies_multipliers"):
        return
    # Instance attributes, so that any optimiser is served and saved as what it is.
    optimizer.zoo_applies_multipliers = True
    keras_internals.exempt_from_weight_decay(optimizer, factors)
    parallel, step = keras_internals.parallel_update_step(optimizer), optimizer.update_step
    if parallel is not None:
        by_factor = _by_factor(optimizer, factors, parallel)
        keras_internals.set_parallel_update_step(optimizer, by_factor)
    else:
        optimizer.update_step = lambda gradient, variable, learning_rate: step(
            gradient, variable, learning_rate * factors.get(variable_key(optimizer, variable), 1.0)
        )


def _by_factor(optimizer, factors, step):
    """The step of many variables, once for each factor, with the learning rate multiplied by it."""

    def in_groups(gradients, variables, learning_rate):
        groups = {}
        for gradient, variable in zip(gradients, variables):
            group = groups.setdefault(factors.get(variable_key(optimizer, variable), 1.0), ([], []))
            group[0].append(gradient)
            group[1].append(variable)
        schedule = keras_internals.nadam_schedule(optimizer)  # for all variables: one step each
        before = None if schedule is None else schedule + 0
        for factor, (some_gradients, some_variables) in groups.items():
            if before is not None:
                schedule.assign(before)
            step(some_gradients, some_variables, learning_rate * factor)

    return in_groups
