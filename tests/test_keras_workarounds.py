"""The faults of Keras that the zoo works around: still there, and worked around."""

import keras
import pytest

from helpers.paths import ROOT
from zoo import keras_workarounds

BUGS = ROOT / "docs" / "keras_bugs"
FAULTS = {  # of two devices
    "uneven_first_batch": "same size and shape",
    "steps_per_execution": "must feed a value",
    "gradient_accumulation": "merge_call",
    "clip_by_norm": "weights differ",
}
# Each script in a process that parts after the imports, which take longer than all that follows.
SCRIPTS = """
import os, runpy, sys
import keras, tensorflow

folder, *names = sys.argv[1:]
sys.path.insert(0, folder)
for name in names:
    child = os.fork()
    if not child:
        runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
        sys.exit("no report")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"{name} ends with {status}", flush=True)
"""
WORKS = """
import contextlib, sys
sys.path.insert(0, sys.argv[1])
import _two_devices as two
import keras, numpy as np
import zoo

strategy = two.strategy()
x = np.random.default_rng(0).integers(0, 256, (33, 16, 16, 3), "uint8")
y = np.arange(33) % 3

def train(place, **options):
    keras.utils.set_random_seed(0)
    with place():
        model = zoo.build(zoo.methods.Packed(2), "lenet", 3, (16, 16, 3))
        optimizer = keras.optimizers.SGD(1e-3, **options.pop("optimizer", {}))
        model.compile(optimizer, model.loss, metrics=["accuracy"], **options)
    model.fit(x[:32], y[:32], batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model

one = train(contextlib.nullcontext)
for options in ({}, {"steps_per_execution": 2}):
    for a, b in zip(one.get_weights(), train(strategy.scope, **options).get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
train(strategy.scope).fit(x, y, batch_size=33, verbose=0)  # 17 and 16 images
for refused in ({"global_clipnorm": 1.0}, {"clipnorm": 1.0}, {"gradient_accumulation_steps": 2}):
    try:
        train(strategy.scope, optimizer=refused)
    except ValueError as error:
        assert "replicas of tf.distribute" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError(f"{refused} was not refused")

keras.config.set_dtype_policy("mixed_float16")
with strategy.scope():
    model = zoo.build(zoo.methods.Packed(2), "lenet", 3, (16, 16, 3))
    model.compile(keras.optimizers.SGD(1e-3), model.loss)
weights = np.where(np.arange(8) < 4, 1, 1e4).astype("float32")  # the second replica's gradients overflow
model.fit(x[:8], y[:8], sample_weight=weights, batch_size=8, shuffle=False, verbose=0)
assert all(np.isfinite(w).all() for w in model.get_weights())
assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**14
print("all worked around")
"""


@pytest.mark.slow
def test_keras_still_has_the_faults_of_two_devices(forked_python):
    """Where this fails Keras has mended one: see zoo/keras_workarounds.py."""
    process = forked_python("-c", SCRIPTS, BUGS, *FAULTS, KERAS_BACKEND="tensorflow")
    rest = process.stdout
    for name, said in FAULTS.items():
        output, end, rest = rest.partition(f"{name} ends with 1\n")
        assert end and said in output, process.stdout + process.stderr


@pytest.mark.slow
def test_keras_still_has_the_fault_of_two_workers(forked_python):
    process = forked_python(BUGS / "multi_worker_fit.py", succeeds=False)
    assert process.returncode == 1, process.stdout + process.stderr
    assert "PerReplica" in process.stdout


@pytest.mark.slow
def test_classifiers_train_where_keras_s_own_models_fail(forked_python):
    assert "all worked around" in forked_python("-c", WORKS, BUGS).stdout


def test_a_version_switches_the_workarounds_off(monkeypatch):
    assert keras_workarounds.needed("3.15.1")
    monkeypatch.setattr(keras_workarounds, "FIXED_IN", (3, 16))
    assert keras_workarounds.needed("3.15.1") and not keras_workarounds.needed("3.16.0")
    assert not keras_workarounds.needed("4.0.0")
    if keras.backend.backend() != "tensorflow":
        assert not keras_workarounds.affected
