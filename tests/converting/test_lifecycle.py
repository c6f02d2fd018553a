"""What a converted model can do afterwards: fit, predict, calibrate, save, export, join."""

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from helpers import runtimes
from zoo import counts
from zoo.exporting.folding import folded
from zoo.methods import BatchEnsemble, DeepEnsemble, MCDropout, Packed


@pytest.fixture(scope="module")
def pair():
    """Two classifiers of the same three classes: one with a softmax, one with logits."""
    keras.utils.set_random_seed(0)

    def model(activation):
        images = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, use_bias=False)(images / 255)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dense(6, activation="relu")(layers.Flatten()(x))
        return keras.Model(images, layers.Dense(3, activation=activation)(x))

    return model("softmax"), model(None)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(3).integers(0, 256, (8, 8, 8, 3)).astype("uint8")


LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.mark.fast("batch_ensemble")
@pytest.mark.parametrize("method", [BatchEnsemble(2), DeepEnsemble(2)], ids=lambda method: method.name)
def test_a_converted_model_does_what_ours_do(pair, pictures, method, tmp_path):
    model = zoo.convert(pair[0], method, tile_at="head", preprocessing="caffe")
    model.fit(pictures, LABELS, epochs=1, batch_size=4, verbose=0)
    prediction = zoo.predict(model, pictures)
    assert prediction.members.shape == (8, 2, 3)
    calibrated = zoo.calibrate(model, pictures, LABELS)
    expected = zoo.predict(calibrated, pictures).probabilities

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(zoo.predict(loaded, pictures).members, prediction.members, atol=1e-6)

    zoo.export(calibrated, tmp_path / "saved", optimize=True)
    import tensorflow as tf

    artifact = tf.saved_model.load(str(tmp_path / "saved"))
    served = artifact.serve(pictures)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only SavedModels are written on others"
)
@pytest.mark.fast("litert")
@pytest.mark.parametrize("format", ["savedmodel", "litert", "onnx", "openvino"])
def test_dropout_of_the_networks_own_is_exported(pictures, format, tmp_path):
    keras.utils.set_random_seed(1)
    inner = [layers.Conv2D(4, 3, activation="selu"), layers.AlphaDropout(0.3), layers.SpatialDropout2D(0.3),
             layers.GaussianDropout(0.3), layers.Dropout(0.3, noise_shape=(None, 1, 1, 1)), layers.Flatten(),
             layers.Dropout(0.5), layers.Dense(3)]  # fmt: skip
    user = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), *inner])
    model = zoo.convert(user, MCDropout(3, rate=None))
    expected = zoo.predict(model, pictures)
    assert np.ptp(expected.members, axis=1).max() > 0.01
    call = runtimes.run(zoo.export(model, tmp_path / "out", format))
    for count in (8, 3):
        members = call(pictures[:count])["members"]
        np.testing.assert_allclose(members, expected.members[:count], atol=1e-5)


def test_normalisations_behind_replaced_layers_fold(pair):
    network = zoo.convert(pair[0], BatchEnsemble(2)).network
    copy = folded(network)  # which compares the answers
    assert len(copy.layers) == len(network.layers) - 1


def test_macs_count_members_where_they_part(pair):
    single = counts.macs(pair[0])
    assert single == 6 * 6 * 27 * 4 + 144 * 6 + 18
    for tile_at, rest in ((None, single), ("dense", 144 * 6 + 18), ("head", 18)):
        names = [layer.name for layer in pair[0].layers if layer.name.startswith("dense")]
        place = names[0] if tile_at == "dense" else tile_at
        for method in (BatchEnsemble(3), DeepEnsemble(3)):
            network = zoo.convert(pair[0], method, tile_at=place).network
            assert counts.macs(network) == single + 2 * rest


def test_ensemble_mixes_any_classifiers(pair, pictures, raises_line):
    ours = zoo.build(Packed(2), "mlp", 3, (8, 8, 3))
    softmax, logits = pair
    joined = zoo.ensemble([softmax, logits, ours])
    assert joined.num_members == 4
    images = pictures.astype("float32")
    members = keras.ops.softmax(joined.network(images))
    np.testing.assert_allclose(members[:, 0], softmax(images), atol=1e-5)
    np.testing.assert_allclose(members[:, 1], keras.ops.softmax(logits(images)), atol=1e-5)
    np.testing.assert_allclose(members[:, 2:], keras.ops.softmax(ours.network(images)), atol=1e-5)

    hidden = keras.Model(softmax.input, keras.ops.softmax(logits(softmax.input)) * 1.0)
    told = zoo.ensemble([hidden], from_logits=False)
    np.testing.assert_allclose(keras.ops.softmax(told.network(images))[:, 0], hidden(images), atol=1e-5)

    other = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4)])
    with raises_line(ValueError, "models must agree"):
        zoo.ensemble([softmax, other])
    with raises_line(ValueError, "models must be"):
        zoo.ensemble(["softmax"])


def test_macs_of_dense_layers_over_tokens():
    images = keras.Input((4, 4, 3))
    x = layers.Dense(5)(layers.Reshape((16, 3))(images))
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))
    assert counts.macs(model) == 16 * 15 + 80 * 2
    network = zoo.convert(model, BatchEnsemble(3)).network
    assert counts.macs(network) == 3 * counts.macs(model)
