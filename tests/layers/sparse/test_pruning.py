"""Magnitude pruning: which weights go, exact counts, schedules by `fit`, bad input."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import zoo
from helpers.arrays import numpy
from helpers.sparse import SIZE, Recorded, X, Y, fit, small, zeros_of
from zoo.layers import sparse_layers
from zoo.layers.sparse.pruning import MagnitudePruning, magnitude_masks, prune_by_magnitude
from zoo.layers.sparse.topology import optimizer_slots


def reference(kernels, masks, sparsity):
    """By one full sort: (|w|, layer, place) of what exists, less the largest of each layer."""
    rows = []
    kernels = [np.nan_to_num(np.abs(kernel), nan=np.finfo("float32").max) for kernel in kernels]
    for layer, (kernel, mask) in enumerate(zip(kernels, masks)):
        places = [i for i in range(mask.size) if mask.flat[i]]
        if places:
            places.remove(max(places, key=lambda i: (kernel.flat[i], -i)))
        rows += [(kernel.flat[i], layer, i) for i in places]
    size, existing = sum(mask.size for mask in masks), sum(int(mask.sum()) for mask in masks)
    count = max(0, round(sparsity * size) - (size - existing))
    new = [mask.copy() for mask in masks]
    for _, layer, place in sorted(rows)[:count]:
        new[layer].flat[place] = False
    return new


KINDS = st.sampled_from(["normal", "equal", "wild"])


def network(seed, kind):
    """Kernels and masks of one to four layers, some without any connection."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 5, rng.integers(1, 4))) for _ in range(rng.integers(1, 5))]
    masks = [rng.random(shape) < rng.choice([0, 0.5, 1]) for shape in shapes]
    kernels = [rng.normal(size=shape) for shape in shapes]
    if kind == "equal":
        kernels = [np.round(kernel) for kernel in kernels]
    if kind == "wild":
        kernels = [rng.choice([np.nan, np.inf, -np.inf, -1, 0], shape) for shape in shapes]
    return [kernel.astype("float32") for kernel in kernels], masks


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), KINDS, st.floats(0, 1, exclude_max=True))
def test_the_smallest_weights_of_all_layers_go(seed, kind, sparsity):
    kernels, masks = network(seed, kind)
    given_masks = [mask.copy() for mask in masks]
    new = magnitude_masks(kernels, masks, sparsity)
    for one, expected in zip(new, reference(kernels, masks, sparsity), strict=True):
        np.testing.assert_array_equal(one, expected)
    for mask, before, one in zip(masks, given_masks, new):
        np.testing.assert_array_equal(mask, before)
        assert one.any() or not mask.any()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), KINDS, st.lists(st.floats(0, 0.999), min_size=1, max_size=5))
def test_counts_are_exact_and_sparsity_never_falls(seed, kind, sparsities):
    kernels, masks = network(seed, kind)
    size, wanted = sum(mask.size for mask in masks), 0
    most = size - sum(mask.any() for mask in masks)
    zeros = size - sum(int(mask.sum()) for mask in masks)
    for sparsity in sparsities:
        new = magnitude_masks(kernels, masks, sparsity)
        wanted = max(zeros, min(round(sparsity * size), most))
        zeros = size - sum(int(mask.sum()) for mask in new)
        assert zeros == wanted
        assert all((one <= mask).all() for one, mask in zip(new, masks))
        masks = new


def test_numbers_that_are_none_and_half_precision_count_exactly():
    kernel = np.array([np.nan, 1, -np.inf, 3, np.nan, 0.5, -2, 0])
    (new,) = magnitude_masks([kernel], [np.ones(8, bool)], 0.5)
    np.testing.assert_array_equal(new, [1, 0, 1, 1, 1, 0, 0, 0])
    for dtype in ("float16", "bfloat16"):
        half = numpy(ops.cast(ops.arange(10.0), dtype))
        (new,) = magnitude_masks([half], [np.ones(10, bool)], 0.7)
        np.testing.assert_array_equal(new, np.arange(10) > 6)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "none": None,
}


