"""The JAX backend, in processes of its own: the backend-neutral tests, training, export."""

import json
import pathlib

import numpy as np
import pytest

from helpers import jax_processes

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
NEUTRAL = {  # in one process each, which compiles every operation once
    "packed": ["layers/test_packed.py", "layers/test_packed_weights.py", "layers/test_mimo.py"],
    "rows": [
        "layers/test_tiling.py", "layers/test_batch_ensemble.py", "layers/test_masksembles.py",
        "layers/test_monte_carlo.py", "layers/test_hyper_batch.py",
    ],
    "training": [
        "layers/sparse/test_layers.py", "layers/sparse/test_block_masks.py", "training/test_recipes.py",
        "training/loop/test_learning_rates.py", "training/loop/test_augmentation.py",
        "test_progress_line.py", "data/test_arrays.py", "data/test_epoch_shuffle.py",
    ],
    "models": [
        "test_classifier.py", "test_classifier_fit.py", "test_converting.py", "test_fast_weights.py",
        "test_predict.py", "converting/test_new_weights.py", "converting/test_own_dropout.py",
        "converting/test_user_models.py",
    ],
}  # fmt: skip

TRAIN = """
import sys
from absl import flags
from zoo.training import train

flags.FLAGS(["train", *sys.argv[1:]])
train.main(["train"])
assert "jax" in sys.modules
assert "tensorflow" not in sys.modules
"""

EXPORT = """
import sys
import keras
import numpy as np
import zoo

keras.utils.set_random_seed(0)
folder, images_file, result = sys.argv[1:]
model = zoo.build(zoo.methods.Packed(2, 1), "lenet", 3, (16, 16, 3))
zoo.export(model, folder)
np.save(result, zoo.predict(model, np.load(images_file)).probabilities)
"""


@pytest.mark.parametrize("group", NEUTRAL)
def test_neutral_tests_pass_on_jax(group, python):
    files = [HERE / file for file in NEUTRAL[group]]
    options = ["-m", "not slow or jax", "--tb=short", "-p", "no:cacheprovider"]
    process = python("-m", "pytest", *files, *options, **jax_processes.environment())
    assert " passed" in process.stdout and "skipped" not in process.stdout


def test_training_on_jax_needs_no_tensorflow_and_its_weights_serve_there(python, data_dir, tmp_path):
    import zoo

    arguments = ["--recipe=cifar10_packed_lenet", "--epochs=1", "--batch_size=16", "--num_members=2"]
    python(
        "-c",
        TRAIN,
        *arguments,
        f"--data_dir={data_dir}",
        f"--output_dir={tmp_path}",
        **jax_processes.environment(),
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config["software"]) == {"keras", "jax"}
    model = zoo.load("packed_lenet", weights=tmp_path)
    with np.load(data_dir / "cifar10.npz") as arrays:
        p = zoo.predict(model, arrays["x_test"]).probabilities
        nll = -np.log(p[np.arange(40), arrays["y_test"]]).mean()
    assert config["metrics"]["cifar10"]["nll"] == pytest.approx(nll, abs=1e-4)


def test_jax_models_export_to_saved_models(forked_python, images, tmp_path):
    import tensorflow as tf

    np.save(tmp_path / "images.npy", images)
    paths = [tmp_path / name for name in ("saved", "images.npy", "result.npy")]
    forked_python("-c", EXPORT, *paths, KERAS_BACKEND="jax")
    loaded = tf.saved_model.load(paths[0])
    for name, dtype in (("serving_default", "float32"), ("serving_uint8", "uint8")):
        for count in (1, 5):
            given = loaded.signatures[name](images=tf.constant(images[:count].astype(dtype)))
            expected = np.load(paths[2])[:count]
            np.testing.assert_allclose(given["probabilities"].numpy(), expected, atol=1e-5)
            assert {"probabilities", "members", "predictive_entropy", "mutual_information"} <= set(given)
