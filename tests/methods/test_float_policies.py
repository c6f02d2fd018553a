"""Every method under other floating-point types than float32."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo

METHODS = {
    "single": zoo.methods.Single(),
    "deep_ensemble": zoo.methods.DeepEnsemble(2),
    "packed": zoo.methods.Packed(2),
    "batch_ensemble": zoo.methods.BatchEnsemble(2),
    "mimo": zoo.methods.MIMO(2),
    "hyper_batch": zoo.methods.HyperBatch(2),
    "masksembles": zoo.methods.Masksembles(4),
    "mc_dropout": zoo.methods.MCDropout(3),
    "tickets": zoo.methods.Tickets(2),
}
GRID = [f"{floatx}-{name}" for floatx in ("float64", "float16") for name in METHODS]


@pytest.fixture
def floatx(request):
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx(before)


@pytest.mark.fast("float64-hyper_batch", "float16-hyper_batch")
@pytest.mark.parametrize(
    ("floatx", "name"), [case.split("-") for case in GRID], indirect=["floatx"], ids=GRID
)
def test_methods_build_answer_and_have_a_loss(floatx, name, tiny):
    model = tiny(METHODS[name], input_shape=(8, 8, 1))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    labels = np.arange(4) % 3
    answers = ops.convert_to_numpy(model(images)).astype("float64")
    assert np.exp(answers).sum(axis=1) == pytest.approx(1, abs=1e-2)
    loss = model.compute_loss(images, ops.array(labels), model(images, training=True))
    assert np.isfinite(float(loss))
    model.run_eagerly = name != "packed"  # one graph a type
    model.fit(images, labels, verbose=0)
