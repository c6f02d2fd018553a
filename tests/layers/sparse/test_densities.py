"""Densities of sparse layers: the published networks' numbers, exact counts, the defining properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.layers import erk_densities
from zoo.layers.sparse.densities import nonzero_counts, uniform_densities


def kernels(backbone, num_classes, input_shape, **options):
    """{name: (shape, positions)} of a network's convolutions and dense layers."""
    network = zoo.build(zoo.methods.Single(), backbone, num_classes, input_shape, **options).network
    layers = [layer for layer in network.layers if hasattr(layer, "kernel")]
    return {x.name: (tuple(x.kernel.shape), math.prod(x.output.shape[1:-1])) for x in layers}


@pytest.fixture(scope="module")
def wide():
    return kernels("wide_resnet28_10", 100, (32, 32, 3))


@pytest.fixture(scope="module")
def resnet50():
    return kernels("resnet50", 1000, (224, 224, 3), stem="imagenet")


def of(network, sparsity):
    shapes = [shape for shape, _ in network.values()]
    densities = erk_densities(shapes, sparsity)
    sizes = np.array([math.prod(shape) for shape in shapes])
    assert (densities * sizes).sum() == pytest.approx((1 - sparsity) * sizes.sum(), rel=1e-12)
    macs = sizes * np.array([positions for _, positions in network.values()])
    return dict(zip(network, densities)), (densities * macs).sum() / macs.sum()


WIDE = {  # 3x3@160, 160->320, 3x3@320, 320->640, 3x3@640
    0.8: (0.570, 0.425, 0.283, 0.211, 0.141),
    0.9: (0.273, 0.203, 0.135, 0.101, 0.067),
}


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", WIDE)
def test_wide_resnet_has_the_published_densities(wide, sparsity):
    densities, relative = of(wide, sparsity)
    dense = {name for name, density in densities.items() if density == 1}
    shortcuts = [f"stage{stage}_block1_shortcut_conv" for stage in (1, 2, 3)]
    few = 3 if sparsity == 0.8 else 2
    assert dense == {"stem_conv", "stage1_block1_1_conv", "head", *shortcuts[:few]}
    if few == 2:
        assert densities[shortcuts[2]] == pytest.approx(0.905, abs=5e-4)
    names = ["stage1_block2_1_conv", "stage2_block1_1_conv", "stage2_block4_2_conv"]
    names += ["stage3_block1_1_conv", "stage3_block1_2_conv"]
    assert [densities[name] for name in names] == pytest.approx(WIDE[sparsity], abs=5e-4)
    assert relative == pytest.approx({0.8: 0.3374, 0.9: 0.1663}[sparsity], abs=5e-5)


@pytest.mark.slow
def test_resnet50_has_the_published_densities(resnet50):
    densities, relative = of(resnet50, 0.8)
    assert sum(density == 1 for density in densities.values()) == 8
    assert densities["head"] == pytest.approx(0.148, abs=5e-4)
    assert densities["stage4_block1_2_conv"] == pytest.approx(0.043, abs=5e-4)
    assert relative == pytest.approx(0.414, abs=5e-4)
    densities, _ = of(resnet50, 0.9)
    assert sum(density == 1 for density in densities.values()) == 1
    assert densities["stem_conv"] == pytest.approx(0.42, abs=5e-3)
    assert densities["head"] == pytest.approx(0.073, abs=5e-4)


shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 300), st.integers(1, 300)),
        st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 90), st.integers(1, 90)),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(shapes, st.floats(0, 0.999), st.sampled_from([0.0, 0.5, 1.0]))
def test_erk_is_what_defines_it(shapes, sparsity, power):
    """Total density exact; all in (0, 1]; those under one in proportion to raw, and dense the largest raw."""
    densities = erk_densities(shapes, sparsity, power)
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    raw = np.array([sum(shape) / math.prod(shape) for shape in shapes]) ** power
    assert (densities > 0).all() and (densities <= 1 + 1e-12).all()
    assert (densities * sizes).sum() == pytest.approx((1 - sparsity) * sizes.sum(), rel=1e-9)
    partial = densities < 1 - 1e-9
    ratios = (densities / raw)[partial]
    if len(ratios):
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
        if not partial.all():
            assert raw[~partial].min() * ratios[0] >= 1 - 1e-6
    if power == 0:
        np.testing.assert_allclose(densities, 1 - sparsity, rtol=1e-9)


@settings(max_examples=300, deadline=None)
@pytest.mark.slow
@given(shapes, st.floats(0, 0.999), st.sampled_from([erk_densities, uniform_densities]))
def test_counts_are_exact(shapes, sparsity, distribution):
    densities = distribution(shapes, sparsity)
    counts = nonzero_counts(shapes, densities)
    sizes = [math.prod(shape) for shape in shapes]
    assert all(1 <= count <= size and type(count) is int for count, size in zip(counts, sizes))
    wanted = densities * sizes
    assert (np.abs(counts - wanted) < 1 + 1e-5).all()
    if (wanted >= 1).all():
        assert abs(sum(counts) - (1 - sparsity) * sum(sizes)) <= 0.5 + 1e-4


def test_counts_by_hand():
    assert nonzero_counts([(30,), (10, 10)], [0.1, 0.2]) == [3, 20]
    assert nonzero_counts([(5,), (5,), (5,)], [0.5, 0.5, 0.5]) in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert nonzero_counts([(3, 3), (1000,)], [1e-3, 0.1]) == [1, 100]
    assert erk_densities([(784, 300), (300, 100), (100, 10)], 0.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan"), float("inf"), "0.8", None])
@pytest.mark.parametrize("distribution", [erk_densities, uniform_densities])
def test_bad_sparsity_is_refused_in_one_line(distribution, sparsity, raises_line):
    with raises_line(ValueError, r"sparsity must be in \[0, 1\)"):
        distribution([(3, 4)], sparsity)
    with raises_line(ValueError, "no kernels"):
        distribution([], 0.5)
