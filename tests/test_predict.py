"""`zoo.predict` and `Prediction` against their formulas.  Runs on every backend."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.methods import Packed, Single


def entropy(p):
    return -sum(0 if q == 0 else q * math.log(q) for q in p)


@pytest.fixture(scope="module")
def members():
    """Probabilities (4, 3, 5) with one certain and one impossible class, and one unanimous image."""
    p = np.random.default_rng(5).dirichlet(np.ones(5) / 2, (4, 3))
    p[0, 0] = np.eye(5)[2]
    p[3] = p[3, 0]
    return p


def test_quantities_are_their_formulas(members):
    prediction = zoo.Prediction(members)
    assert len(prediction) == 4
    for n, p in enumerate(members):
        mean = p.mean(axis=0)
        expected = sum(entropy(row) for row in p) / 3
        choices = p.argmax(axis=-1)
        pairs = [(0, 1), (0, 2), (1, 2)]
        np.testing.assert_allclose(prediction.probabilities[n], mean)
        assert prediction.labels[n] == mean.argmax()
        assert prediction.confidence[n] == pytest.approx(mean.max())
        assert prediction.entropy[n] == pytest.approx(entropy(mean))
        assert prediction.expected_entropy[n] == pytest.approx(expected)
        assert prediction.mutual_information[n] == pytest.approx(entropy(mean) - expected, abs=1e-12)
        assert prediction.disagreement[n] == sum(choices[i] != choices[j] for i, j in pairs) / 3
    assert prediction.mutual_information[3] >= 0 and prediction.disagreement[3] == 0


def test_one_member_disagrees_with_nobody():
    prediction = zoo.Prediction(np.full((2, 1, 4), 0.25))
    np.testing.assert_array_equal(prediction.disagreement, 0)
    np.testing.assert_array_equal(prediction.mutual_information, 0)
    np.testing.assert_allclose(prediction.entropy, math.log(4))


@pytest.mark.fast("2-method0", "5-method1")
@pytest.mark.parametrize("method", [Single(), Packed(2, 1)])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_members_are_softmaxes_of_the_network(method, batch_size, tiny, images):
    model = tiny(method)
    logits = ops.convert_to_numpy(model.network(images.astype("float32"))).astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    prediction = zoo.predict(model, images, batch_size=batch_size)
    assert prediction.members.shape == (5, method.num_members, 3)
    assert prediction.members.dtype == np.float64
    np.testing.assert_allclose(prediction.members, expected, atol=1e-5)
    np.testing.assert_allclose(prediction.members.sum(axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(
        prediction.probabilities, np.exp(model.predict(images, verbose=0)), atol=1e-5
    )


@pytest.mark.fast("float64", "list")
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int32", list])
def test_image_types_answer_alike(kind, tiny, images):
    model = tiny(activation="softmax")
    other = images.tolist() if kind is list else images.astype(kind)
    np.testing.assert_allclose(
        zoo.predict(model, other).members, zoo.predict(model, images).members, atol=1e-5
    )


@pytest.mark.parametrize(
    "images", [np.zeros((0, 16, 16, 3), "uint8"), [], (), np.array([], "O"), iter([])]
)
def test_no_images_give_no_predictions(images, tiny):
    prediction = zoo.predict(tiny(), images)
    assert prediction.members.shape == (0, 2, 3)
    assert prediction.entropy.shape == prediction.mutual_information.shape == (0,)


class Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return (self.images[2 * index : 2 * index + 2],)


def test_datasets_of_batches(tiny, images):
    model = tiny()
    expected = zoo.predict(model, images).members
    np.testing.assert_allclose(zoo.predict(model, Batches(images)).members, expected, atol=1e-6)
    batches = ((images[i : i + 2],) for i in (0, 2, 4))
    np.testing.assert_allclose(zoo.predict(model, batches).members, expected, atol=1e-6)


def broken(value, dtype="float32"):
    images = np.full((4, 16, 16, 3), 100, dtype)
    images[1, 3, 4, 0] = images[3, 0, 0, 0] = value
    return images


BAD_IMAGES = {
    "nan": (lambda: broken(np.nan), "2 of 4 images.*NaN.*image 1"),
    "infinite": (lambda: broken(-np.inf, "float64"), "2 of 4 images.*infinite.*image 1"),
    "no batch axis": (lambda: np.zeros((16, 16, 3), "uint8"), r"\(N, 16, 16, 3\).*images\[None\]"),
    "no batch axis, other size": (
        lambda: np.zeros((9, 16, 3), "uint8"),
        r"\(N, 16, 16, 3\).*\(9, 16, 3\).*images\[None\]",
    ),
    "size": (lambda: np.zeros((2, 8, 16, 3), "uint8"), r"\(N, 16, 16, 3\).*\(2, 8, 16, 3\)"),
    "channels": (lambda: np.zeros((2, 16, 16, 1), "uint8"), r"\(2, 16, 16, 1\)"),
    "words": (lambda: np.full((2, 16, 16, 3), "a"), "dtype <U1"),
    "complex": (lambda: np.zeros((2, 16, 16, 3), "complex64"), "dtype complex64"),
    "objects": (lambda: np.full((2, 16, 16, 3), None), "dtype object"),
    "ragged": (lambda: [[[[1]]], [[[1, 2]]]], "images"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_refused_in_one_line(kind, tiny, raises_line):
    images, pattern = BAD_IMAGES[kind]
    with raises_line(ValueError, pattern):
        zoo.predict(tiny(), images())


def test_another_model_of_keras_is_told_of_convert(images, raises_line):
    with raises_line(ValueError, "takes an EnsembleClassifier; got Sequential: zoo.convert makes one"):
        zoo.predict(keras.Sequential(), images)


def test_nan_in_a_dataset_is_refused_too(tiny, raises_line):
    with raises_line(ValueError, "NaN"):
        zoo.predict(tiny(), Batches(broken(np.nan)), progress=False)


@pytest.mark.parametrize("kind", [np.asarray, list, Batches], ids=["array", "list", "data set"])
def test_images_scaled_to_one_are_warned_of(kind, tiny, images):
    model = tiny()
    with pytest.warns(UserWarning, match=r"\[0, 255\]"):
        zoo.predict(model, kind(images / 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        zoo.predict(model, kind(images.astype("float32")))
        zoo.predict(model, kind(images // 255))
        zoo.predict(model, kind(np.zeros_like(images, "float32")))


@pytest.mark.parametrize("kind", [np.asarray, list, Batches], ids=["array", "list", "data set"])
def test_values_that_are_not_pixels_are_warned_of(kind, tiny, images):
    model = tiny()
    for values, seen in (((images - 127.0) / 64, r"\[-1"), (images.astype("uint16") * 200, "e[+]04"),
                         (images - np.full_like(images, 9, "int32"), "-9")):  # fmt: skip
        with pytest.warns(UserWarning, match=f"values in .*{seen}.* takes .0, 255."):
            zoo.predict(model, kind(values))


def test_long_input_shows_progress_on_stderr(tiny, images, capfd):
    model = tiny()
    many = np.repeat(images, 5, axis=0)
    zoo.predict(model, many, batch_size=1)
    captured = capfd.readouterr()
    assert "predicting" in captured.err and "25/25" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_progress_of_short_input_is_asked_for(progress, shown, tiny, images, capfd):
    zoo.predict(tiny(), images, progress=progress)
    assert ("predicting" in capfd.readouterr().err) is shown
