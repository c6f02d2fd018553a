"""Calibrated ensembles: fits against SciPy and scikit-learn, saving, exporting, refusals.  On every backend."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

import zoo
from zoo.calibration import METHODS, Isotonic, Temperature, VectorScaling, calibrate, fit_temperature
from zoo.methods import DeepEnsemble, Packed

POOLED = METHODS[:3]


def numpy(value):
    return ops.convert_to_numpy(value)


def nll(log_p, labels):
    return -log_p[np.arange(len(labels)), labels].mean()


def log_mean(members):
    return np.log(members.mean(axis=1))


@pytest.fixture(scope="module")
def held_out():
    """Images whose pixels are logits of three members, and labels drawn from a colder distribution."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(400, 3, 4, 1)) * 40 + 120
    sharp = softmax(logits[..., 0].mean(axis=1) / 25, axis=-1)
    labels = np.array([rng.choice(4, p=row) for row in sharp])
    return logits.astype("float32"), labels


@pytest.fixture
def reader():
    """A classifier that reads its member logits, divided by four, from the pixels (3, 4, 1)."""
    images = keras.Input((3, 4, 1))
    x = keras.layers.Rescaling(0.25)(keras.layers.Reshape((3, 4))(images))
    return zoo.EnsembleClassifier(keras.Model(images, x, name="network"), name="reader")


@pytest.mark.parametrize("method", POOLED)
def test_predict_answers_as_the_model_where_it_is_far_too_sure(method, reader, held_out):
    images, labels = held_out
    images = 120 + 40 * (images - 120)  # log-probabilities of -2000 and less
    with pytest.warns(UserWarning, match="values in"):
        calibrated = calibrate(reader, images, labels, method)
        given = zoo.predict(calibrated, images)
    expected = np.exp(calibrated.predict(images, verbose=0).astype("float64"))
    np.testing.assert_allclose(given.probabilities, expected, atol=2e-4)


@pytest.mark.slow
def test_temperatures_minimise_the_nll(reader, held_out):
    images, labels = held_out
    logits = images[..., 0].astype("float64") / 4
    averaged = log_mean(softmax(logits, axis=-1))
    for method, log_p in (
        ("temperature", lambda t: log_softmax(averaged / t, axis=-1)),
        ("member_temperature", lambda t: log_mean(softmax(logits / t, axis=-1))),
    ):
        best = min(np.linspace(0.2, 20, 3961), key=lambda t, log_p=log_p: nll(log_p(t), labels))
        given = calibrate(reader, images, labels, method).predict(images, verbose=0)
        np.testing.assert_allclose(given, log_p(best), atol=0.05)
        assert nll(given, labels) <= nll(log_p(best), labels) + 1e-5
        assert nll(given, labels) < nll(averaged, labels) - 0.1


def test_vector_scaling_minimises_the_nll(reader, held_out):
    images, labels = held_out
    labels = np.where(labels == 2, 3, labels)  # a class that never comes: the bound, not infinity
    model = calibrate(reader, images, labels, "vector")
    averaged = log_mean(softmax(images[..., 0].astype("float64") / 4, axis=-1))
    found = minimize(
        lambda x: nll(log_softmax(averaged * x[:4] + x[4:], axis=-1), labels),
        np.r_[np.ones(4), np.zeros(4)], method="SLSQP", bounds=[(0.05, 20)] * 4 + [(-20, 20)] * 4,
    )  # fmt: skip
    given = nll(model.predict(images, verbose=0), labels)
    assert given <= found.fun + 1e-3
    warm = nll(calibrate(reader, images, labels).predict(images, verbose=0), labels)
    assert given < warm
    assert np.isfinite(model.calibration.offset).all()


def test_isotonic_is_scikit_learns_a_class(reader, held_out):
    images, labels = held_out
    p = softmax(images[..., 0].astype("float64") / 4, axis=-1).mean(axis=1)
    fresh = np.random.default_rng(4).dirichlet(np.full(4, 0.3), 200)
    model = calibrate(reader, images, labels, "isotonic")
    for x in (p, fresh):
        fits = [
            IsotonicRegression(out_of_bounds="clip").fit(p[:, k], labels == k).predict(x[:, k])
            for k in range(4)
        ]
        expected = 400 / 401 * np.stack(fits, axis=1) + x / 401
        expected /= expected.sum(axis=1, keepdims=True)
        given = np.exp(numpy(model.calibration(np.log(x).astype("float32"))))
        # Float32 probabilities beside a jump may fall to its other side.
        assert np.quantile(np.abs(given - expected), 0.99) < 1e-4
    assert np.isfinite(model.predict(images, verbose=0)).all()


