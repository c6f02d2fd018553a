"""Parameters and MACs of whole networks against torch-uncertainty's.

torch-uncertainty counts trainable parameters, and so do we; Keras also counts the moving statistics of
normalisations, which are compared where a test says so.
"""

import keras
import pytest

import zoo
from zoo import counts
from zoo.methods import MIMO, BatchEnsemble, HyperBatch, Packed, Single

pytestmark = pytest.mark.usefixtures("quick_initializers")


def network(backbone, method, num_classes=10, stem="cifar"):
    """The network of `zoo.build`; the one before is forgotten, some are large."""
    keras.utils.clear_session()
    return zoo.build(method, backbone, num_classes, (32, 32, 3), stem=stem).network


TRAINABLE = [
    ("resnet18", Single(), {}, 11_173_962),
    ("resnet18", Packed(4, 2, 1), {}, 11_190_440),
    ("resnet18", Packed(4, 2, 2), {}, 8_175_784),
    ("resnet18", Packed(4, 2, 4), {}, 6_996_136),
    ("resnet18", Packed(4, 1, 1), {}, 2_805_864),
    ("resnet18", Packed(4, 1.5, 1), {}, 6_300_808),
    ("resnet18", Packed(4, 3, 1), {}, 25_153_768),
    ("resnet18", Packed(4, 4, 1), {}, 4 * 11_173_962),
    ("resnet18", Packed(2, 2, 1), {}, 22_347_924),
    ("resnet18", Packed(8, 2, 1), {}, 5_611_728),
    ("resnet18", Single(), {"num_classes": 100}, 11_220_132),
    ("resnet18", Packed(4, 2, 1), {"num_classes": 100}, 11_282_960),
    ("resnet18", Packed(4, 2, 2), {"num_classes": 100}, 8_268_304),
    ("resnet18", Single(), {"stem": "imagenet"}, 11_181_642),
    ("resnet18", Packed(4, 2, 1), {"stem": "imagenet"}, 11_205_800),
    ("resnet18", Packed(4, 2, 2), {"stem": "imagenet"}, 8_191_144),
    # What members, alpha, classes and the stem change is seen above; here each of them once with bottlenecks.
    ("resnet50", Single(), {}, 23_520_842),
    ("resnet50", Packed(4, 2, 1), {}, 23_596_200),
    ("resnet50", Packed(4, 2, 2), {}, 14_552_232),
    ("resnet50", Packed(4, 2, 4), {}, 11_340_968),
    ("resnet50", Packed(4, 1.5, 1), {}, 13_301_128),
    ("resnet50", Packed(8, 2, 1), {}, 11_873_488),
    ("resnet50", Packed(4, 2, 2), {"num_classes": 100}, 14_921_232),
    ("resnet50", Packed(4, 2, 1), {"stem": "imagenet"}, 23_611_560),
    # torch-uncertainty's wide ResNet is post-activation and ours pre-activation, with the same count.
    # Convolutions are the same: the stem, 24 of 3x3, and three 1x1 shortcuts without normalisation.
    # Normalisations, in channels of the single network: theirs follow the stem (16) and each 3x3, so
    # 16 + 8 * (160 + 320 + 640) = 8,976.  Ours precede each 3x3 and the pool.  Before the first 3x3 of a
    # block: 16 + 3*160, 160 + 3*320, 320 + 3*640, in all 3,856; before the second: 4*(160 + 320 + 640)
    # = 4,480; before the pool: 640.  3,856 + 4,480 + 640 = 8,976 as well, times alpha in both.
    # Groups: gamma falls back by a convolution's input channels and both use it in every one but the
    # stem, whose inputs have the same widths.
    ("wide_resnet28_10", Single(), {}, 36_479_194),
    ("wide_resnet28_10", Packed(4, 2, 1), {}, 36_504_008),
    ("wide_resnet28_10", Packed(4, 2, 2), {}, 19_352_008),
]


@pytest.mark.fast(
    "resnet18-method0-options0-11173962",
)
@pytest.mark.parametrize(("backbone", "method", "options", "count"), TRAINABLE)
def test_trainable_parameters_are_the_references(backbone, method, options, count):
    assert counts.parameters(network(backbone, method, **options))[0] == count


@pytest.mark.slow
def test_wide_resnet_with_moving_statistics_is_uncertainty_baselines():
    made = network("wide_resnet28_10", Single())
    assert counts.parameters(made) == (36_479_194, 36_497_146)
    assert made.count_params() == 36_497_146


@pytest.mark.slow
@pytest.mark.parametrize(("method", "count"), [(BatchEnsemble(4), 36_575_500), (MIMO(3), 36_510_830)])
def test_wide_resnets_of_shared_weights_are_uncertainty_baselines(method, count):
    """Keras's count, with moving statistics, of WRN-28-10 for CIFAR-10."""
    assert network("wide_resnet28_10", method).count_params() == count


@pytest.mark.slow
def test_wide_hyper_batch_ensemble_is_uncertainty_baselines():
    """The reference tunes L2 alone; we also keep the bounds: 2 for 4 members and 6 groups of layers."""
    made = network("wide_resnet28_10", HyperBatch(4, label_smoothing_max=0))
    bounds = [v for layer in made.layers for v in layer.weights if v.name in ("log_lower", "log_upper")]
    assert [tuple(v.shape) for v in bounds] == 2 * [(4, 6)]
    assert made.count_params() == 73_097_468 + 2 * 4 * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "count"), [(Single(), 25_610_152), (BatchEnsemble(4), 25_821_708), (MIMO(2), 27_668_560)]
)
def test_imagenet_resnets_are_uncertainty_baselines(method, count):
    """Keras's count, with moving statistics, of ResNet-50 for 1,000 classes."""
    keras.utils.clear_session()
    model = zoo.build(method, "resnet50", 1000, (224, 224, 3))
    assert model.network.count_params() == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "giga"), [(Single(), 0.555), (Packed(4, 2, 1), 0.557), (Packed(4, 2, 2), 0.481)]
)
def test_macs_of_resnet18_are_the_references(method, giga):
    assert round(counts.macs(network("resnet18", method)) / 1e9, 3) == giga


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["lenet", "mlp", "resnet20"])
def test_packed_with_the_width_of_m_singles_costs_m_singles(backbone):
    single, packed = network(backbone, Single()), network(backbone, Packed(3, 3, 1))
    assert counts.parameters(packed) == tuple(3 * count for count in counts.parameters(single))
    assert counts.macs(packed) == 3 * counts.macs(single)


def test_macs_of_lenet_by_hand():
    made = network("lenet", Single())
    convolutions = 32 * 32 * 25 * 3 * 6 + 12 * 12 * 25 * 6 * 16
    dense = 6 * 6 * 16 * 120 + 120 * 84 + 84 * 10
    assert counts.macs(made) == convolutions + dense
