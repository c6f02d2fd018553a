"""Hyper-batch ensembles: the layers' formula, the distributions, the loss and the tuning."""

import types

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.layers import HyperBatchEnsembleConv2D, HyperBatchEnsembleDense, LogUniformHyperparameters

RANGES = [(1e-3, 1e-1), (1e-2, 1.0), (0.1, 0.5)]
WEIGHTS = ("kernel", "r", "s", "bias", "delta_kernel", "delta_bias", "e_kernel")


def _array(value):
    """A tensor of any backend as NumPy takes it."""
    return np.array(ops.convert_to_numpy(value))


def _randomised(layer, seed=0):
    """The layer with every weight drawn anew (e-models start at almost zero), and these as a dictionary."""
    rng = np.random.default_rng(seed)
    values = {}
    for weight in layer.weights:
        values[weight.name] = rng.normal(0.5, 0.5, weight.shape).astype("float32")
        weight.assign(values[weight.name])
    return values


def _rows(count, num_members):
    return np.arange(count) * num_members // count


def _scaled(h):
    low, high = np.log(RANGES).T
    return (np.log(h) - low) / (high - low)


@pytest.fixture
def data():
    """Seven rows of four features and their hyperparameters."""
    rng = np.random.default_rng(3)
    low, high = np.log(RANGES).T
    h = np.exp(rng.uniform(low, high, (7, 3)))
    return rng.normal(size=(7, 4)).astype("float32"), h.astype("float32")


def test_dense_is_the_formula(data):
    x, h = data
    layer = HyperBatchEnsembleDense(2, 3, ranges=RANGES, l2_index=0, bias_l2_index=1)
    layer([x, h])
    w = _randomised(layer)
    m = _rows(7, 3)
    e = _scaled(h) @ w["e_kernel"]
    xr = x * w["r"][0][m]
    expected = w["s"][0][m] * (xr @ w["kernel"] + e[:, :2] * (xr @ w["delta_kernel"]))
    bias = w["bias"][m] + e[:, 2:] * w["delta_bias"][m]
    np.testing.assert_allclose(_array(layer([x, h])), expected + bias, rtol=1e-4, atol=1e-4)


def test_l2_is_of_the_very_weights_a_row_is_multiplied_by(data):
    x, h = data
    layer = HyperBatchEnsembleDense(2, 3, ranges=RANGES, l2_index=0, bias_l2_index=1)
    layer([x, h])
    w = _randomised(layer)
    assert not layer.losses  # not at inference
    layer([x, h], training=True)
    e = _scaled(h) @ w["e_kernel"]
    m = _rows(7, 3)
    kernels = [np.sum((w["kernel"] + row[:2] * w["delta_kernel"]) ** 2) for row in e]
    biases = np.sum((w["bias"][m] + e[:, 2:] * w["delta_bias"][m]) ** 2, axis=1)
    expected = np.mean(h[:, 0] * kernels) + np.mean(h[:, 1] * biases)
    np.testing.assert_allclose(sum(float(loss) for loss in layer.losses), expected, rtol=1e-4)


def test_convolution_is_the_dense_layer_at_each_position(data):
    rng = np.random.default_rng(5)
    images, h = rng.normal(size=(7, 3, 2, 4)).astype("float32"), data[1]
    for tied in (True, False):
        conv = HyperBatchEnsembleConv2D(2, 1, 3, ranges=RANGES, tie_fast_weights=tied)
        dense = HyperBatchEnsembleDense(2, 3, ranges=RANGES, tie_fast_weights=tied)
        conv([images, h])
        dense([images[:, 0, 0], h])
        values = _randomised(conv)
        assert len(values) == (7 if tied else 9)
        for weight in dense.weights:
            weight.assign(values[weight.name].reshape(weight.shape))
        answers = _array(conv([images, h]))
        for row in range(3):
            for column in range(2):
                at = _array(dense([images[:, row, column], h]))
                np.testing.assert_allclose(answers[:, row, column], at, rtol=1e-4, atol=1e-4)


def test_untied_delta_kernel_has_its_own_fast_weights(data):
    x, h = data
    layer = HyperBatchEnsembleDense(2, 3, ranges=RANGES, use_bias=False, tie_fast_weights=False)
    layer([x, h])
    w = _randomised(layer)
    m = _rows(7, 3)
    e = _scaled(h) @ w["e_kernel"]
    plain = w["s"][0][m] * ((x * w["r"][0][m]) @ w["kernel"])
    delta = w["delta_s"][0][m] * ((x * w["delta_r"][0][m]) @ w["delta_kernel"])
    np.testing.assert_allclose(_array(layer([x, h])), plain + e * delta, rtol=1e-4, atol=1e-4)
    assert [weight.name for weight in layer.fast_weights] == ["r", "s", "delta_r", "delta_s"]