@pytest.mark.slow
def test_constant_predictions_and_one_image(reader):
    images, labels = np.full((6, 3, 4, 1), 7.0, "float32"), np.array([0, 1, 1, 1, 2, 2])
    given = np.exp(calibrate(reader, images, labels, "isotonic").predict(images, verbose=0))
    shares = 6 / 7 * np.array([1, 3, 2, 0]) / 6 + 1 / 28
    np.testing.assert_allclose(given, np.tile(shares, (6, 1)), atol=1e-5)
    for method in METHODS:
        model = calibrate(reader, images[:1], labels[:1], method)
        assert np.isfinite(model.predict(images, verbose=0)).all()


@pytest.mark.slow
def test_distributions_as_labels(reader, held_out):
    images, labels = held_out
    for method in METHODS:
        given = calibrate(reader, images, np.eye(4)[labels], method).predict(images, verbose=0)
        expected = calibrate(reader, images, labels[:, None], method).predict(images, verbose=0)
        np.testing.assert_array_equal(given, expected)


def test_certain_members_do_not_make_it_infinite():
    log_members = np.log(np.maximum(np.eye(3)[[0, 1, 2, 1]], np.finfo("float64").tiny))[:, None]
    assert fit_temperature(log_members, np.eye(3)[[0, 1, 2, 1]]) == pytest.approx(0.05, rel=0.3)
    assert fit_temperature(log_members, np.eye(3)[[1, 2, 0, 0]]) == pytest.approx(20, rel=0.01)


@pytest.mark.fast("vector")
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("method", METHODS)
def test_calibrated_models_save_load_and_train(method, tiny, images, labels, tmp_path):
    model = tiny(Packed(2, 1))
    before = numpy(model(images))
    calibrated = calibrate(model, images, labels, method)
    expected = numpy(calibrated(images))
    np.testing.assert_allclose(np.exp(expected).sum(axis=-1), 1, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_array_equal(numpy(model(images)), before)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(images)), expected)
    if method in POOLED:
        assert loaded.calibration.get_config() == calibrated.calibration.get_config()
    assert (
        calibrated.evaluate(images, labels, verbose=0)[0] < model.evaluate(images, labels, verbose=0)[0]
    )
    assert np.isfinite(loaded.fit(images, labels, verbose=0).history["loss"]).all()
    model.save_weights(tmp_path / "plain.weights.h5")
    if method in POOLED:
        twin = calibrate(tiny(Packed(2, 1)), images, labels, method)
        twin.load_weights(tmp_path / "plain.weights.h5")
        np.testing.assert_array_equal(twin.get_weights()[0], model.get_weights()[0])


def test_probabilities_and_a_second_calibration(tiny, images, labels):
    model = tiny(DeepEnsemble(2), activation="softmax")
    first = calibrate(model, images, labels, "isotonic")
    np.testing.assert_allclose(first.predict(images, verbose=0).sum(axis=-1), 1, atol=1e-5)
    again = calibrate(first, images, labels, "temperature")
    fresh = calibrate(model, images, labels, "temperature")
    assert again.calibration.get_config() == fresh.calibration.get_config() | {
        "name": again.calibration.name
    }


