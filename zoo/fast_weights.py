"""Learning-rate factors of fast weights, under any Keras optimiser."""


def apply_multipliers(optimizer, model, factors=()):
    """Make an optimiser give a model's fast weights their learning-rate factor and no weight decay.

    Which variables are fast, the layers say (`fast_weights`, `fast_weight_lr_multiplier`).  It is the
    learning rate that is multiplied, variable by variable: scaling gradients would do nothing under
    Adam and its kin.  Doing it again changes nothing.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        model: the `keras.Model` it trains, built.
        factors: more (variable, factor of the learning rate) pairs.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    factors = {optimizer._var_key(weight): factor for weight, factor in factors} | {
        optimizer._var_key(weight): layer.fast_weight_lr_multiplier
        for layer in model._flatten_layers()
        for weight in getattr(layer, "fast_weights", ())
    }
    if not factors or hasattr(optimizer, "_applies_multipliers"):
        return
    # Instance attributes, so that any optimiser is served and saved as what it is.
    optimizer._applies_multipliers = True
    decays, step = optimizer._use_weight_decay, optimizer.update_step
    optimizer._use_weight_decay = lambda v: optimizer._var_key(v) not in factors and decays(v)
    if hasattr(optimizer, "_parallel_update_step"):  # PyTorch's steps of all variables at once
        optimizer._parallel_update_step = _by_factor(optimizer, factors)
    else:
        optimizer.update_step = lambda gradient, variable, learning_rate: step(
            gradient, variable, learning_rate * factors.get(optimizer._var_key(variable), 1.0)
        )


def _by_factor(optimizer, factors):
    """The step of many variables, once for each factor, with the learning rate multiplied by it."""
    step = optimizer._parallel_update_step

    def in_groups(gradients, variables, learning_rate):
        groups = {}
        for gradient, variable in zip(gradients, variables):
            group = groups.setdefault(factors.get(optimizer._var_key(variable), 1.0), ([], []))
            group[0].append(gradient)
            group[1].append(variable)
        schedule = getattr(optimizer, "_u_product", None)  # Nadam's, of all variables: one step each
        before = None if schedule is None else schedule + 0
        for factor, (some_gradients, some_variables) in groups.items():
            if before is not None:
                schedule.assign(before)
            step(some_gradients, some_variables, learning_rate * factor)

    return in_groups
