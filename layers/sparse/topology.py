"""Dynamic sparse training: connections are dropped and grown while a sparse model trains."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count, check_number
from zoo.layers.keras_internals import optimizer_slots
from zoo.layers.sparse import block_masks
from zoo.layers.sparse.dense_gradients import dense_gradients
from zoo.layers.sparse.layers import sparse_layers
from zoo.layers.sparse.step_callback import StepCallback

GROWTH = ("set", "rigl", "momentum")


def cosine_drop(
    initial: float = 0.3, end_step: int = 25_000, final: float = 0.0
) -> Callable[[int], float]:
    """A schedule for `TopologyUpdates`: the drop fraction falls from `initial` to `final` by a half cosine.

    r(t) = final + (initial - final) / 2 * (1 + cos(pi * t / end_step)), and `final` from end_step on.
    FreeTickets' code for ImageNet anneals from 0.5 to 0.005.

    Args:
        initial: float in [0, 1], the fraction at step 0. Default: 0.3.
        end_step: int >= 1, the step at which the fraction has reached `final`. Default: 25 000.
        final: float in [0, 1]. Default: 0.0.

    Returns:
        A function of the step that returns a float.

    Raises:
        ValueError: for fractions outside [0, 1] or end_step < 1.

    References:
        Evci et al., Rigging the Lottery, ICML 2020, arXiv 1911.11134.

    Example:
        >>> schedule = zoo.layers.cosine_drop(initial=0.4, end_step=100)
        >>> [round(schedule(step), 3) for step in (0, 50, 100)]
        [0.4, 0.2, 0.0]
    """
    check_fraction(initial, "initial")
    check_fraction(final, "final")
    check_number(end_step, "end_step", ">= 1", lambda step: step >= 1)
    return lambda step: (
        final + (initial - final) / 2 * (1 + math.cos(math.pi * min(step / end_step, 1.0)))
    )


def check_fraction(value: Any, name: str) -> None:
    """Check that a value is a number in [0, 1].

    Args:
        value: float.
        name: str, what the error message calls it.

    Raises:
        ValueError: if it is not.
    """
    check_number(value, name, "a number in [0, 1]", lambda share: 0 <= share <= 1)


def drop_and_grow(
    kernel: np.ndarray, mask: np.ndarray, drop_fraction: float, scores: np.ndarray | None = None,
    rng: np.random.Generator | None = None, block_shape: tuple[int, int] | None = None,
) -> tuple:  # fmt: skip
    """New connections of one layer, as many as before.

    Of n connections the k = floor(drop_fraction * n) with the smallest |weight| are dropped. Then k grow
    among all places that are free, including those just dropped: where |score| is largest, or at random.

    Args:
        kernel: array of any shape, the weights.
        mask: boolean array of that shape.
        drop_fraction: float in [0, 1].
        scores: array of that shape, such as gradients; None grows at random. Default: None.
        rng: `numpy.random.Generator` for random growth, or None for an unseeded one. Default: None.
        block_shape: (outputs, inputs) of blocks that are dropped and grown whole, by their mean |weight| and
            mean |score|; n and k then count blocks. Default: None.

    Returns:
        (new mask, kept): kept are the connections that were never dropped; the others of the new mask are
        grown.
    """
    if block_shape is not None:
        kernel, mask = block_masks.means(kernel, block_shape), block_masks.of_mask(mask, block_shape)
        scores = None if scores is None else block_masks.means(scores, block_shape)
        moved = drop_and_grow(kernel, mask, drop_fraction, scores, rng)
        return tuple(block_masks.spread(of_blocks, block_shape) for of_blocks in moved)
    active = np.flatnonzero(mask)
    count = math.floor(drop_fraction * active.size + 1e-9)
    if not count:
        return mask.copy(), mask.copy()
    smallest = np.argpartition(np.abs(kernel.ravel()[active]), count - 1)[:count]
    kept = mask.ravel().copy()
    kept[active[smallest]] = False
    free = np.flatnonzero(~kept)
    if scores is None:
        grown = (rng or np.random.default_rng()).choice(free, count, replace=False, shuffle=False)
    else:
        grown = free[np.argpartition(-np.abs(scores.ravel()[free]), count - 1)[:count]]
    new = kept.copy()
    new[grown] = True
    return new.reshape(mask.shape), kept.reshape(mask.shape)


def update_topology(
    model: keras.Model, drop_fraction: float, scores: list | None = None, *, seed: int = 0,
    reset_dense_layers: bool = False,
) -> int:  # fmt: skip
    """Drop and grow connections in every sparse layer of a model, once.

    Grown weights start at zero, including one that was dropped and grows again, and all slots that the
    model's optimiser keeps for dropped and grown weights are set to zero. Kept weights keep values and slots,
    and each layer keeps its number of connections. Layers that are not trainable stay as they are.

    Args:
        model: `keras.Model` with sparse layers, compiled or not.
        drop_fraction: float r in [0, 1], the share of each layer's connections (see `drop_and_grow`).
        scores: list of arrays, one per sparse layer in the order of `sparse_layers`, as `dense_gradients`
            gives them; None grows at random. Default: None.
        seed: int, seed of random growth. Default: 0.
        reset_dense_layers: bool. Layers whose mask is all ones are left alone; True zeroes their smallest
            weights instead, as FreeTickets' code does. Default: False.

    Returns:
        int, the number of connections that were dropped, which is also the number grown.

    Raises:
        ValueError: for a fraction out of range or a model without sparse layers.

    References:
        Mocanu et al., 2018, arXiv 1707.04780 (random growth); Evci et al., ICML 2020, arXiv 1911.11134
        (by gradient). That regrown weights start at zero is FreeTickets' choice; RigL's code gives them
        the values they had.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), zoo.layers.SparseDense(10, sparsity=0.5)])
        >>> zoo.layers.update_topology(model, drop_fraction=0.25)
        10
    """
    check_fraction(drop_fraction, "drop_fraction")
    layers = sparse_layers(model)
    if not layers:
        raise ValueError(f"{model.name} has no sparse layers; make some by zoo.layers.sparsify")
    optimizer, total = getattr(model, "optimizer", None), 0
    for index, layer in enumerate(layers):
        mask = ops.convert_to_numpy(layer.mask)
        if not layer.trainable or (mask.all() and not reset_dense_layers):
            continue
        kernel = ops.convert_to_numpy(layer.kernel)
        rng = np.random.default_rng([seed, index])
        given = None if scores is None else scores[index]
        new, kept = drop_and_grow(kernel, mask, drop_fraction, given, rng, layer.block_shape)
        dropped = int(mask.sum()) - int(kept.sum())
        if dropped:
            layer.mask.assign(new)
            zero_unless(kept, [layer.kernel, *optimizer_slots(optimizer, layer.kernel)])
        total += dropped
    return total


def zero_unless(kept: np.ndarray, variables: list) -> None:
    """Set variables to zero where a mask is False.

    Args:
        kept: boolean array.
        variables: list of `keras.Variable` of its shape.
    """
    kept = ops.convert_to_tensor(kept)
    for variable in variables:
        value = ops.convert_to_tensor(variable)
        variable.assign(ops.where(kept, value, ops.zeros((), value.dtype)))


class TopologyUpdates(StepCallback):
    """A callback that trains connections along with weights: SET, RigL or growth by momentum.

        model = zoo.layers.sparsify(model, 0.8)
        model.fit(x, y, callbacks=[zoo.layers.TopologyUpdates("rigl", (x, y), every=100)])

    After every `every`-th training step before `end_step`, each layer drops its smallest weights and grows as
    many connections (see `update_topology`). An update depends only on the model, the data, the seed and the
    optimiser's count of steps, so a resumed training continues as if it had not stopped.

    Args:
        growth: str, "set" grows at random; "rigl" where the dense gradient of the loss is largest on the
            batch of the step; "momentum" where the sum of that gradient over the last `momentum_steps`
            batches, weighted by momentum ** age and all taken at the present weights, is largest.
            Default: "rigl".
        data: for "rigl" and "momentum": arrays (x, y), of which a batch is drawn for a step, or a function of
            the step that returns a batch (x, y). May be the training data. Default: None.
        every: int, training steps between two updates. Default: 100.
        drop_fraction: float r in [0, 1], the share of a layer's connections, or a schedule: a function of the
            step such as `cosine_drop`. Default: 0.3.
        end_step: int, the first step without updates; None updates until the end. Default: None.
        reset_dense_layers: bool, see `update_topology`. Default: False.
        batch_size: int, number of images that are drawn from `data`. Default: 128.
        momentum: float in [0, 1], for growth by momentum. Default: 0.9.
        momentum_steps: int, number of batches for growth by momentum. Default: 10.
        seed: int, seed of drawn batches and random growth. Default: 0.

    Raises:
        ValueError: before training, for an argument out of range, data missing or of different lengths, a
            model without sparse layers, no update within the training, or a schedule that fails or leaves
            [0, 1] at one of the updates.

    References:
        Mocanu et al., Nature Communications 2018, arXiv 1707.04780 (SET); Evci et al., Rigging the
        Lottery, ICML 2020, arXiv 1911.11134 (RigL); Dettmers & Zettlemoyer, Sparse Networks from
        Scratch, 2019, arXiv 1907.04840 (momentum).

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), zoo.layers.SparseDense(10, sparsity=0.5)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.random.default_rng(0).normal(size=(16, 8)), np.zeros((16, 10))
        >>> updates = zoo.layers.TopologyUpdates("rigl", (x, y), every=2, batch_size=4)
        >>> history = model.fit(x, y, batch_size=4, verbose=0, callbacks=[updates])
        >>> int(keras.ops.convert_to_numpy(zoo.layers.sparse_layers(model)[0].mask).sum())
        40
    """

    def __init__(
        self, growth: str = "rigl", data: Any = None, every: int = 100,
        drop_fraction: float | Callable[[int], float] = 0.3, end_step: int | None = None, *,
        reset_dense_layers: bool = False, batch_size: int = 128, momentum: float = 0.9,
        momentum_steps: int = 10, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if growth not in GROWTH:
            raise ValueError(f"growth must be one of {', '.join(GROWTH)}; got {growth!r}")
        if growth != "set" and data is None:
            raise ValueError(
                f'growth="{growth}" needs gradients: pass data=(x, y), or a function of the step'
            )
        for name, value in (
            ("every", every),
            ("batch_size", batch_size),
            ("momentum_steps", momentum_steps),
        ):
            check_count(value, name)
        if end_step is not None:
            check_number(end_step, "end_step", "a number of steps", lambda step: True)
        if end_step is not None and end_step <= every:
            raise ValueError(f"with every={every} there is no update before end_step={end_step}")
        check_fraction(momentum, "momentum")
        if not callable(drop_fraction):
            check_fraction(drop_fraction, "drop_fraction")
        self.growth, self.every, self.end_step = growth, every, end_step
        self.schedule = drop_fraction if callable(drop_fraction) else lambda step: drop_fraction
        self.batch = data if callable(data) or data is None else _drawn(data, batch_size, seed)
        self.momentum, self.momentum_steps = momentum, momentum_steps
        self.reset_dense_layers, self.seed = reset_dense_layers, seed
        self.gradients = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if not sparse_layers(model):
            raise ValueError(f"{model.name} has no sparse layers; make some by zoo.layers.sparsify")
        self.gradients = dense_gradients(model) if self.growth != "set" else None

    def begin(self, stop: int | None) -> None:
        if stop is not None:
            self._check(self.step, stop)

    def _check(self, start, stop):
        """Refuse what would fail late, or never do anything."""
        if stop < self.every:
            raise ValueError(
                f"the topology changes every {self.every} steps, and training has {stop}; lower every"
            )
        stop = min(stop, (self.end_step or stop + 1) - 1)
        for step in range((start // self.every + 1) * self.every, stop + 1, self.every):
            self.drop_fraction(step)

    def drop_fraction(self, step: int) -> float:
        """The schedule's drop fraction at a step, checked.

        Args:
            step: int.

        Returns:
            float in [0, 1].

        Raises:
            ValueError: where the schedule fails or leaves [0, 1].
        """
        try:
            value = self.schedule(step)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"the drop_fraction schedule fails at step {step}: {reason}") from error
        check_fraction(value, f"drop_fraction at step {step}")
        return value

    def due(self, before: int, now: int) -> int | None:
        last = now if self.end_step is None else min(now, self.end_step - 1)
        step = last // self.every * self.every
        return step if before < step else None

    def act(self, step: int) -> None:
        self.update(step)

    def update(self, step: int, drop_fraction: float | None = None) -> int:
        """Change the connections now, as at a given step.

        Args:
            step: int, which decides the batch, random growth and, by the schedule, the fraction.
            drop_fraction: float in [0, 1] instead of the schedule's, such as at a hop between two tickets.
                Default: None.

        Returns:
            int, the number of connections that were dropped, which is also the number grown.
        """
        fraction = self.drop_fraction(step) if drop_fraction is None else drop_fraction
        if not fraction:
            return 0  # without gradients for it
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0])
        return update_topology(
            self.model, fraction, self._scores(step), seed=seed,
            reset_dense_layers=self.reset_dense_layers,
        )  # fmt: skip

    def _scores(self, step):
        if self.growth == "set":
            return None
        scores = self.gradients(*self.batch(step))
        if self.growth == "momentum":
            for age in range(1, min(self.momentum_steps, step)):
                older = self.gradients(*self.batch(step - age))
                scores = [a + self.momentum**age * b for a, b in zip(scores, older)]
        return scores


def _drawn(data, batch_size, seed):
    """A function of the step that draws a batch from arrays (x, y)."""
    data = keras.tree.map_structure(np.asarray, tuple(data))
    lengths = {len(array) for array in keras.tree.flatten(data)}
    if len(data) != 2 or len(lengths) != 1 or not min(lengths):
        raise ValueError(f"data must be (x, y) of one length >= 1; got lengths {sorted(lengths)}")
    (length,) = lengths

    def batch(step):
        rng = np.random.default_rng([seed, step])
        rows = rng.choice(length, min(batch_size, length), replace=False, shuffle=False)
        return keras.tree.map_structure(lambda array: array[rows], data)

    return batch
