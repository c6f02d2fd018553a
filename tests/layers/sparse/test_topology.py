"""Topology updates: what is dropped and grown, what the optimiser keeps, dense gradients, training."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import zoo
from helpers.arrays import draw, numpy
from helpers.sparse import X, Y, small
from zoo.layers import (
    SparseDense,
    TopologyUpdates,
    cosine_drop,
    dense_gradients,
    sparse_layers,
    sparsify,
    update_topology,
)
from zoo.layers.sparse.topology import drop_and_grow, optimizer_slots


def reference(kernel, mask, fraction, scores):
    """Drop and grow by full sorts; only for weights and scores without ties."""
    active = [i for i in range(mask.size) if mask.flat[i]]
    count = int(fraction * len(active) + 1e-9)
    active.sort(key=lambda i: abs(kernel.flat[i]))
    kept = set(active[count:])
    free = sorted(set(range(mask.size)) - kept, key=lambda i: -abs(scores.flat[i]))
    return kept, kept | set(free[:count])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_drop_and_grow_is_its_definition(rows, columns, density, fraction, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, columns)) < density
    kernel, scores = rng.normal(size=mask.shape) * mask, rng.normal(size=mask.shape)
    new, kept = drop_and_grow(kernel, mask, fraction, scores)
    expected_kept, expected = reference(kernel, mask, fraction, scores)
    assert set(np.flatnonzero(kept)) == expected_kept and set(np.flatnonzero(new)) == expected
    at_random, kept_too = drop_and_grow(kernel, mask, fraction, None, rng)
    np.testing.assert_array_equal(kept_too, kept)
    assert at_random.sum() == mask.sum() and (at_random >= kept).all()


def test_random_growth_favours_no_place():
    kernel, mask = np.array([3.0, 2, 1, 0.5, 0, 0, 0, 0]), np.arange(8) < 4
    rng = np.random.default_rng(0)
    counts = sum(drop_and_grow(kernel, mask, 0.5, None, rng)[0].astype(int) for _ in range(3000))
    assert list(counts[:2]) == [3000, 3000]
    assert np.abs(counts[2:] - 1000).max() < 130  # five sigma; those just dropped among them


UPDATES = st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 99)), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def walker():
    return small()


@settings(max_examples=40, deadline=None)
@pytest.mark.slow
@given(UPDATES, st.booleans())
def test_no_sequence_of_updates_changes_the_number_of_connections(walker, updates, reset):
    found = sparse_layers(walker)
    before = [int(numpy(layer.mask).sum()) for layer in found]
    for by_scores, fraction, seed in updates:
        rng = np.random.default_rng(seed)
        scores = [rng.normal(size=layer.mask.shape) for layer in found] if by_scores else None
        total = update_topology(walker, fraction, scores, seed=seed, reset_dense_layers=reset)
        for layer in found:  # as training would
            layer.kernel.assign(rng.normal(size=layer.kernel.shape) * numpy(layer.mask))
        assert [int(numpy(layer.mask).sum()) for layer in found] == before
        some = [n for n, layer in zip(before, found) if reset or n < numpy(layer.mask).size]
        assert total == sum(int(fraction * n + 1e-9) for n in some)


OPTIMIZERS = {
    "momentum": (lambda: keras.optimizers.SGD(0.1, momentum=0.9), 1),
    "adam": (lambda: keras.optimizers.Adam(0.01), 2),
    "amsgrad": (lambda: keras.optimizers.Adam(0.01, amsgrad=True), 3),
    "plain": (lambda: keras.optimizers.SGD(0.1), 0),
    "accumulated": (lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2), 2),
}


@pytest.mark.fast("adam")
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_grown_weights_and_their_slots_are_zero_and_kept_ones_untouched(name):
    make, kinds = OPTIMIZERS[name]
    model = small(optimizer=make())
    model.fit(X, Y, batch_size=16, verbose=0)
    found, rng = sparse_layers(model), np.random.default_rng(1)
    kernels, masks = [numpy(x.kernel).copy() for x in found], [numpy(x.mask).copy() for x in found]
    variables = [optimizer_slots(model.optimizer, x.kernel) for x in found]
    assert {len(of_layer) for of_layer in variables} == {kinds}
    slots = [[numpy(slot).copy() for slot in of_layer] for of_layer in variables]
    others = [numpy(x.bias).copy() for x in found]
    scores = [rng.normal(size=x.shape) for x in masks]
    assert update_topology(model, 0.5, scores) > 0
    changed = 0
    for layer, kernel, mask, old, bias, score in zip(found, kernels, masks, slots, others, scores):
        new, kept = drop_and_grow(kernel, mask, 0.0 if mask.all() else 0.5, score)
        np.testing.assert_array_equal(numpy(layer.mask), new)
        np.testing.assert_array_equal(numpy(layer.kernel), np.where(kept, kernel, 0))
        np.testing.assert_array_equal(numpy(layer.bias), bias)
        for slot, before in zip(optimizer_slots(model.optimizer, layer.kernel), old, strict=True):
            np.testing.assert_array_equal(numpy(slot), np.where(kept, before, 0))
            changed += int((before[~kept] != 0).sum())
    assert changed > 0 or not kinds
    model.fit(X, Y, batch_size=16, verbose=0)
    for layer in found:
        np.testing.assert_array_equal(numpy(layer.kernel)[~numpy(layer.mask)], 0)


def test_dense_layers_are_untouched_unless_told():
    for reset in (False, True):
        model = small(0.0)
        kernels = [numpy(layer.kernel).copy() for layer in sparse_layers(model)]
        total = update_topology(model, 0.5, None, reset_dense_layers=reset)
        assert total == (sum(kernel.size // 2 for kernel in kernels) if reset else 0)
        for layer, kernel in zip(sparse_layers(model), kernels):
            assert numpy(layer.mask).all()
            limit = np.median(np.abs(kernel)) if reset else 0
            np.testing.assert_array_equal(
                numpy(layer.kernel), np.where(np.abs(kernel) >= limit, kernel, 0)
            )


@pytest.mark.slow
def test_layers_that_are_not_trained_keep_their_connections():
    model = small(0.6, keras.optimizers.Adam())
    sparse_layers(model)[1].trainable = False
    model.compile("adam", model.loss)
    before = [numpy(layer.mask).copy() for layer in sparse_layers(model)]
    model.fit(
        X, Y, batch_size=16, verbose=0, callbacks=[TopologyUpdates("set", every=1, drop_fraction=0.9)]
    )
    changed = [bool((numpy(x.mask) != mask).any()) for x, mask in zip(sparse_layers(model), before)]
    assert changed == [not before[0].all(), False, not before[2].all()] and any(changed)


@pytest.mark.slow
def test_dense_gradients_are_those_of_the_dense_network():
    """Of a linear classifier by hand; and they change nothing, moving statistics neither."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.BatchNormalization(), SparseDense(3, sparsity=0.7)]
    )
    model.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x, y = 3 * draw(20, 6) + 1, np.arange(20) % 3
    model.fit(x, y, verbose=0)
    gradients, layer = dense_gradients(model), sparse_layers(model)[0]
    for _ in range(2):  # the second time with other weights and masks, by what was compiled
        before = model.get_weights()
        (given,) = gradients(x, y)
        for w, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(w, old)
        gamma, beta = (numpy(w) for w in model.layers[0].trainable_weights)
        normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * gamma + beta
        logits = normal @ (numpy(layer.kernel) * numpy(layer.mask)) + numpy(layer.bias)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(given, normal.T @ (p - np.eye(3)[y]) / 20, atol=2e-4)
        assert (np.abs(given[~numpy(layer.mask)]) > 1e-4).all()
        update_topology(model, 0.9, seed=3)
        layer.kernel.assign(draw(6, 3))
        layer.bias.assign([1.0, 0.0, -1.0])


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("growth", ["set", "rigl", "momentum"])
@pytest.mark.parametrize("method", [zoo.methods.Single(), zoo.methods.Packed(2, 1)])
def test_training_through_fit_keeps_counts_and_repeats(growth, method, images, labels):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = sparsify(zoo.build(method, "lenet", 3, (16, 16, 3)), 0.9)
        before = [numpy(layer.mask).copy() for layer in sparse_layers(model)]
        updates = TopologyUpdates(growth, (images, labels), every=2, drop_fraction=0.5, batch_size=4)
        model.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[updates])
        results.append(model.get_weights())
        for layer, mask in zip(sparse_layers(model), before):
            now = numpy(layer.mask)
            assert now.sum() == mask.sum()
            assert (now != mask).any() or mask.all()
            np.testing.assert_array_equal(numpy(layer.kernel)[~now], 0)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_rigl_grows_where_the_gradient_of_that_step_is_largest():
    model = small(0.8, keras.optimizers.SGD(0.0))
    seen = []
    updates = TopologyUpdates("rigl", lambda step: (seen.append(step) or X[:16], Y[:16]), 3, 0.4)
    gradients = dense_gradients(model)(X[:16], Y[:16])
    masks = [numpy(layer.mask).copy() for layer in sparse_layers(model)]
    kernels = [numpy(layer.kernel).copy() for layer in sparse_layers(model)]
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[updates])
    assert seen == [3]
    for layer, kernel, mask, gradient in zip(sparse_layers(model), kernels, masks, gradients):
        new, _ = drop_and_grow(kernel, mask, 0.0 if mask.all() else 0.4, gradient)
        np.testing.assert_array_equal(numpy(layer.mask), new)


