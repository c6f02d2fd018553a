"""All formats, in their own runtimes: the same outputs for all methods, and guards against bad images."""

import json

import keras
import numpy as np
import pytest

import zoo
from helpers import runtimes
from zoo.exporting.export import FORMATS

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only SavedModels are written on other backends"
)
METHODS = [
    "single", "deep_ensemble", "packed", "batch_ensemble", "mimo", "hyper_batch", "hyper_deep",
    "dst_tickets", "edst_tickets", "masksembles", "mc_dropout",
]  # fmt: skip
# The networks of hyper_deep and edst_tickets are those of deep_ensemble and dst_tickets by other names.
CASES = [
    (method, format)
    for method in METHODS
    for format in FORMATS
    if format == "savedmodel" or method not in ("hyper_deep", "edst_tickets")
]


def build(method, backbone="lenet", **options):
    """A small model with other weights than its first ones and answers that are not certain."""
    members = {} if method == "single" else {"num_members": 3 if method == "masksembles" else 2}
    model = zoo.load(
        f"{method}_{backbone}",
        weights=None,
        num_classes=3,
        input_shape=(16, 16, 3),
        **members,
        **options,
    )
    rng = np.random.default_rng(5)
    weights = model.network.get_weights()
    noise = [0.03 * rng.normal(size=w.shape) * (w.dtype != bool) for w in weights]
    model.network.set_weights([(w + n).astype(w.dtype) for w, n in zip(weights, noise)])
    return model


def expected(model, images):
    prediction = zoo.predict(model, images)
    return {
        "probabilities": prediction.probabilities,
        "members": prediction.members,
        "predictive_entropy": prediction.entropy,
        "mutual_information": prediction.mutual_information,
        "suspect_range": np.zeros(len(images), "float32"),
    }


def bad_pixels(images):
    """Images of which the first three hold NaN or infinite pixels, and the last two do not."""
    pixels = np.array(images, "float32")
    pixels[0, 3:6, 4:7] = np.nan
    pixels[1, 0, 0, 0] = np.inf
    pixels[2, 2], pixels[2, 3] = -np.inf, np.inf
    return pixels


