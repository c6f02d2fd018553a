"""EfficientNet-Lite0: sizes of the whole network, and every method's depthwise convolutions."""

import keras
import numpy as np
import pytest

import zoo
from zoo import counts
from zoo.methods import (
    MIMO,
    BatchEnsemble,
    DeepEnsemble,
    HyperBatch,
    Masksembles,
    MCDropout,
    Packed,
    Single,
    Tickets,
)

METHODS = [
    Single(),
    DeepEnsemble(2),
    Packed(2, 1),
    BatchEnsemble(2),
    MIMO(2),
    HyperBatch(2),
    Masksembles(2),
    MCDropout(2),
    Tickets(2, 0.5),
]


@pytest.fixture
def tiny_network(monkeypatch):
    """Build the network with two narrow stages, which has one block of each kind."""
    stages = ((1, 3, 1, 1, 8), (2, 5, 2, 2, 8))
    monkeypatch.setattr("zoo.backbones.efficientnet_lite._STAGES", stages)

    def build(method):
        return zoo.build(method, "efficientnet_lite0", 3, (8, 8, 3))

    return build


@pytest.fixture(scope="module")
def pictures():
    """Four images 8x8x3."""
    return np.random.default_rng(5).integers(0, 256, (4, 8, 8, 3), "uint8")


@pytest.mark.slow
def test_whole_network_has_the_published_size():
    """4,652,008 parameters, those of the PyTorch implementations; MACs are summed up by hand.

    A stage's are, with its resolution, those of its 1x1 and depthwise convolutions.
    """
    network = zoo.build(Single(), "efficientnet_lite0", 1000, (224, 224, 3)).network
    assert counts.parameters(network)[0] == 4_652_008
    stem = 112**2 * 32 * 27
    stage1 = 112**2 * (32 * 9 + 32 * 16)
    stage2 = 112**2 * 16 * 96 + 56**2 * (96 * (9 + 24) + 24 * 144 + 144 * (9 + 24))
    stage3 = 56**2 * 24 * 144 + 28**2 * (144 * (25 + 40) + 240 * (40 + 25 + 40))
    stage4 = 28**2 * 40 * 240 + 14**2 * (240 * (9 + 80) + 2 * 480 * (80 + 9 + 80))
    stage5 = 14**2 * (480 * (80 + 25 + 112) + 2 * 672 * (112 + 25 + 112))
    stage6 = 14**2 * 112 * 672 + 7**2 * (672 * (25 + 192) + 3 * 1152 * (192 + 25 + 192))
    stage7 = 7**2 * 1152 * (192 + 9 + 320)
    head = 7**2 * 320 * 1280 + 1280 * 1000
    stages = stage1 + stage2 + stage3 + stage4 + stage5 + stage6 + stage7
    assert counts.macs(network) == stem + stages + head


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_feature_maps_shrink_as_published(stem):
    network = zoo.build(Single(), "efficientnet_lite0", 10, (64, 64, 3), stem=stem).network
    full = 32 if stem == "imagenet" else 64
    sides = [network.get_layer(f"stage{i}_block1_project_conv").output.shape[1] for i in range(1, 8)]
    assert sides == [full, full // 2, full // 4, full // 8, full // 8, full // 16, full // 16]


def members_of(model, images):
    """Logits of all members (N, M, K), without a graph, which takes long to trace."""
    return keras.ops.convert_to_numpy(model.network(keras.ops.cast(images, "float32")))


@pytest.mark.fast("packed")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_answers_and_learns(method, tiny_network, pictures, tmp_path):
    model = tiny_network(method)
    members = members_of(model, pictures)
    assert members.shape == (4, method.num_members, 3)
    if method.num_members > 1:
        assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-4
    kernels = [layer for layer in model.network.layers if layer.name.endswith("depthwise_conv")]
    before = [layer.get_weights()[0] for layer in kernels]
    assert len(before) == 3
    model.run_eagerly = True
    model.train_on_batch(pictures, np.array([0, 1, 2, 1]))
    for layer, kernel in zip(kernels, before):
        assert (layer.get_weights()[0] != kernel).any()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(members_of(loaded, pictures), members_of(model, pictures), atol=1e-6)


@pytest.mark.slow
def test_singles_fuse_and_convert_with_the_same_answers(tiny_network, pictures):
    singles = [tiny_network(Single()) for _ in range(3)]
    answers = [members_of(model, pictures)[:, 0] for model in singles]
    members = members_of(zoo.fuse(singles), pictures)
    np.testing.assert_allclose(members, np.stack(answers, axis=1), atol=1e-5)
    for method in (BatchEnsemble(2), HyperBatch(2), MCDropout(2, rate=0.0), Masksembles(2, scale=1.0)):
        members = members_of(zoo.convert(singles[0], method, spread=0), pictures)
        np.testing.assert_allclose(members, np.stack([answers[0]] * 2, axis=1), atol=1e-5)