@pytest.mark.fast("1-conv-True", "7-dense-True", "12-conv-False")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize("count", [1, 7, 12])
def test_hyperparameters_of_members_are_those_of_their_rows(kind, tied, count):
    """Kernels that are added first give what two passes give, for equal and unequal shares and none."""
    rng = np.random.default_rng(5)
    h = np.exp(rng.uniform(*np.log(RANGES).T, (4, 3))).astype("float32")
    options = {"ranges": RANGES, "tie_fast_weights": tied, "activation": "tanh"}
    if kind == "conv":
        layer = HyperBatchEnsembleConv2D(3, (2, 3), 4, strides=2, padding="same", **options)
        x = rng.normal(size=(count, 5, 4, 2)).astype("float32")
    else:
        layer = HyperBatchEnsembleDense(3, 4, **options)
        x = rng.normal(size=(count, 2)).astype("float32")
    layer([x, h])
    _randomised(layer)
    rows = h[_rows(count, 4)]
    for training in (False, True):
        given = _array(layer([x, h], training=training))
        expected = _array(layer([x, rows], training=training))
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_layers_stand_what_layers_must(check_layer, data):
    x, h = data
    check_layer(
        lambda: HyperBatchEnsembleDense(
            2, 1, ranges=RANGES, l2_index=0, activation="tanh", kernel_initializer="ones",
            r_initializer="ones", s_initializer="ones",
        ),
        [x[:5], h[:5]],
    )  # fmt: skip


def test_distribution_draws_within_the_members_bounds_and_answers_with_their_mean():
    layer = LogUniformHyperparameters(2, [(1e-3, 1.0), (0.01, 0.1)], initial_width=0.1, seed=1)
    x = np.zeros((4000, 1), "float32")
    layer(x)
    lower, upper = np.array([[0.01, 0.02], [0.1, 0.03]]), np.array([[0.1, 0.04], [0.9, 0.09]])
    layer.log_lower.assign(np.log(lower))
    layer.log_upper.assign(np.log(upper))
    drawn = _array(layer(x, training=True)).reshape(2, 2000, 2)
    assert (drawn > lower[:, None] * 0.999).all() and (drawn < upper[:, None] * 1.001).all()
    logs = (np.log(drawn) - np.log(lower[:, None])) / np.log(upper / lower)[:, None]
    quantiles = np.quantile(logs, [0.25, 0.5, 0.75], axis=1)
    np.testing.assert_allclose(quantiles, np.tile([[[0.25]], [[0.5]], [[0.75]]], (1, 2, 2)), atol=0.04)
    np.testing.assert_allclose(_array(layer(x)), (upper - lower) / np.log(upper / lower), rtol=1e-4)
    again = _array(layer(x, training=True)).reshape(2, 2000, 2)
    assert (again != drawn).mean() > 0.99


def test_members_start_in_nearly_the_same_narrow_interval():
    layer = LogUniformHyperparameters(4, [(0.1, 100.0)], initial_width=0.0138)
    layer(np.zeros((4, 1)))
    lower, upper = (np.exp(_array(w)) for w in (layer.log_lower, layer.log_upper))
    np.testing.assert_allclose((lower + upper) / 2, 14.46, rtol=0.01)  # the reference's centre
    np.testing.assert_allclose(upper - lower, 0.4, rtol=0.02)  # and width


@pytest.fixture
def model(tiny):
    """An mlp for 4x4 images with two members."""
    return tiny(zoo.methods.HyperBatch(2), input_shape=(4, 4, 1))


@pytest.fixture
def small():
    """Twelve images 4x4x1 and labels."""
    return np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), "uint8"), np.arange(12) % 3


def test_loss_smooths_labels_row_by_row_and_adds_l2(model, small):
    images, labels = small
    logits = model(images, training=True)
    layer = model.network.get_layer("hyperparameters")
    h = _array(layer.drawn).reshape(2, 12, -1)
    loss = float(model.compute_loss(images, labels, logits))
    log_p = _array(ops.log_softmax(logits))
    smoothing = h[:, :, -1].T[..., None]
    target = np.eye(3)[labels][:, None] * (1 - smoothing) + smoothing / 3
    expected = -np.mean(np.sum(target * log_p, axis=-1)) + sum(float(x) for x in model.losses)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert len(model.losses) == 6  # kernels and biases of three layers


def test_tuning_follows_the_gradient_and_nothing_else_moves(model, small):
    images, labels = small
    layer = model.network.get_layer("hyperparameters")
    for weight in model.weights:  # let answers depend on hyperparameters
        if weight.name == "e_kernel":
            weight.assign(np.random.default_rng(1).normal(0, 1, weight.shape))
    tuning = zoo.HyperparameterTuning(images, labels, learning_rate=0.0, entropy_weight=0.5)
    tuning.set_model(model)
    before = [_array(w) for w in model.weights]
    gradients = {}
    plain = tuning.optimizer.apply

    def record(values, variables):
        gradients.update({v.name: _array(g) for g, v in zip(values, variables)})
        plain(values, variables)

    tuning.optimizer.apply = record

    def loss_at(name, index, step):
        weight = getattr(layer, name)
        start = _array(weight)
        moved = start.copy()
        moved[index] += step
        weight.assign(moved)
        value = tuning.tune(7)
        weight.assign(start)
        return value

    step = 2e-3
    for name, index in (("log_lower", (0, 1)), ("log_upper", (1, 0)), ("log_upper", (0, 4))):
        numeric = (loss_at(name, index, step) - loss_at(name, index, -step)) / (2 * step)
        tuning.tune(7)
        np.testing.assert_allclose(gradients[name][index], numeric, rtol=0.05, atol=2e-3)
    for old, weight in zip(before, model.weights):
        np.testing.assert_array_equal(old, _array(weight))


