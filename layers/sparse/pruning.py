"""Magnitude pruning: the smallest weights of sparse layers are masked, at once or while they train."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.keras_internals import optimizer_slots
from zoo.layers.sparse.densities import check_sparsity
from zoo.layers.sparse.layers import sparse_layers
from zoo.layers.sparse.step_callback import StepCallback
from zoo.layers.sparse.topology import zero_unless

SCOPES = ("global", "layer")


def missing_zeros(masks: list[np.ndarray], sparsity: float) -> int:
    """How many more weights to mask until masks together have a sparsity.

    The target is round(sparsity * size), but at least one weight stays in each layer that has any.

    Args:
        masks: list of boolean arrays.
        sparsity: float S in [0, 1), the share of zeros in all masks together.

    Returns:
        int, negative if there are too many zeros.
    """
    size = sum(mask.size for mask in masks)
    target = min(round(sparsity * size), size - sum(bool(mask.any()) for mask in masks))
    return target - (size - sum(int(mask.sum()) for mask in masks))


def magnitude_masks(
    kernels: list[np.ndarray], masks: list[np.ndarray], sparsity: float
) -> list[np.ndarray]:
    """Masks that together have a sparsity: those given, without the smallest |weight|.

    Args:
        kernels: list of arrays of any shapes.
        masks: list of boolean arrays of those shapes, the connections that exist.
        sparsity: float S in [0, 1), the share of zeros in all masks together.

    Returns:
        List of new masks with exactly round(S * size) zeros, unless there are more already or a layer
        would lose its largest weight, which stays. Of equal weights the first go. A weight that is not a
        number counts as the largest.
    """
    magnitudes = np.concatenate([_magnitudes(*of_layer) for of_layer in zip(kernels, masks)])
    dropped = _smallest(magnitudes, max(0, missing_zeros(masks, sparsity)))
    parts = np.split(dropped, np.cumsum([mask.size for mask in masks])[:-1])
    return [mask & ~part.reshape(mask.shape) for mask, part in zip(masks, parts)]


def _magnitudes(kernel, mask):
    """|weight| of a flat kernel, finite but where no weight can go: not existing ones and the largest."""
    wide = np.abs(kernel.ravel().astype(np.promote_types(kernel.dtype, "float32")))
    wide = np.nan_to_num(wide, copy=False, nan=np.finfo(wide.dtype).max)
    values = np.where(mask.ravel(), wide, -1)
    largest = values.argmax()
    values[values < 0] = np.inf
    values[largest] = np.inf
    return values


def _smallest(values, count):
    """Where the `count` smallest values are, of equal ones the first, so that any machine agrees."""
    if not count:
        return np.zeros(values.shape, bool)
    limit = np.partition(values, count - 1)[count - 1]
    chosen = values < limit
    chosen[np.flatnonzero(values == limit)[: count - int(chosen.sum())]] = True
    return chosen


def prune_by_magnitude(model: keras.Model, sparsity: float, scope: str = "global") -> int:
    """Mask the smallest weights of a model's sparse layers, once.

    Masked weights and all slots that the model's optimiser keeps for them become zero; the others keep
    their values and slots. Layers that are not trainable stay as they are and do not count.

    Args:
        model: `keras.Model` with sparse layers, such as `sparsify(model, 0.0)`; compiled or not.
        sparsity: float S in [0, 1). Afterwards exactly round(S * size) of the weights are zeros,
            including those that were masked before; but the largest weight of a layer always stays.
        scope: str, "global" for the smallest weights of all layers together, so that some layers get
            sparser than others, or "layer" for the same sparsity in each. Default: "global".

    Returns:
        int, the number of weights that were masked.

    Raises:
        ValueError: for a sparsity out of range or below what the model has already, an unknown scope, or
            a model with nothing to mask.

    References:
        Han et al., Learning both Weights and Connections for Efficient Neural Networks, NeurIPS 2015,
        arXiv 1506.02626.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), zoo.layers.SparseDense(10)])
        >>> zoo.layers.prune_by_magnitude(model, sparsity=0.75)
        60
    """
    check_sparsity(sparsity)
    _check_scope(scope)
    _check_not_sparser(_groups(_prunable(model), scope), sparsity)
    return _prune(model, sparsity, scope)


def _prune(model, sparsity, scope):
    total, optimizer = 0, getattr(model, "optimizer", None)
    for group in _groups(_prunable(model), scope):
        masks = _masks(group)
        kernels = [ops.convert_to_numpy(layer.kernel) for layer in group]
        for layer, mask, new in zip(group, masks, magnitude_masks(kernels, masks, sparsity)):
            masked = int(mask.sum()) - int(new.sum())
            if masked:
                layer.mask.assign(new)
                zero_unless(new, [layer.kernel, *optimizer_slots(optimizer, layer.kernel)])
            total += masked
    return total


def _prunable(model):
    layers = [layer for layer in sparse_layers(model) if layer.trainable]
    if not layers:
        raise ValueError(
            f"{model.name} has no trainable sparse layers to prune; make some by zoo.layers.sparsify(model, 0.0)"
        )
    blocked = [layer.name for layer in layers if layer.block_shape]
    if blocked:
        raise ValueError(
            f"{blocked[0]} is masked in blocks, which pruning weight by weight would break; use "
            'zoo.layers.sparsify with criterion="magnitude" and block_shape'
        )
    return layers


def _groups(layers, scope):
    """Layers that share one count of zeros."""
    return [layers] if scope == "global" else [[layer] for layer in layers]


def _masks(layers):
    return [ops.convert_to_numpy(layer.mask) for layer in layers]


def _check_scope(scope):
    if scope not in SCOPES:
        raise ValueError(f"scope must be {' or '.join(SCOPES)}; got {scope!r}")


def _check_not_sparser(groups, sparsity):
    """ValueError where all that can be pruned is sparser already, by more than rounding."""
    masks = [_masks(group) for group in groups]
    if all(missing_zeros(group, sparsity) < -len(group) for group in masks):
        zeros = 1 - np.mean(np.concatenate([mask.ravel() for group in masks for mask in group]))
        raise ValueError(
            f"the model already has sparsity {zeros:.4g}, which is above the requested {sparsity:.4g}"
        )


class MagnitudePruning(StepCallback):
    """A callback that prunes a sparse model while `model.fit` trains it, by a schedule of its sparsity.

        model = zoo.layers.sparsify(trained, 0.0)
        schedule = zoo.training.pruning_schedules.polynomial_decay(0.0, 0.8, 0, 2000)
        model.fit(x, y, callbacks=[zoo.layers.MagnitudePruning(schedule)])

    After each training step at which the schedule asks for it (step 0 is before the first), the smallest
    weights are masked until the share of zeros is the schedule's (see `prune_by_magnitude`). A model
    that is sparser already stays as it is until the schedule catches up. Steps are counted as the
    optimiser counts them, so that a resumed training continues as if it had not stopped.

    Args:
        schedule: function of the step, schedule(step) -> (update?, sparsity), called with an int; a
            `PruningSchedule` of TensorFlow Model Optimization or one of your own. If the number of steps
            is known before training begins, every step is checked then. A float32 sparsity is read as
            the shortest decimal number that it stands for, 0.8 and not 0.800000012.
        scope: str, "global" or "layer", see `prune_by_magnitude`. Default: "global".

    Raises:
        ValueError: before training, for a model with nothing to mask, an unknown scope, or a schedule
            that fails, leaves [0, 1), goes down, ends below the sparsity that the model has, or prunes
            at no step of the training.

    References:
        Zhu & Gupta, To prune, or not to prune, 2017, arXiv 1710.01878.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), zoo.layers.SparseDense(10)])
        >>> model.compile("sgd", "mse")
        >>> pruning = zoo.layers.MagnitudePruning(lambda step: (step % 2 == 0, 0.25 * step / 2))
        >>> x, y = np.ones((16, 8)), np.zeros((16, 10))
        >>> history = model.fit(x, y, batch_size=4, verbose=0, callbacks=[pruning])
        >>> int(keras.ops.convert_to_numpy(zoo.layers.sparse_layers(model)[0].mask).sum())
        40
    """

    def __init__(self, schedule: Callable[[int], tuple[Any, Any]], scope: str = "global") -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                f"schedule must be a function of the step that gives (update?, sparsity); got {schedule!r}"
            )
        _check_scope(scope)
        self.schedule, self.scope = schedule, scope

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        _prunable(model)

    def begin(self, stop: int | None) -> None:
        self.targets: dict[int, float] = {}
        self.asked = 0
        if stop is not None:
            self._ask_until(stop)
            self._check(self.step, stop)
        if self.step == 0:
            self._ask_until(0)
            if 0 in self.targets:
                self.act(0)

    def _ask_until(self, stop):
        """Learn at which steps pruning is due, and to what sparsity."""
        for step in range(self.asked, stop + 1):
            sparsity = self._answer(step)
            if sparsity is not None:
                before = next(reversed(self.targets), step)
                # What is 1e-6 less is the rounding of float32.
                if sparsity < self.targets.get(before, 0) - 1e-6:
                    raise ValueError(
                        f"the pruning schedule goes down, from sparsity {self.targets[before]:.6g} at step "
                        f"{before} to {sparsity:.6g} at step {step}; masked weights do not come back"
                    )
                self.targets[step] = sparsity
            self.asked = step + 1

    def _answer(self, step):
        """The sparsity that is due after a step, checked; None where no pruning is due."""
        try:
            update, sparsity = self.schedule(step)
            sparsity = _number(sparsity) if update else None
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"the pruning schedule fails at step {step}: {reason}") from error
        if sparsity is not None and not 0 <= sparsity < 1:
            raise ValueError(
                f"the pruning schedule asks for sparsity {sparsity!r} at step {step}; it must be in [0, 1)"
            )
        return sparsity

    def _check(self, start, stop):
        """Refuse what would never do anything."""
        if not self.targets:
            raise ValueError(
                f"the pruning schedule prunes at none of the steps 0 to {stop} of the training"
            )
        groups = _groups(_prunable(self.model), self.scope)
        last, final = list(self.targets.items())[-1]
        _check_not_sparser(groups, final)
        unfinished = any(missing_zeros(_masks(group), final) > 0 for group in groups)
        if 0 < start >= last and unfinished:
            raise ValueError(
                f"the pruning schedule ends at step {last}, and training goes on from step {start} of "
                "the optimiser; compile the model again to begin at 0"
            )

    def due(self, before: int, now: int) -> int | None:
        self._ask_until(now)
        return max((step for step in range(before + 1, now + 1) if step in self.targets), default=None)

    def act(self, step: int) -> None:
        _prune(self.model, self.targets[step], self.scope)


def _number(value):
    """A float of a number or of any library's scalar; of float32 the shortest that rounds to it."""
    kind = getattr(value, "dtype", None)
    if kind is not None and keras.backend.standardize_dtype(kind) == "float32":
        return float(str(np.float32(float(value))))
    return float(value)
