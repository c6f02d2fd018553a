"""TFMOT's sparsity schedules: their formulas, in `fit`, and no side effects of importing them."""

import importlib.util
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sparse import SIZE, fit
from zoo.training.pruning_schedules import constant_sparsity, polynomial_decay

TFMOT = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_model_optimization") is None, reason="no TFMOT installed"
)


@TFMOT
@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.5), st.floats(0.5, 0.99), st.integers(0, 50), st.integers(1, 9), st.integers(1, 9))
def test_polynomial_decay_is_its_formula(initial, final, begin, frequency, times):
    end = begin + times * frequency
    schedule = polynomial_decay(initial, final, begin, end, frequency=frequency)
    assert type(schedule).__module__.startswith("tensorflow_model_optimization.")
    for step in {0, begin, begin + 1, begin + frequency, (begin + end) // 2, end, end + frequency}:
        update, sparsity = schedule(step)
        p = min(max((step - begin) / (end - begin), 0), 1)
        assert float(sparsity) == pytest.approx(final + (initial - final) * (1 - p) ** 3, abs=1e-6)
        assert bool(update) == (begin <= step <= end and (step - begin) % frequency == 0)


@pytest.mark.slow
@TFMOT
def test_fit_ends_exactly_at_the_target_of_tfmots_schedules():
    _, pruning = fit(polynomial_decay(0.2, 0.9, 2, 10, frequency=4))
    middle = 0.9 - 0.7 * 0.5**3
    assert pruning.zeros == {step: round(s * SIZE) for step, s in ((2, 0.2), (6, middle), (10, 0.9))}
    assert type(pruning.schedule).__name__ == "PolynomialDecay"
    _, pruning = fit(constant_sparsity(0.7, 0, frequency=5))
    assert list(pruning.zeros) == [0, 5, 10] and set(pruning.zeros.values()) == {round(0.7 * SIZE)}


SIDE_EFFECTS = """
import os, subprocess, sys
order, expected, legacy = sys.argv[1:]
if order != "tensorflow last":
    import tensorflow as tf
if order == "keras used":
    tf.keras.layers.Dense, tf.losses.Huber
import keras, numpy as np, zoo
from zoo.training import pruning_schedules

schedule = pruning_schedules.polynomial_decay(0.0, 0.5, 0, 4, frequency=2)
assert "tensorflow_model_optimization" in sys.modules
assert os.environ.get("TF_USE_LEGACY_KERAS", "unset") == legacy
code = "import os; print(os.environ.get('TF_USE_LEGACY_KERAS', 'unset'))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
assert child.stdout.strip() == legacy

import tensorflow as tf
import tensorflow.compat.v1 as v1, tensorflow.compat.v2 as v2
from tensorflow.keras import layers as imported
modules = [tf, tf.compat.v1, tf.compat.v2, v1, v2]
found = [imported.Dense, *(module.keras.layers.Dense for module in modules)]
found += [tf.losses.Huber, tf.optimizers.Adam, tf.initializers.Zeros, tf.metrics.Mean]
assert {kind.__module__.split(".")[0] for kind in found} == {expected}, found
if expected == "keras":
    assert tf.keras.__version__ == keras.__version__ and tf.keras.layers.Dense is keras.layers.Dense
dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
dense.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model = zoo.layers.sparsify(dense, 0.0)
from zoo.layers.sparse.pruning import MagnitudePruning
x, y = np.ones((20, 6)), np.arange(20) % 3
model.fit(x, y, batch_size=4, verbose=0, callbacks=[MagnitudePruning(schedule)])
assert sum(int((np.asarray(layer.mask) == 0).sum()) for layer in model.layers) == 36
model.save("pruned.keras")
assert np.allclose(keras.saving.load_model("pruned.keras").predict(x, verbose=0), model(x), atol=1e-6)
"""


@pytest.mark.slow
@TFMOT
@pytest.mark.parametrize(
    ("order", "expected", "legacy"),
    [
        ("tensorflow last", "keras", None),
        ("keras used", "keras", "0"),
        ("keras unused", "tf_keras", "1"),
    ],
)
def test_tf_keras_and_the_environment_stay_what_they_were(order, expected, legacy, python, monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    environment = {} if legacy is None else {"TF_USE_LEGACY_KERAS": legacy}
    python("-c", SIDE_EFFECTS, order, expected, legacy or "unset", **environment)


def test_a_missing_package_is_named_and_nothing_stays_changed(monkeypatch, raises_line):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization.sparsity", None)
    before = dict(os.environ)
    with raises_line(ImportError, "pip install .*tensorflow-model-optimization"):
        constant_sparsity(0.5, 0)
    assert dict(os.environ) == before


@TFMOT
@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: polynomial_decay(0.0, 0.8, 5, 5), "begin_step=5, end_step=5"),
        (lambda: polynomial_decay(0.0, 0.8, 0, 250), "frequency=100.*250.*0.8"),
        (lambda: polynomial_decay(0.0, 1.0, 0, 200), "final_sparsity=1.0"),
        (lambda: polynomial_decay(0.0, 0.8, -100, 200), "begin_step=-100"),
        (lambda: constant_sparsity(0.8, 0, frequency=0), "frequency=0"),
    ],
)
def test_bad_schedules_are_refused_with_their_numbers(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
