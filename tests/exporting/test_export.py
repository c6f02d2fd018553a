"""SavedModels answer as the model does, in a process that has TensorFlow and none of our code."""

import json

import keras
import numpy as np
import pytest

import zoo
from zoo.exporting import export
from zoo.layers.nested_layers import all_layers
from zoo.methods import MIMO, BatchEnsemble, MCDropout, Packed, Single, Tickets

# One process for all models, by `served`; `answers(loaded, images)` gives arrays by name.
SERVE = """
import json
import sys
import numpy as np
import tensorflow as tf

{answers}

images = np.load("images.npy")
for name in json.loads(sys.argv[1]):
    np.savez(f"{{name}}.npz", **answers(tf.saved_model.load(name), images))
assert "zoo" not in sys.modules
"""

ANSWERS = """
def answers(loaded, images):
    default, small = loaded.signatures["serving_default"], loaded.signatures["serving_uint8"]
    calls = {
        "numpy uint8": lambda x: default(images=x),
        "numpy float32": lambda x: default(images=x.astype("float32")),
        "tensor float32": lambda x: default(images=tf.constant(x, tf.float32)),
        "tensor uint8": lambda x: small(images=tf.constant(x)),
        "serve float32": lambda x: loaded.serve(tf.constant(x, tf.float32)),
        "serve uint8": lambda x: loaded.serve(tf.constant(x)),
    }
    arrays = {}
    for name, call in calls.items():
        for count in (1, 5):
            for output, value in call(images[:count]).items():
                arrays[f"{name}/{count}/{output}"] = value.numpy()
    return arrays
"""

KERAS_EXPORT = """
def answers(loaded, images):
    images = images.astype("float32")
    return {"one": loaded.serve(images[:1]).numpy(), "five": loaded.serve(images).numpy()}
"""


def served(answers, names, images, folder, forked_python):
    """{name: arrays} of the SavedModels FOLDER/NAME, answered by one process without our code."""
    np.save(folder / "images.npy", images)
    script = f"import os; os.chdir({str(folder)!r})\n{SERVE.format(answers=answers)}"
    forked_python("-c", script, json.dumps(list(names)))
    found = {}
    for name in names:
        with np.load(folder / f"{name}.npz") as arrays:
            found[name] = dict(arrays)
    return found


def trained_statistics(model):
    """The model with moving statistics far from 0 and 1."""
    rng = np.random.default_rng(3)
    for layer in all_layers(model.network):
        if hasattr(layer, "moving_mean"):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 4, layer.moving_variance.shape))
    return model


WHOLE = {
    "residual": (Packed(2, 1), "resnet20", False),
    "optimized": (Packed(2, 1), "resnet20", True),
    "single": (Single(), "lenet", False),
}


@pytest.mark.slow
def test_saved_models_answer_as_the_models(tiny, images, tmp_path, forked_python):
    models = {
        name: trained_statistics(tiny(method, backbone)) for name, (method, backbone, _) in WHOLE.items()
    }
    for name, model in models.items():
        given = zoo.export(model, str(tmp_path / name), optimize=WHOLE[name][2])
        assert given == tmp_path / name
    found = served(ANSWERS, models, images, tmp_path, forked_python)
    for name, model in models.items():
        prediction = zoo.predict(model, images)
        expected = {
            "probabilities": prediction.probabilities,
            "members": prediction.members,
            "predictive_entropy": prediction.entropy,
            "mutual_information": prediction.mutual_information,
            "suspect_range": np.zeros(len(images)),
        }
        assert len(found[name]) == 6 * 2 * 5
        for key, given in found[name].items():
            _, count, output = key.split("/")
            right = expected[output][: int(count)]
            np.testing.assert_allclose(given, right, atol=1e-5, err_msg=f"{name}: {key}")