@pytest.mark.fast("packed-onnx", "packed-savedmodel", "packed-openvino")
@pytest.mark.parametrize(("method", "format"), CASES)
def test_all_formats_answer_as_the_model_and_nan_for_images_with_nan_alone(
    method, format, images, tmp_path
):
    model = build(method)
    call = runtimes.run(zoo.export(model, tmp_path / "out", format))
    whole = expected(model, images)
    for count in (5, 1, 3):
        given = call(images[:count])
        assert set(given) == set(whole)
        for name, value in whole.items():
            assert given[name].dtype == np.float32
            np.testing.assert_allclose(given[name], value[:count], atol=1e-4, err_msg=name)
    for name, value in call(bad_pixels(images)).items():
        assert np.isnan(value[:3]).all(), name
        np.testing.assert_allclose(value[3:], whole[name][3:], atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_larger_calibrated_and_optimized_models_answer_as_they_do(format, images, tmp_path):
    model = zoo.calibrate(build("packed", "resnet20"), np.tile(images, (4, 1, 1, 1)), np.arange(20) % 3)
    call = runtimes.run(zoo.export(model, tmp_path / "out", format, optimize=True))
    for name, value in expected(model, images).items():
        np.testing.assert_allclose(call(images)[name], value, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["lenet", "resnet20"])
@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_nan_in_gives_nan_out_of_quantized_files(quantize, backbone, images, tmp_path):
    samples = np.tile(images, (4, 1, 1, 1)) if quantize == "int8" else None
    path = zoo.export(build("packed", backbone), tmp_path, "litert", quantize, samples)
    for value in runtimes.run(path)(bad_pixels(images)).values():
        assert np.isnan(value[:3]).all() and np.isfinite(value[3:]).all()


@pytest.mark.fast("litert")
@pytest.mark.parametrize("format", FORMATS)
def test_images_that_are_not_in_the_range_are_flagged(format, tmp_path):
    rng = np.random.default_rng(1)
    right = rng.integers(0, 256, (16, 16, 3)).astype("float32")
    dark = np.zeros_like(right)
    dark[0, 0, 0] = 2
    cases = {
        "right": (right, 0), "black": (0 * right, 0), "dark": (dark, 0), "white": (0 * right + 255, 0),
        "scaled": (right / 255, 1), "centred": (right / 127.5 - 1, 1), "standardized": (right / 64 - 2, 1),
        "16 bits": (right * 256, 1), "below": (right - 20, 1),
    }  # fmt: skip
    images, flags = (np.stack(values) for values in zip(*cases.values()))
    given = runtimes.run(zoo.export(build("single"), tmp_path / "out", format))(images)
    assert dict(zip(cases, given["suspect_range"].round(3))) == dict(zip(cases, flags))


WRONG = [(1, 40, 53, 3), (1, 32, 32, 3), (2, 8, 8, 3), (1, 48, 48, 1), (1, 16, 16, 1), (16, 16, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_images_of_another_size_fail_where_the_network_would_answer(format, tmp_path):
    path = zoo.export(build("single", "resnet20", resize=None), tmp_path / "out", format)
    call = runtimes.run(path)
    for shape in WRONG:
        with pytest.raises(Exception) as caught:
            call(np.full(shape, 100))
        assert len(str(caught.value)) < 900, "pixels were printed"
        call = runtimes.run(path) if format == "litert" else call
    call(np.full((2, 16, 16, 3), 100))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A loaded SavedModel of a model that takes one size."""
    import tensorflow as tf

    model = build("single", "resnet20", class_names=["cat", "dog", "é"], resize=None)
    return tf.saved_model.load(zoo.export(model, tmp_path_factory.mktemp("saved")))


@pytest.mark.slow
def test_a_saved_model_says_in_a_sentence_which_images_it_takes(served):
    import tensorflow as tf

    default, uint8 = (served.signatures[f"serving_{name}"] for name in ("default", "uint8"))
    calls = {
        "default": lambda images: default(images=tf.constant(images, tf.float32)),
        "uint8": lambda images: uint8(images=tf.constant(images, tf.uint8)),
        **{kind: lambda images, kind=kind: served.serve(images.astype(kind))
           for kind in ("float32", "uint8", "int64", "float64", "float16", "int32")},
    }  # fmt: skip
    for name, call in calls.items():
        for shape in (*WRONG, (0, 16, 16, 3), (2, 1, 16, 16, 3), (7,)):
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                call(np.full(shape, 100))
            lines = [line for line in str(caught.value).splitlines() if "images must be" in line]
            got = " ".join(map(str, shape))
            assert lines == [f"assertion failed: [images must be (B, 16, 16, 3); got] [{got}]"], name
            assert len(str(caught.value).splitlines()) < 8
        call(np.full((2, 16, 16, 3), 100))


@pytest.mark.slow
def test_class_names_travel(served, tmp_path):
    import onnxruntime
    import openvino

    names = ["cat", "dog", "é"]
    given = served.signatures["class_names"]()["class_names"].numpy()
    assert [name.decode() for name in given] == names
    assert served.class_names_file.asset_path.numpy().decode().endswith("assets/class_names.txt")
    model = build("single", class_names=names)
    session = onnxruntime.InferenceSession(zoo.export(model, tmp_path, "onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == names
    read = openvino.Core().read_model(zoo.export(model, tmp_path, "openvino"))
    assert json.loads(read.get_rt_info(["class_names"]).astype(str)) == names


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_a_saved_model_resizes_as_the_model_does(resize, tmp_path):
    import tensorflow as tf

    model = build("packed", resize=resize)
    served = tf.saved_model.load(zoo.export(model, tmp_path))
    rng = np.random.default_rng(2)
    for shape in ((2, 16, 16, 3), (2, 40, 53, 3), (1, 7, 90, 3), (3, 16, 17, 3)):
        images = rng.integers(0, 256, shape, "uint8")
        expected = zoo.predict(model, images).members
        for given in (
            served.serve(images), served.signatures["serving_default"](images=tf.cast(images, "float32")),
            served.signatures["serving_uint8"](images=tf.constant(images)),
        ):  # fmt: skip
            np.testing.assert_allclose(given["members"], expected, atol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images must be \(B, any, any, 3\)"):
        served.serve(np.zeros((1, 30, 30, 4), "uint8"))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_missing_package_is_named(format, images, tmp_path, monkeypatch, raises_line):
    import sys

    monkeypatch.setitem(sys.modules, {"onnx": "tf2onnx"}.get(format, format), None)
    with raises_line(ValueError, rf"pip install 'ensemble-zoo\[{format}\]'"):
        zoo.export(build("single"), tmp_path / "out", format)
