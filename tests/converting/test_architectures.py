"""`zoo.convert` of `keras.applications`: answers kept, a step of training, files."""

import keras
import numpy as np
import pytest

import zoo
from zoo import counts
from zoo.methods import BatchEnsemble, DeepEnsemble, MCDropout

ARCHITECTURES = {
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "VGG16": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
}
# All as rows of the batch; rows without weights of their own, and copies, where the layers differ most.
METHODS = {
    BatchEnsemble(2): tuple(ARCHITECTURES),
    MCDropout(2, rate=0.0): (
        "MobileNetV3Small", "EfficientNetB0", "DenseNet121", "InceptionV3", "ConvNeXtTiny",
    ),
    DeepEnsemble(2): ("MobileNetV2", "EfficientNetV2B0", "ResNet50V2", "VGG16", "ConvNeXtTiny"),
}  # fmt: skip
CASES = [(name, method) for name in ARCHITECTURES for method, names in METHODS.items() if name in names]


@pytest.fixture(scope="module")
def original(request):
    """(model, images, its probabilities) of an architecture with random weights."""
    return made(request.param)


def made(name):
    """A network whose normalisations know its activations, so that it tells images apart."""
    keras.utils.set_random_seed(0)
    pixels = ARCHITECTURES[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(pixels, pixels, 3), classes=5)
    images = np.random.default_rng(0).integers(0, 256, (8, pixels, pixels, 3)).astype("float32")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm in norms:
        norm.momentum = 0.99
    images = images[:2]
    return model, images, keras.ops.convert_to_numpy(model(images, training=False))


def check(model, images, expected, method, folder):
    converted = zoo.convert(model, method, spread=0, tile_at=0.8)
    assert np.ptp(expected, axis=0).max() > 1e-4  # the images are told apart
    logits = converted.network(images, training=False)
    members = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    np.testing.assert_allclose(members, np.repeat(expected[:, None], 2, axis=1), atol=1e-5)
    assert counts.macs(converted.network) < 1.5 * counts.macs(model)

    before = converted.network.get_layer("members").output.shape
    # Without minutes of compilation, and without moments, which would double what is made, saved and loaded.
    converted.compile(keras.optimizers.SGD(0.001), converted.loss, run_eagerly=True)
    assert np.isfinite(converted.train_on_batch(images, np.array([0, 3]))[0])
    assert before == (None, 2, 5)
    converted.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras", compile=False)
    np.testing.assert_allclose(
        loaded.network(images, training=False), converted.network(images, training=False), atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("original", "method"), CASES, indirect=["original"], ids=[f"{n}-{m.name}" for n, m in CASES]
)
def test_keras_applications_become_ensembles(original, method, tmp_path):
    check(*original, method, tmp_path)