@pytest.mark.slow
def test_keras_exports_answer_as_the_models(tiny, images, tmp_path, forked_python):
    models = {str(one): tiny(backbone="lenet", activation=one) for one in (None, "softmax")}
    for name, model in models.items():
        model.export(tmp_path / name, verbose=False)
    for name, arrays in served(KERAS_EXPORT, models, images, tmp_path, forked_python).items():
        expected = models[name].predict(images, verbose=0)
        np.testing.assert_allclose(arrays["five"], expected, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(arrays["one"], expected[:1], atol=1e-5, err_msg=name)


def test_export_leaves_the_model_as_it_was_and_replaces_files(tiny, images, labels, tmp_path):
    model = tiny()
    expected = model.predict(images, verbose=0)
    for _ in range(2):
        zoo.export(model, tmp_path / "saved")
        np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
    assert np.isfinite(model.train_on_batch(images, labels)[0])


@pytest.mark.slow
def test_half_precision_models_export(images, tmp_path):
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_float16")
    model = zoo.build(Packed(2, 1), "lenet", 3, (16, 16, 3), resize="crop")
    zoo.export(model, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    given = loaded.serve(tf.constant(images))
    assert given["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(given["members"], zoo.predict(model, images).members, atol=5e-3)


def stored(folder):
    """Numbers in the checkpoint of a SavedModel, of each kind but strings."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    shapes = [s for name, s in reader.get_variable_to_shape_map().items() if kinds[name] != tf.string]
    return sum(int(np.prod(shape)) for shape in shapes)


def small(method):
    """A classifier of two convolutions with normalisations."""
    images, factory = keras.Input((16, 16, 3)), method.layer_factory(1)
    x = factory.expand(images)
    for stage, role in enumerate(("stem", "hidden")):
        x = factory.begin_stage(stage, x) if stage else x
        x = factory.conv(8, 3, role, use_bias=False, name=f"conv{stage}")(x)
        x = factory.per_member(keras.layers.ReLU())(factory.norm()(x))
    x = factory.begin_stage("head", factory.per_member(keras.layers.GlobalAveragePooling2D())(x))
    logits = factory.dense(3, "head", name="head")(x)
    return zoo.EnsembleClassifier(method.finish(keras.Model(images, factory.members(logits))))


METHODS = [Packed(2, 1), BatchEnsemble(2), MCDropout(2), MIMO(2), Tickets(2)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_variable_is_stored_once_and_none_without_need(method, tmp_path):
    model = small(method)
    norms = [layer for layer in all_layers(model.network) if hasattr(layer, "moving_mean")]
    channels = sum(layer.moving_mean.shape[0] for layer in norms)
    masks = sum(layer.mask.shape.num_elements() for layer in zoo.layers.sparse_layers(model.network))
    weights = model.network.count_params() - masks
    zoo.export(model, tmp_path / "saved")
    assert stored(tmp_path / "saved") == weights
    zoo.export(model, tmp_path / "saved", optimize=True)
    biases = channels * (2 if isinstance(method, BatchEnsemble) else 1)
    copies = 3 * 3 * 3 * 8 if isinstance(method, MIMO) else 0  # of the stem's kernel
    assert stored(tmp_path / "saved") == weights - 4 * channels + biases - copies


PHOTOS = np.arange(6 * 768).reshape(6, 16, 16, 3) % 256
OPTIMIZED = {
    "calibrated": lambda: zoo.calibrate(small(Packed(2, 1)), PHOTOS, [0, 1, 2] * 2),
    "joined": lambda: zoo.ensemble([small(Single()), small(BatchEnsemble(2))]),
    "drawing": lambda: small(MCDropout(2, rate=0.3)),
    "sparse": lambda: small(Tickets(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZED)
def test_optimized_files_answer_as_the_model_at_any_batch_size(name, images, tmp_path):
    import tensorflow as tf

    model = trained_statistics(OPTIMIZED[name]())
    loaded = tf.saved_model.load(zoo.export(model, tmp_path / "saved", optimize=True))
    prediction = zoo.predict(model, images)
    for count in (1, 5, 3):
        given = loaded.serve(tf.constant(images[:count]))
        np.testing.assert_allclose(given["members"], prediction.members[:count], atol=1e-5)
        np.testing.assert_allclose(given["probabilities"], prediction.probabilities[:count], atol=1e-5)


class Changed(keras.layers.Layer):
    """A layer whose copies answer otherwise."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor


def test_what_would_answer_otherwise_is_not_written(images, tmp_path, raises_line):
    inputs = keras.Input(images.shape[1:])
    changed = Changed()
    changed.factor = 3.0  # not in its configuration
    x = changed(keras.layers.GlobalAveragePooling2D()(inputs))
    model = zoo.EnsembleClassifier(keras.Model(inputs, keras.layers.Reshape((1, 3))(x)))
    with raises_line(ValueError, "optimize=False"):
        zoo.export(model, tmp_path / "saved", optimize=True)
    assert not (tmp_path / "saved").exists()
    zoo.export(model, tmp_path / "saved")


@pytest.mark.parametrize("format", ["savedmodel", "litert"])
@pytest.mark.parametrize("place", ["file", "/proc/x"])
def test_directories_that_cannot_be_made_are_told_before_the_work(
    place, format, tiny, tmp_path, raises_line, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "_serving", None)
    with raises_line(OSError, f"the directory .*{place} cannot be made .*; pass the path of a folder"):
        zoo.export(tiny(), tmp_path / place, format)


def test_served_images_are_of_any_type_and_nan_where_a_cropped_pixel_is(tiny, tmp_path):
    import tensorflow as tf

    model = tiny(Single(), resize="crop")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3))
    expected = zoo.predict(model, pixels.astype("uint8")).probabilities
    loaded = tf.saved_model.load(zoo.export(model, tmp_path / "saved"))
    for dtype in ("bfloat16", "uint32", "uint64"):
        served = loaded.serve(tf.cast(pixels, dtype))["probabilities"]
        np.testing.assert_allclose(served, expected, atol=1e-4)
    pixels = pixels.astype("float32")
    pixels[1, 0, 0, 0] = np.nan
    for served in loaded.serve(pixels).values():
        assert np.isnan(served).reshape(2, -1).all(axis=1).tolist() == [False, True]


def test_only_classifiers_are_exported(tmp_path, raises_line):
    with raises_line(ValueError, "EnsembleClassifier.*Sequential"):
        zoo.export(keras.Sequential(), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