@pytest.mark.jax
@pytest.mark.slow
def test_fit_tunes_every_third_step_and_keeps_bounds_in_their_ranges(model, small, tmp_path):
    images, labels = small
    layer = model.network.get_layer("hyperparameters")
    tuning = zoo.HyperparameterTuning(images[8:], labels[8:], learning_rate=50.0)
    start = _array(layer.log_upper)
    model.fit(images[:8], labels[:8], batch_size=4, verbose=0, callbacks=[tuning])
    np.testing.assert_array_equal(start, _array(layer.log_upper))  # two steps
    model.fit(images[:8], labels[:8], batch_size=4, verbose=0, callbacks=[tuning])
    lower, upper = (_array(w) for w in (layer.log_lower, layer.log_upper))
    assert not np.array_equal(start, upper)
    low, high = (_array(x) for x in layer.limits())
    assert (low <= lower).all() and (lower < upper).all() and (upper <= high).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_without_label_smoothing_there_is_one_hyperparameter_less(tiny):
    model = tiny(zoo.methods.HyperBatch(2, label_smoothing_max=0), input_shape=(4, 4, 1))
    layer = model.network.get_layer("hyperparameters")
    assert layer.log_lower.shape == (2, 4)  # stem, stage, head kernel, head bias
    model(np.zeros((2, 4, 4, 1)), training=True)
    assert layer.smoothing() is None


def test_bad_arguments_fail_before_training(model, small, tiny, raises_line):
    images, labels = small
    with raises_line(ValueError, "12 held-out images and 3 labels"):
        zoo.HyperparameterTuning(images, labels[:3])
    with raises_line(ValueError, "every=0"):
        zoo.HyperparameterTuning(images, labels, every=0)
    with raises_line(ValueError, r"held-out images are \(4, 3, 1\)"):
        model.fit(images, labels, callbacks=[zoo.HyperparameterTuning(images[:, :, :3], labels)])
    with raises_line(ValueError, "no hyperparameters to tune"):
        tiny(zoo.methods.Single(), input_shape=(4, 4, 1)).fit(
            images, labels, callbacks=[zoo.HyperparameterTuning(images, labels)]
        )
    with raises_line(ValueError, "labels run from 0 to 9"):
        model.fit(
            images, labels, callbacks=[zoo.HyperparameterTuning(images, np.full(12, 9) * (labels > 0))]
        )
    with raises_line(ValueError, "got 0"):
        zoo.methods.HyperBatch(0)
    with raises_line(ValueError, "0 < low < high"):
        zoo.methods.HyperBatch(2, l2_min=1.0, l2_max=0.5)
    with raises_line(ValueError, "none has index 5"):
        HyperBatchEnsembleDense(2, ranges=RANGES, l2_index=5)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch exports no SavedModel")
def test_saved_models_add_the_members_kernels_first(tiny, tmp_path):
    import tensorflow as tf

    model = tiny(zoo.methods.HyperBatch(3), "lenet", (12, 12, 1))
    for layer in model.network.layers:
        if hasattr(layer, "e_kernel"):
            layer.e_kernel.assign(np.random.default_rng(1).normal(0, 0.3, layer.e_kernel.shape))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1), "uint8")
    zoo.export(model, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    for count in (1, 5):
        members = loaded.serve(tf.constant(images[:count], tf.float32))["members"]
        np.testing.assert_allclose(members, zoo.predict(model, images[:count]).members, atol=1e-5)


def test_tuning_on_several_replicas_is_refused(raises_line):
    tuning = zoo.HyperparameterTuning(np.zeros((4, 16, 16, 3), "uint8"), np.zeros(4, "int32"))
    model = zoo.build(zoo.methods.HyperBatch(2), "lenet", 3, (16, 16, 3))
    model._distribute_strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    with raises_line(ValueError, "data_parallel"):
        tuning.set_model(model)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "mixed_bfloat16"])
def test_networks_train_and_answer_in_other_precisions(precision, tiny):
    keras.config.set_dtype_policy(precision)
    model = tiny(zoo.methods.HyperBatch(2), "lenet", (12, 12, 1))
    x = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 1), "uint8")
    assert np.isfinite(model.train_on_batch(x, np.arange(8) % 3)).all()
    assert np.isfinite(model.predict_on_batch(x)).all()
