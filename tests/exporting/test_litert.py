"""LiteRT files on the default interpreter: answers, sizes, quantization, refusals."""

import warnings

import keras
import numpy as np
import pytest

import zoo
from zoo import methods
from zoo.exporting import litert
from zoo.layers import densify, sparse_layers, sparsify

tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT is TensorFlow's")

METHODS = {
    "batch_ensemble": (methods.BatchEnsemble(2), "lenet"),
    "masksembles": (methods.Masksembles(3), "lenet"),
    "mc_dropout": (methods.MCDropout(2, rate=0.3), "lenet"),
    "mc_dropout of channels": (methods.MCDropout(2, rate=0.3, filterwise=True), "lenet"),
    "mimo": (methods.MIMO(2), "mlp"),
}


# Images 28x28x1 in squares of one grey.
DIGITS = (
    np.random.default_rng(4).integers(0, 256, (46, 7, 7, 1), "uint8").repeat(4, axis=1).repeat(4, axis=2)
)
DIGITS, OTHERS = DIGITS[:6], DIGITS[6:]


def altered(model):
    """The model with other weights than its first ones, biases and moving statistics among them."""
    rng = np.random.default_rng(5)
    weights = model.network.get_weights()
    noise = [0.03 * rng.normal(size=w.shape) * (w.dtype != bool) for w in weights]
    model.network.set_weights([(w + n).astype(w.dtype) for w, n in zip(weights, noise)])
    return model


def graded(model, images):
    """The model altered, with logits between about -3 and 3 for the images, so that no answer is certain."""
    head = altered(model).network.get_layer("head")
    logits = np.asarray(model.network(images.astype("float32")))
    head.kernel.assign(head.kernel * (3 / np.abs(logits).max()))
    return model


def lenet(sparsity=None, **options):
    """A single LeNet for images 28x28x1, of ten classes."""
    keras.utils.set_random_seed(3)
    model = zoo.build(methods.Single(), "lenet", 10, (28, 28, 1))
    return graded(model if sparsity is None else sparsify(model, sparsity, **options), DIGITS)