class Recorded(TopologyUpdates):
    def update(self, step, drop_fraction=None):
        self.steps = [*getattr(self, "steps", []), step]
        return super().update(step, drop_fraction)


@pytest.mark.slow
def test_steps_end_and_resume_where_they_should():
    model = small()
    first, second, third = (Recorded("set", every=4, end_step=16) for _ in range(3))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[first])  # 3 steps an epoch
    model.fit(X, Y, batch_size=16, initial_epoch=2, epochs=7, verbose=0, callbacks=[second])
    assert first.steps == [4] and second.steps == [8, 12]
    other = small()
    other.fit(X, Y, batch_size=16, epochs=7, verbose=0, callbacks=[third])
    assert third.steps == [4, 8, 12]


def test_several_steps_at_once_do_not_jump_over_the_last_update():
    updates = TopologyUpdates("set", every=4, end_step=99)
    assert [updates.due(before, before + 10) for before in (85, 95, 99)] == [92, 96, None]


def test_steps_are_counted_under_scaled_losses_too():
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = small(optimizer=keras.optimizers.LossScaleOptimizer(inner))
    updates = [Recorded("set", every=4) for _ in range(2)]
    for one in updates:  # 3 steps an epoch
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[one])
    assert [one.step for one in updates] == [6, 12]


