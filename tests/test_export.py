"""SavedModels answer as the model does, in a process that has TensorFlow and none of our code."""

import keras
import numpy as np
import pytest

import zoo
from zoo.methods import Packed, Single

ANSWERS = """
import sys
import numpy as np
import tensorflow as tf

folder, images_file, result = sys.argv[1:]
images = np.load(images_file)
loaded = tf.saved_model.load(folder)
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
np.savez(result, **arrays)
assert "zoo" not in sys.modules
"""

KERAS_EXPORT = """
import sys
import numpy as np
import tensorflow as tf

folder, images_file, result = sys.argv[1:]
images = np.load(images_file).astype("float32")
loaded = tf.saved_model.load(folder)
np.savez(result, one=loaded.serve(images[:1]).numpy(), five=loaded.serve(images).numpy())
assert "zoo" not in sys.modules
"""


def served(script, folder, images, tmp_path, python):
    np.save(tmp_path / "images.npy", images)
    python("-c", script, folder, tmp_path / "images.npy", tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("method", "backbone"), [(Packed(2, 1), "resnet20"), (Single(), "lenet")])
def test_saved_model_answers_as_the_model(method, backbone, tiny, images, tmp_path, python):
    model = tiny(method, backbone)
    assert zoo.export(model, str(tmp_path / "saved")) == tmp_path / "saved"
    prediction = zoo.predict(model, images)
    expected = {
        "probabilities": prediction.probabilities,
        "members": prediction.members,
        "predictive_entropy": prediction.entropy,
        "mutual_information": prediction.mutual_information,
    }
    arrays = served(ANSWERS, tmp_path / "saved", images, tmp_path, python)
    assert len(arrays) == 6 * 2 * 4
    for key, given in arrays.items():
        _, count, output = key.split("/")
        np.testing.assert_allclose(given, expected[output][: int(count)], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_keras_export_answers_as_the_model(activation, tiny, images, tmp_path, python):
    model = tiny(backbone="lenet", activation=activation)
    model.export(tmp_path / "saved", verbose=False)
    arrays = served(KERAS_EXPORT, tmp_path / "saved", images, tmp_path, python)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(arrays["five"], expected, atol=1e-5)
    np.testing.assert_allclose(arrays["one"], expected[:1], atol=1e-5)


def test_export_leaves_the_model_as_it_was_and_replaces_files(tiny, images, labels, tmp_path):
    model = tiny()
    expected = model.predict(images, verbose=0)
    for _ in range(2):
        zoo.export(model, tmp_path / "saved")
        np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
    assert np.isfinite(model.train_on_batch(images, labels)[0])


def test_half_precision_models_export(images, tmp_path):
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_float16")
    model = zoo.build(Packed(2, 1), "lenet", 3, (16, 16, 3))
    zoo.export(model, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    given = loaded.serve(tf.constant(images))
    assert given["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(given["members"], zoo.predict(model, images).members, atol=5e-3)


def test_only_classifiers_are_exported(tmp_path, raises_line):
    with raises_line(ValueError, "EnsembleClassifier.*Sequential"):
        zoo.export(keras.Sequential(), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