@pytest.mark.fast("momentum-global")
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruning_a_model_changes_masked_weights_and_their_slots_alone(name, scope):
    model = small(0.3, OPTIMIZERS[name] and OPTIMIZERS[name]())
    model.fit(X, Y, batch_size=16, verbose=0)
    if name == "none":
        model.optimizer = None
    found = sparse_layers(model)
    kernels, masks = [numpy(x.kernel).copy() for x in found], [numpy(x.mask).copy() for x in found]
    slots = [[numpy(s).copy() for s in optimizer_slots(model.optimizer, x.kernel)] for x in found]
    if scope == "global":
        expected = reference(kernels, masks, 0.7)
        assert sum(int((~mask).sum()) for mask in expected) == round(0.7 * sum(x.size for x in masks))
    else:
        expected = [reference([kernel], [mask], 0.7)[0] for kernel, mask in zip(kernels, masks)]
        assert [int((~mask).sum()) for mask in expected] == [round(0.7 * x.size) for x in masks]
    total = prune_by_magnitude(model, 0.7, scope)
    assert total == sum(int(mask.sum()) for mask in masks) - sum(int(mask.sum()) for mask in expected)
    for layer, kernel, mask, old in zip(found, kernels, expected, slots):
        np.testing.assert_array_equal(numpy(layer.mask), mask)
        np.testing.assert_array_equal(numpy(layer.kernel), np.where(mask, kernel, 0))
        for slot, before in zip(optimizer_slots(model.optimizer, layer.kernel), old, strict=True):
            assert (before[~mask] != 0).any()
            np.testing.assert_array_equal(numpy(slot), np.where(mask, before, 0))
    assert prune_by_magnitude(model, 0.7, scope) == 0


def test_layers_that_are_not_trained_stay_and_do_not_count():
    model = small(0.0)
    first, *others = sparse_layers(model)
    first.trainable = False
    prune_by_magnitude(model, 0.5)
    assert numpy(first.mask).all()
    masks = [numpy(layer.mask) for layer in others]
    assert sum(int(mask.sum()) for mask in masks) == sum(mask.size for mask in masks) // 2


def cubic(step):
    """0.8 (1 - (1 - t)^3) after 2, 4, ... 10 steps, in the types of a backend."""
    share = ops.convert_to_tensor(0.8 * (1 - (1 - min(step, 10) / 10) ** 3), "float32")
    return ops.convert_to_tensor(0 < step <= 10 and step % 2 == 0), share


@pytest.mark.fast("global")
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_fit_follows_the_schedule_and_ends_exactly_at_its_target(scope):
    model, pruning = fit(cubic, scope)
    shapes = [layer.kernel.shape for layer in sparse_layers(model)]
    groups = [SIZE] if scope == "global" else [int(np.prod(shape)) for shape in shapes]
    for step, zeros in pruning.zeros.items():
        assert zeros == sum(round(float(cubic(step)[1]) * size) for size in groups)
    assert list(pruning.zeros) == [2, 4, 6, 8, 10]
    assert sum(zeros_of(model)) == sum(round(0.8 * size) for size in groups)
    if scope == "layer":
        assert zeros_of(model) == [round(0.8 * size) for size in groups]
    for layer in sparse_layers(model):  # two more steps have passed
        np.testing.assert_array_equal(numpy(layer.kernel)[~numpy(layer.mask)], 0)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has one step an execution there")
def test_steps_of_one_execution_prune_as_the_last_of_them():
    model, pruning = fit(cubic, steps_per_execution=3)
    assert list(pruning.zeros) == [3, 6, 9, 12]
    assert pruning.zeros[6] == round(float(cubic(6)[1]) * SIZE)
    assert sum(zeros_of(model)) == round(0.8 * SIZE)