SERVE = """
import sys
import numpy as np
import tensorflow as tf

images = np.load("images.npy")
for name in sys.argv[1:]:
    loaded = tf.saved_model.load(name)
    given = loaded.signatures["serving_default"](images=tf.constant(images, tf.float32))
    np.savez(f"{name}.npz", **{key: value.numpy() for key, value in given.items()})
assert "zoo" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="needs TensorFlow or JAX")
def test_saved_models_keep_the_calibration(tiny, images, labels, tmp_path, forked_python):
    models = {method: calibrate(tiny(Packed(2, 1)), images, labels, method) for method in METHODS}
    for method, model in models.items():
        zoo.export(model, tmp_path / method)
    np.save(tmp_path / "images.npy", images)
    forked_python("-c", f"import os\nos.chdir({str(tmp_path)!r})\n{SERVE}", *METHODS)
    for method, model in models.items():
        with np.load(tmp_path / f"{method}.npz") as arrays:
            given = dict(arrays)
        p = np.exp(model.predict(images, verbose=0))
        members = softmax(model.network.predict(images, verbose=0), axis=-1)
        mean = members.mean(axis=1)
        information = -(mean * np.log(mean)).sum(-1) + (members * np.log(members)).sum(-1).mean(-1)
        np.testing.assert_allclose(given["probabilities"], p, atol=1e-5)
        np.testing.assert_allclose(given["members"], members, atol=1e-5)
        np.testing.assert_allclose(given["predictive_entropy"], -(p * np.log(p)).sum(-1), atol=1e-4)
        np.testing.assert_allclose(given["mutual_information"], information, atol=1e-4)


MAPS = {
    "temperature": Temperature(1.7),
    "vector": VectorScaling([1, 0.5, 2], [0, -1, 0.25]),
    "isotonic": Isotonic([[0.1, 0.2, 0.9], [0.5], [0, 1]], [[0, 0.4, 1], [0.3], [0, 1]], 0.01),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_good_layers(name):
    layer = MAPS[name]
    x = np.log([[0.2, 0.3, 0.5], [0.98, 0.01, 0.01], [1e-30, 1e-30, 1.0]]).astype("float32")
    given = numpy(layer(x))
    assert layer.compute_output_shape((None, 3)) == (None, 3) and not layer.weights
    np.testing.assert_allclose(np.exp(given).sum(axis=-1), 1, atol=1e-5)
    twin = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(numpy(twin(x)), given)
    model = keras.Sequential([keras.Input((3,)), layer])
    np.testing.assert_allclose(model.predict(x, verbose=0), given, atol=1e-5)


def test_bad_arguments_are_refused_in_one_line(tiny, images, labels, raises_line):
    model = tiny()
    broken = images.astype("float32")
    broken[3, 0, 0, 0] = math.nan
    calls = [
        (lambda: calibrate(keras.Sequential(), images, labels), "EnsembleClassifier.*Sequential"),
        (lambda: calibrate(model, images, labels, "platt"), "member_temperature.*platt"),
        (lambda: calibrate(model, images, labels[:4]), "5 .*images and 4"),
        (lambda: calibrate(model, images[:0], labels[:0]), "empty"),
        (lambda: calibrate(model, images, None), "pass labels="),
        (lambda: calibrate(model, images, labels + 1), "1 to 3.*3 classes"),
        (lambda: calibrate(model, images, labels - 1), "-1 to 1.*3 classes"),
        (lambda: calibrate(model, broken, labels), "NaN.*image 3"),
        (lambda: calibrate(model, images[:, :9], labels), "images must be"),
        (lambda: Temperature(0), "temperature.*0"),
        (lambda: Temperature(math.nan), "temperature.*nan"),
        (lambda: VectorScaling([1, 2], [0]), "2 and 1"),
        (lambda: Isotonic([[0, 1]], [[0]]), "same number of knots"),
        (lambda: Isotonic([[0]], [[0]], 2), "own_share.*2"),
    ]
    for call, pattern in calls:
        with raises_line(ValueError, pattern):
            call()


@pytest.mark.fast("temperature", "isotonic")
@pytest.mark.parametrize("method", METHODS)
def test_predict_is_calibrated(method, tiny, images, labels):
    plain = tiny(Packed(2, 1))
    model = calibrate(plain, images, labels, method)
    prediction = zoo.predict(model, images, batch_size=2)
    p = np.exp(model.predict(images, verbose=0))
    np.testing.assert_allclose(prediction.probabilities, p, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels, p.argmax(axis=-1))
    np.testing.assert_allclose(prediction.entropy, -(p * np.log(p)).sum(-1), atol=1e-4)
    if method in POOLED:
        before = zoo.predict(plain, images)
        np.testing.assert_allclose(prediction.members, before.members, atol=1e-6)
        np.testing.assert_allclose(prediction.mutual_information, before.mutual_information, atol=1e-6)
    assert len(zoo.predict(model, images[:0])) == 0


LOAD = """
import sys
import zoo, keras
import numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


@pytest.mark.slow
def test_a_fresh_process_loads_calibrated_models(tiny, images, labels, tmp_path, forked_python):
    model = calibrate(tiny(), images, labels, "isotonic")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    forked_python(
        "-c", LOAD, *(tmp_path / name for name in ("model.keras", "images.npy", "answers.npy"))
    )
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, atol=1e-5)


def test_data_sets_and_folders_bring_their_labels(tiny, images, labels, tmp_path, raises_line):
    from PIL import Image

    model = tiny()
    expected = calibrate(model, images, labels).calibration.temperature
    shuffled = [3, 0, 4, 1, 2]
    batches = iter(
        [(images[shuffled[:3]], labels[shuffled[:3]]), (images[shuffled[3:]], labels[shuffled[3:]])]
    )
    assert calibrate(model, batches).calibration.temperature == pytest.approx(expected, rel=1e-3)
    model.class_names = ["a", "b", "c"]
    for index, (image, label) in enumerate(zip(images, labels)):
        (tmp_path / model.class_names[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / model.class_names[label] / f"{index}.png")
    calibrated = calibrate(model, tmp_path)
    assert calibrated.calibration.temperature == pytest.approx(expected, rel=1e-3)
    assert calibrated.class_names == ["a", "b", "c"]
    with raises_line(ValueError, "pass labels=, a labelled data set, or a folder"):
        calibrate(model, images)