def difference(path, model, images):
    """The largest difference of each output from `zoo.predict`'s, for several batch sizes."""
    given, prediction = {}, zoo.predict(model, images)
    expected = {
        "probabilities": prediction.probabilities,
        "members": prediction.members,
        "predictive_entropy": prediction.entropy,
        "mutual_information": prediction.mutual_information,
        "suspect_range": np.zeros(len(images), "float32"),
    }
    interpreter = litert.interpreter(path.read_bytes(), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    for count in (len(images), 1, 3):
        answers = runner(images=images[:count].astype("float32"))
        assert set(answers) == set(expected)
        for name, value in answers.items():
            assert value.dtype == np.float32 and value.shape == expected[name][:count].shape
            off = np.abs(value - expected[name][:count]).max()
            given[name] = max(given.get(name, 0), off if np.isfinite(value).all() else np.inf)
        np.testing.assert_allclose(answers["probabilities"].sum(axis=-1), 1, atol=1e-5)
    return given


@pytest.mark.fast("batch_ensemble")
@tensorflow
@pytest.mark.parametrize("name", ["batch_ensemble", "mc_dropout of channels"])
def test_methods_answer_as_the_model(name, tiny, images, tmp_path):
    """All others, less exactly, are in test_runtimes.py."""
    method, backbone = METHODS[name]
    model = altered(tiny(method, backbone))
    path = zoo.export(model, tmp_path / "out", format="litert")
    assert path == tmp_path / "out" / "model.tflite"
    assert max(difference(path, model, images).values()) < 1e-5


@pytest.mark.slow
@tensorflow
@pytest.mark.parametrize(("method", "backbone"), [(methods.Packed(2, 1), "resnet20"), METHODS["mimo"]])
def test_optimized_files_answer_as_the_model(method, backbone, tiny, images, tmp_path):
    model = altered(tiny(method, backbone))
    path = zoo.export(model, tmp_path, "litert", optimize=True)
    assert max(difference(path, model, images).values()) < 1e-5


@pytest.mark.slow
@tensorflow
@pytest.mark.parametrize("name", ["batch_ensemble", "masksembles", "mc_dropout"])
def test_int8_serves_members_that_are_rows(name, tiny, images, tmp_path):
    method, backbone = METHODS[name]
    model = graded(tiny(method, backbone), images)
    path = zoo.export(model, tmp_path, "litert", "int8", images)
    off = difference(path, model, images)
    assert off["members"] < 0.1


MODELS = {
    "dense": lenet,
    "sparse": lambda: lenet(0.8),
    "blocks": lambda: lenet(0.8, block_shape=(1, 4)),
}
TOLERANCE = {None: 1e-5, "float16": 1e-2, "int8": 0.1}


@pytest.mark.slow
@tensorflow
@pytest.mark.parametrize("kind", MODELS)
def test_all_kinds_run_in_all_precisions_and_get_smaller(kind, tmp_path):
    model = MODELS[kind]()
    sizes = {}
    for quantize, tolerance in TOLERANCE.items():
        representative = OTHERS if quantize == "int8" else None
        path = zoo.export(model, tmp_path, "litert", quantize, representative)
        off = difference(path, model, DIGITS)
        assert max(off["probabilities"], off["members"]) < tolerance
        sizes[quantize] = path.stat().st_size
        tensors = litert.interpreter(path.read_bytes()).get_tensor_details()
        in_blocks = [t["shape"] for t in tensors if len(t["sparsity_parameters"].get("block_map", ()))]
        # Quantized blocks are computed with wrongly, so they must not be there.
        assert len(in_blocks) == (2 if (kind, quantize) == ("blocks", None) else 0)
        kinds = {str(t["dtype"]) for t in tensors if tuple(t["shape"]) in [(120, 400), (84, 120)]}
        if quantize == "int8":
            assert kinds == {str(np.int8)}
    dense = zoo.export(lenet(), tmp_path, "litert").stat().st_size
    assert sizes["float16"] < 0.6 * dense and sizes["int8"] < 0.4 * dense
    if kind != "dense":
        assert sizes[None] < 0.35 * dense and sizes["int8"] < 0.25 * dense


@pytest.mark.slow
@tensorflow
@pytest.mark.parametrize("method", ["temperature", "isotonic", "member_temperature"])
def test_calibrated_models_answer_calibrated(method, tmp_path):
    model = zoo.calibrate(lenet(), OTHERS, np.arange(40) % 10, method)
    path = zoo.export(model, tmp_path, "litert")
    assert max(difference(path, model, DIGITS).values()) < 1e-5


@pytest.mark.slow
@tensorflow
def test_tickets_are_exported_as_ordinary_networks(tiny, images, tmp_path):
    import tensorflow as tf

    model = tiny(methods.Tickets(2, sparsity=0.7), "lenet")
    joined = zoo.ensemble([model, sparsify(tiny(methods.Single(), "lenet"), 0.5)])
    for given in (model, joined):
        masks = len(sparse_layers(given.network))
        path = zoo.export(given, tmp_path, "litert")
        assert max(difference(path, given, images).values()) < 1e-5
        loaded = tf.saved_model.load(zoo.export(given, tmp_path / "saved"))
        served = loaded.serve(tf.constant(images))
        np.testing.assert_allclose(served["members"], zoo.predict(given, images).members, atol=1e-5)
        assert all(variable.dtype != tf.bool for variable in loaded.weights)
        assert len(loaded.weights) == len(densify(given.network).variables)
        assert len(sparse_layers(given.network)) == masks  # the given model stays


@pytest.mark.slow
@tensorflow
def test_half_precision_models_export(images, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = zoo.build(methods.Packed(2, 1), "lenet", 3, (16, 16, 3))
    path = zoo.export(model, tmp_path, "litert")
    assert difference(path, model, images)["members"] < 5e-3


@pytest.mark.slow
@tensorflow
def test_the_command_reports_the_size(tmp_path, monkeypatch, capsys):
    from zoo import cli

    lenet().save(tmp_path / "model.keras")
    np.savez(tmp_path / "digits.npz", x_train=OTHERS[..., 0])
    monkeypatch.chdir(tmp_path)
    assert not cli.main(["export", "model.keras", "out", "--format=litert", "--quantize=int8",
                         "--representative=digits.npz", "--optimize"])  # fmt: skip
    path = tmp_path / "out" / "model.tflite"
    assert f"{path.stat().st_size:,} bytes" in capsys.readouterr().out
    np.savez(tmp_path / "other.npz", images=OTHERS)
    assert cli.main(["export", "model.keras", "out", "--format=litert", "--quantize=int8",
                     "--representative=other.npz"]) == 2  # fmt: skip


def restless(tiny):
    return tiny(methods.MCDropout(2, rate=0.3, consistent=False), "mlp")


BAD = [
    ({"format": "pmml"}, "format must be savedmodel, litert, onnx or openvino.*'pmml'"),
    ({"format": "litert", "quantize": "int4"}, "quantize must be.*'int4'"),
    ({"format": "litert", "quantize": "int8"}, "representative=, about 100 images"),
    ({"format": "litert", "quantize": "int8", "representative": []}, "representative="),
    (
        {"format": "litert", "quantize": "int8", "representative": np.zeros((4, 8, 8, 3))},
        r"images must be \(N, 16, 16, 3\)",
    ),
    ({"format": "litert", "representative": np.zeros((4, 16, 16, 3))}, 'needs quantize="int8"'),
    ({"quantize": "int8"}, 'need format="litert"'),
    ({"representative": np.zeros((4, 16, 16, 3))}, 'need format="litert"'),
]


@tensorflow
@pytest.mark.parametrize(("options", "pattern"), BAD)
def test_bad_arguments_are_refused_before_anything_is_written(
    options, pattern, tiny, tmp_path, raises_line
):
    with raises_line(ValueError, pattern):
        zoo.export(tiny(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@tensorflow
def test_dropout_that_draws_anew_is_refused(tiny, tmp_path, raises_line):
    with raises_line(ValueError, "consistent=True"):
        zoo.export(restless(tiny), tmp_path / "out", "litert")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_are_refused(backend, tiny, tmp_path, raises_line, monkeypatch):
    model = tiny()
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with raises_line(ValueError, f"needs the tensorflow backend, not {backend}"):
        zoo.export(model, tmp_path / "out", "litert")
    assert not (tmp_path / "out").exists()


@pytest.mark.fast("1000")
@tensorflow
@pytest.mark.parametrize("factor", [1, 1000])
def test_int8_that_costs_too_much_is_warned_of(factor, tmp_path):
    model = lenet()
    first, second = (model.network.get_layer(name) for name in ("conv1", "conv2"))
    for weight in (
        first.kernel,
        first.bias,
    ):  # one channel with a range of its own, which changes no answer
        weight.assign(np.concatenate([weight[..., :1] * factor, weight[..., 1:]], axis=-1))
    second.kernel.assign(
        np.concatenate([second.kernel[:, :, :1] / factor, second.kernel[:, :, 1:]], axis=2)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zoo.export(model, tmp_path, "litert", quantize="int8", representative=OTHERS)
    assert not [one for one in caught if "tf.lite.Interpreter" in str(one.message)]
    said = [str(one.message) for one in caught if "of the answers" in str(one.message)]
    assert len(said) == (factor > 1), said
    assert all(one.filename == __file__ for one in caught if "of the answers" in str(one.message))


@pytest.mark.slow
@tensorflow
def test_dropout_of_sizes_that_a_layer_leaves_open(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Reshape((8, 24))(images)
    x = keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), activation="tanh")(x)
    source = keras.Model(images, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))
    model = zoo.convert(source, methods.MCDropout(3, rate=0.3))
    some = np.random.default_rng(0).integers(0, 4, (6, 8, 8, 3)).astype("uint8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dark images
        path = zoo.export(model, tmp_path, format="litert")
        assert difference(path, model, some)["members"] < 1e-5


@pytest.mark.slow
@tensorflow
def test_operations_that_litert_lacks_are_told_in_one_line(tmp_path, raises_line):
    source = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Reshape((8, 24)),
            keras.layers.LSTM(4),
            keras.layers.Dense(3),
        ]
    )
    model = zoo.convert(source, methods.BatchEnsemble(2))
    with raises_line(ValueError, "LiteRT cannot run this network .*TensorList.*onnx"):
        zoo.export(model, tmp_path, format="litert")