@pytest.mark.slow
def test_resumed_training_ends_as_an_undisturbed_one():
    keras.utils.set_random_seed(1)
    whole, undisturbed = fit(cubic)
    keras.utils.set_random_seed(1)
    model, first = fit(cubic, epochs=2)
    _, second = fit(cubic, model=model, initial_epoch=2)
    assert {**first.zeros, **second.zeros} == undisturbed.zeros
    for w, other in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(w, other, atol=1e-6)
    _, later = fit(cubic, model=model, initial_epoch=4, epochs=5)  # nothing is left to do
    assert not hasattr(later, "zeros")


@pytest.mark.slow
def test_step_zero_is_before_training_and_unknown_lengths_are_asked_as_they_come():
    _, pruning = fit(lambda step: (step == 0, 0.6))
    assert pruning.zeros == {0: round(0.6 * SIZE)}
    model = small(0.0)
    batches = ((X[i : i + 16], Y[i : i + 16]) for i in (0, 16, 32))
    pruning = Recorded(lambda step: (step > 0, 0.2 * step))
    model.fit(batches, verbose=0, callbacks=[pruning])
    assert pruning.zeros == {step: round(0.2 * step * SIZE) for step in (1, 2, 3)}


def test_a_sparser_model_waits_for_the_schedule():
    model = small(0.5, keras.optimizers.SGD(0.05))
    _, pruning = fit(cubic, model=model)
    before = SIZE - round(0.5 * SIZE)
    assert [zeros > before for zeros in pruning.zeros.values()] == [False, True, True, True, True]
    assert pruning.zeros[2] in (before, before - 1)
    assert sum(zeros_of(model)) == round(0.8 * SIZE)


def twice(model):
    prune_by_magnitude(model, 0.8)
    return prune_by_magnitude(model, 0.5)


def plain():
    return zoo.build(zoo.methods.Single(), "mlp", 3, (5, 5, 2))


BAD = [
    (lambda: prune_by_magnitude(small(), 1.0), "sparsity.*1.0"),
    (lambda: prune_by_magnitude(small(), 0.8, "all"), "scope.*'all'"),
    (lambda: prune_by_magnitude(plain(), 0.5), "no trainable sparse layers"),
    (lambda: twice(small(0.0)), "already has sparsity 0.8.*0.5"),
    (lambda: MagnitudePruning(0.8), "schedule.*0.8"),
    (lambda: MagnitudePruning(cubic, "net"), "scope.*'net'"),
    (lambda: fit(cubic, model=plain()), "no trainable sparse layers"),
    (lambda: fit(lambda step: (step == 99, 0.5)), "none of the steps 0 to 12"),
    (lambda: fit(lambda step: (step and step % 7 == 0, 1 // (step - 7))), "fails at step 7: ZeroDivisionError"),
    (lambda: fit(lambda step: 0.5), "fails at step 0: TypeError"),
    (lambda: fit(lambda step: (step == 3, None)), "fails at step 3: TypeError"),
    (lambda: fit(lambda step: (step % 5 == 0, 0.1 * step)), r"sparsity 1.0 at step 10"),
    (lambda: fit(lambda step: (step == 1, np.nan)), "sparsity nan at step 1"),
    (lambda: fit(lambda step: (step == 1, -0.1)), "sparsity -0.1 at step 1"),
    (lambda: fit(lambda step: (step % 4 == 0, 0.8 - 0.05 * step)), "0.8 at step 0 to 0.6 at step 4"),
    (lambda: fit(cubic, model=small(0.9)), "already has sparsity 0.9.*0.8"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()


@pytest.mark.parametrize(
    "schedule", [lambda step: (step < 2, 0.5 / (step - 1)), lambda step: (True, 0.1 * step)]
)
def test_nothing_is_trained_before_a_schedule_is_refused(schedule):
    model = small(0.0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="schedule"):
        fit(schedule, model=model)
    for w, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, old)


def test_a_schedule_that_ended_before_this_training_is_refused(raises_line):
    model = small(0.0)
    model.fit(X, Y, epochs=5, batch_size=16, verbose=0)
    with raises_line(ValueError, "ends at step 10.*from step 15"):
        fit(cubic, model=model)
