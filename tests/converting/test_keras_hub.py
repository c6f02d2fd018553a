"""`zoo.convert` of KerasHub's backbones with random weights (extra `hub`)."""

import keras
import numpy as np
import pytest

import zoo
from zoo import counts
from zoo.methods import BatchEnsemble, DeepEnsemble, MCDropout, Packed

pytestmark = pytest.mark.slow
models = pytest.importorskip("keras_hub").models


def resnet():
    return models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block",
        image_shape=(16, 16, 3),
    )  # fmt: skip


def vit():
    return models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


@pytest.fixture(scope="module", params=[resnet, vit])
def classifier(request):
    """A backbone with a pooled head of three classes, and its probabilities of two images."""
    keras.utils.set_random_seed(0)
    backbone = request.param()
    pool = keras.layers.GlobalAveragePooling2D if request.param is resnet else None
    x = (pool or keras.layers.GlobalAveragePooling1D)()(backbone.output)
    head = keras.layers.Dense(3, activation="softmax", name="logits")(x)
    model = keras.Model(backbone.input, head, name=request.param.__name__)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    return model, images, keras.ops.convert_to_numpy(model(images / 255, training=False))


@pytest.mark.parametrize("method", [BatchEnsemble(2), MCDropout(2, rate=0.0), DeepEnsemble(2)])
def test_a_backbone_becomes_an_ensemble(classifier, method, tmp_path):
    model, images, expected = classifier
    assert np.ptp(expected, axis=0).max() > 1e-4  # the images are told apart
    converted = zoo.convert(model, method, spread=0, tile_at=0.6, preprocessing=lambda x: x / 255)
    members = keras.ops.softmax(converted.network(images, training=False))
    np.testing.assert_allclose(members, np.repeat(expected[:, None], 2, axis=1), atol=1e-5)
    assert counts.macs(model) <= counts.macs(converted.network) < 2 * counts.macs(model)
    assert np.isfinite(converted.train_on_batch(images, np.array([0, 2]))[0])
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.network(images, training=False), converted.network(images, training=False), atol=1e-5
    )


def densenet():
    return models.DenseNetBackbone(
        stackwise_num_repeats=[1, 1], compression_ratio=0.5, growth_rate=4, image_shape=(32, 32, 3)
    )


TASKS = {
    "vit": lambda: models.ViTImageClassifier(
        backbone=vit(), num_classes=3, dropout=0.3, activation="softmax"
    ),
    "densenet": lambda: models.DenseNetImageClassifier(
        backbone=densenet(), num_classes=3, activation="softmax"
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_tasks_become_ensembles(name, raises_line):
    keras.utils.set_random_seed(0)
    model = TASKS[name]()
    images = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:])).astype("float32")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    for method in (BatchEnsemble(2), DeepEnsemble(2)):
        network = zoo.convert(model, method, spread=0).network
        members = keras.ops.softmax(network(images, training=False))
        np.testing.assert_allclose(members, np.repeat(expected[:, None], 2, axis=1), atol=1e-5)
    own = MCDropout(2, rate=None)
    if name == "densenet":  # whose dropout has rate 0
        with raises_line(ValueError, "has no Dropout layer .*pass a rate"):
            zoo.convert(model, own)
    else:
        drawn = zoo.convert(model, own).network
        assert drawn.get_layer("output_dropout").rate == 0.3
        members = keras.ops.convert_to_numpy(keras.ops.softmax(drawn(images, training=False)))
        assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-3


def test_layers_of_a_fixed_width_are_named(classifier, raises_line):
    model = classifier[0]
    if model.name == "vit":
        with raises_line(ValueError, "cannot have another width, .*deep_ensemble"):
            zoo.convert(model, Packed(2, alpha=1))
    else:
        with pytest.warns(UserWarning, match="new weights"):
            assert zoo.convert(model, Packed(2, alpha=1)).num_members == 2
