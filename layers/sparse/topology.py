"""Dynamic sparse training: connections are dropped and grown while a sparse model trains."""

import math

import keras
import numpy as np
from keras import ops

from zoo.layers.sparse import block_masks
from zoo.layers.sparse.dense_gradients import dense_gradients
from zoo.layers.sparse.layers import sparse_layers
from zoo.layers.sparse.step_callback import StepCallback

GROWTH = ("set", "rigl", "momentum")


def cosine_drop(initial=0.3, end_step=25_000, final=0.0):
    """A schedule for `TopologyUpdates`: the drop fraction falls from `initial` to `final` by a half cosine.

    r(t) = final + (initial - final) / 2 * (1 + cos(pi * t / end_step)), and `final` from end_step on
    (Evci et al., 2020; FreeTickets' code for ImageNet anneals from 0.5 to 0.005).

    Raises:
        ValueError: for fractions outside [0, 1] or end_step < 1.
    """
    check_fraction(initial, "initial")
    check_fraction(final, "final")
    if not end_step >= 1:
        raise ValueError(f"end_step must be >= 1; got {end_step!r}")
    return lambda step: (
        final + (initial - final) / 2 * (1 + math.cos(math.pi * min(step / end_step, 1.0)))
    )


def check_fraction(value, name):
    """ValueError for what is no number in [0, 1]."""
    if not (isinstance(value, (int, float, np.number)) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a number in [0, 1]; got {value!r}")


def drop_and_grow(kernel, mask, drop_fraction, scores=None, rng=None, block_shape=None):
    """New connections of one layer, as many as before.

    Of n connections the k = floor(drop_fraction * n) with the smallest |weight| are dropped.  Then k grow
    among all places that are free then, those just dropped included: where |score| is largest,
    or at random.

    Args:
        kernel: weights, any shape.
        mask: boolean of that shape.
        drop_fraction: in [0, 1].
        scores: of that shape, such as gradients; None grows at random.
        rng: a `numpy.random.Generator`, for that.
        block_shape: (outputs, inputs) of blocks that are dropped and grown whole, by their mean |weight|
            and mean |score|; n and k count blocks then.

    Returns:
        (new mask, kept): kept are the connections that were never dropped; the others of the new mask
        are grown.
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


def update_topology(model, drop_fraction, scores=None, *, seed=0, reset_dense_layers=False):
    """Drop and grow connections in every sparse layer of a model, once.

    Grown weights, one that was dropped and grows again among them, start at zero, and all slots that the
    model's optimizer keeps for dropped and grown weights are set to zero.  Kept weights keep
    values and slots, and each layer keeps its number of connections.  Layers that are not trainable stay
    as they are.

    Args:
        model: a `keras.Model` with sparse layers, compiled or not.
        drop_fraction: r in [0, 1], of each layer's connections: see `drop_and_grow`.
        scores: arrays, one a sparse layer in the order of `sparse_layers`, as `dense_gradients` gives
            them; None grows at random.
        seed: of that.
        reset_dense_layers: layers whose mask is all ones are left alone; True zeroes their smallest
            weights instead, as FreeTickets' code does.

    Returns:
        The number of connections that were dropped, and as many grown.

    Raises:
        ValueError: for a fraction out of range or a model without sparse layers.

    Reference: Mocanu et al., 2018, arXiv 1707.04780 (random growth); Evci et al., ICML 2020, arXiv
        1911.11134 (by gradient).  That zero is where regrown weights start is FreeTickets'; RigL's code
        gives them the values they had.
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
        given = scores and scores[index]
        new, kept = drop_and_grow(kernel, mask, drop_fraction, given, rng, layer.block_shape)
        dropped = int(mask.sum()) - int(kept.sum())
        if dropped:
            layer.mask.assign(new)
            zero_unless(kept, [layer.kernel, *optimizer_slots(optimizer, layer.kernel)])
        total += dropped
    return total


def optimizer_slots(optimizer, variable):
    """The variables that an optimizer keeps for one of a model, weight by weight (momentum, averages)."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if optimizer is None or not optimizer.built:
        return []
    index = optimizer._get_variable_index(variable)
    count = len(optimizer._trainable_variables)
    # Keras names them in no one place: an attribute a kind, a list in the order of the variables.
    kinds = [kind for kind in vars(optimizer).values() if isinstance(kind, list) and len(kind) == count]
    return [
        kind[index]
        for kind in kinds
        if kind[index] is not variable and getattr(kind[index], "shape", None) == variable.shape
    ]


def zero_unless(kept, variables):
    kept = ops.convert_to_tensor(kept)
    for variable in variables:
        value = ops.convert_to_tensor(variable)
        variable.assign(ops.where(kept, value, ops.zeros((), value.dtype)))


class TopologyUpdates(StepCallback):
    """Train connections along with weights: SET, RigL or growth by momentum, under `model.fit`.

        model = zoo.layers.sparsify(model, 0.8)
        model.fit(x, y, callbacks=[zoo.layers.TopologyUpdates("rigl", (x, y), every=100)])

    After every `every`-th training step before `end_step` each layer drops its smallest weights and
    grows as many connections (see `update_topology`).  An update depends on the model, the data, the
    seed and the optimizer's count of steps alone, so a resumed training goes on as one undisturbed.

    Args:
        growth: "set", at random; "rigl", where the dense gradient of the loss is largest on the batch
            of the step; "momentum", where the sum over the last `momentum_steps` batches of that
            gradient, weighted by momentum ** age, is, all taken at the present weights.
        data: for "rigl" and "momentum": arrays (x, y), of which a batch is drawn for a step, or a function
            of the step that returns a batch (x, y).  May be the training data.
        every: DeltaT, training steps between two updates.
        drop_fraction: r in [0, 1], of a layer's connections, or a schedule: a function of the step such as
            `cosine_drop`.
        end_step: the first step without updates; None goes on until the end.
        reset_dense_layers: see `update_topology`.
        batch_size: of what is drawn from `data`.
        momentum, momentum_steps: of growth by momentum.
        seed: of drawn batches and random growth.

    Raises:
        ValueError: before training, for an argument out of range, data missing or of different
            lengths, a model without sparse layers, no update within the training, or a schedule that
            fails or leaves [0, 1] at one of the updates.

    Reference: Mocanu et al., Nature Communications 2018, arXiv 1707.04780 (SET); Evci et al., Rigging the
        Lottery, ICML 2020, arXiv 1911.11134 (RigL); Dettmers & Zettlemoyer, Sparse Networks from Scratch,
        2019, arXiv 1907.04840 (momentum).
    """

    def __init__(self, growth="rigl", data=None, every=100, drop_fraction=0.3, end_step=None, *,
                 reset_dense_layers=False, batch_size=128, momentum=0.9, momentum_steps=10,
                 seed=0):  # fmt: skip
        super().__init__()
        if growth not in GROWTH:
            raise ValueError(f"growth must be one of {', '.join(GROWTH)}; got {growth!r}")
        if growth != "set" and data is None:
            raise ValueError(
                f'growth="{growth}" takes gradients of data=(x, y) or a function of the step'
            )
        for name, value in (
            ("every", every),
            ("batch_size", batch_size),
            ("momentum_steps", momentum_steps),
        ):
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
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

    def set_model(self, model):
        super().set_model(model)
        if not sparse_layers(model):
            raise ValueError(f"{model.name} has no sparse layers; make some by zoo.layers.sparsify")
        self.gradients = dense_gradients(model) if self.growth != "set" else None

    def begin(self, stop):
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

    def drop_fraction(self, step):
        """What the schedule says of a step, checked."""
        try:
            value = self.schedule(step)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"the drop_fraction schedule fails at step {step}: {reason}") from error
        check_fraction(value, f"drop_fraction at step {step}")
        return value

    def due(self, before, now):
        step = now // self.every * self.every
        return step if before < step and (self.end_step is None or step < self.end_step) else None

    def act(self, step):
        self.update(step)

    def update(self, step, drop_fraction=None):
        """Change the connections now, as at that step.

        Args:
            step: decides the batch, random growth and, by the schedule, the fraction.
            drop_fraction: another one, such as at a hop between two tickets.

        Returns:
            The number of connections that were dropped, and as many grown.
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