def test_cosine_drop_is_its_formula():
    schedule = cosine_drop(0.5, 100, 0.005)
    assert [schedule(0), schedule(50), schedule(100), schedule(900)] == pytest.approx(
        [0.5, 0.2525, 0.005, 0.005]
    )
    assert schedule(25) == pytest.approx(0.005 + 0.495 / 2 * (1 + np.sqrt(0.5)))


def fit(*arguments, model=None, **options):
    model = model or small()
    before = model.get_weights()
    try:
        model.fit(X, Y, batch_size=16, verbose=0, callbacks=[TopologyUpdates(*arguments, **options)])
    finally:  # refused before any step
        for w, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(w, old)


BAD = [
    (lambda: TopologyUpdates("random"), "growth.*'random'"),
    (lambda: TopologyUpdates("rigl"), "data"),
    (lambda: TopologyUpdates("set", every=0), "every.*0"),
    (lambda: TopologyUpdates("set", drop_fraction=1.5), "drop_fraction.*1.5"),
    (lambda: TopologyUpdates("set", drop_fraction=float("nan")), "drop_fraction.*nan"),
    (lambda: TopologyUpdates("set", every=10, end_step=10), "every=10.*end_step=10"),
    (lambda: TopologyUpdates("rigl", (X, Y[:5])), "lengths.*5"),
    (lambda: TopologyUpdates("rigl", (X[:0], Y[:0])), "length"),
    (lambda: cosine_drop(1.2), "initial.*1.2"),
    (lambda: cosine_drop(0.5, 0), "end_step.*0"),
    (lambda: update_topology(small(), -0.1), "drop_fraction.*-0.1"),
    (lambda: fit("set", every=4), "every 4 steps, and training has 3"),
    (lambda: fit("set", every=2, drop_fraction=lambda step: 1 // 0), "step 2.*ZeroDivisionError"),
    (lambda: fit("set", every=1, drop_fraction=lambda step: step - 1), "step 3.*2"),
    (lambda: fit("set", every=1, drop_fraction=lambda step: None), "step 1.*None"),
    (lambda: fit("set", every=1, model=zoo.build(zoo.methods.Single(), "mlp", 3, (5, 5, 2))), "no sparse layers"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line_before_training(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
