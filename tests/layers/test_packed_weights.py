"""What packed layers store (groups, widths, first values) and refuse.  Runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.layers import PackedConv1D, PackedConv2D, PackedDense, PerMember, SplitMembers


@pytest.mark.parametrize(
    ("inputs", "gamma", "groups"),
    [(512, 4, 8), (256, 4, 4), (256, 2, 4), (128, 4, 2), (8, 2, 2), (384, 4, 6)],
)
def test_gamma_falls_back_under_64_channels_a_group(inputs, gamma, groups):
    layer = PackedConv2D(96, 1, 2, 2, gamma)
    layer.build((None, 4, 4, inputs))
    assert layer.groups == groups
    assert layer.kernel.shape == (groups, 1, 1, inputs // groups, 192 // groups)
    assert layer.gamma == gamma


def test_gamma_of_dense_layers_has_no_floor():
    layer = PackedDense(8, 2, 2, 4)
    layer.build((None, 16))
    assert layer.groups == 8


@pytest.mark.parametrize(("alpha", "outputs"), [(1, 10), (1.5, 15), (2.4, 24), (0.5, 5)])
def test_alpha_widens_and_rounds_down(alpha, outputs):
    layer = PackedDense(10, 1, alpha)
    assert layer.compute_output_shape((None, 7)) == (None, outputs)


@pytest.mark.parametrize(
    "initializer", ["he_normal", keras.initializers.HeNormal(seed=3), "random_uniform"]
)
@pytest.mark.parametrize("layer", [PackedConv2D, PackedDense])
def test_groups_start_different_from_each_other(initializer, layer):
    size = (8, 3) if layer is PackedConv2D else (8,)
    layer = layer(*size, 4, 2, kernel_initializer=initializer)
    layer.build((None, 4, 4, 16))
    kernel = ops.convert_to_numpy(layer.kernel)
    for i in range(4):
        for j in range(i):
            assert not np.isclose(kernel[i], kernel[j]).any()


def test_seeded_initializer_repeats_itself():
    kernels = []
    for _ in range(2):
        layer = PackedDense(8, 4, 2, kernel_initializer=keras.initializers.GlorotUniform(seed=7))
        layer.build((None, 16))
        kernels.append(ops.convert_to_numpy(layer.kernel))
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("seed", [None, 11])
def test_groups_start_with_the_fan_of_one_group(seed):
    layer = PackedConv2D(64, 3, 4, 2, kernel_initializer=keras.initializers.HeNormal(seed=seed))
    layer.build((None, 4, 4, 128))
    deviations = ops.convert_to_numpy(layer.kernel).std(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(deviations, np.sqrt(2 / (9 * 32)), rtol=0.05)


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: PackedDense(4, num_members=0), "num_members.*0"),
        (lambda: PackedDense(4, num_members=2.5), "num_members.*2.5"),
        (lambda: PackedDense(4, alpha=0), "alpha.*0"),
        (lambda: PackedDense(4, alpha=-1.5), "alpha.*-1.5"),
        (lambda: PackedDense(4, gamma=0), "gamma.*0"),
        (lambda: PackedConv2D(4, 3, gamma=0.5), "gamma.*0.5"),
        (lambda: PackedConv2D(4, 3, role="tail"), "stem.*head.*'tail'"),
        (lambda: PackedConv2D(4, 3, padding="full"), "same.*'full'"),
        (lambda: PackedConv2D(4, (3,)), "kernel_size.*3"),
        (lambda: PackedConv2D(4, 3, strides=0), "strides.*0"),
    ],
)
def test_arguments_out_of_range(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "pattern"),
    [
        (PackedConv2D(8, 3, 4, 2), (None, 8, 8, 30), "30 input channels.*4.*28 or 32"),
        (PackedConv2D(5, 3, 4, 2), (None, 8, 8, 32), "10 output channels.*4.*8 or 12"),
        (PackedConv2D(33, 3, 4, 2, 2), (None, 8, 8, 512), "66 output channels.*8.*64 or 72"),
        (PackedConv2D(5, 3, 4, 2, role="stem"), (None, 8, 8, 3), "10 output channels.*4.*8 or 12"),
        (PackedDense(8, 3, 2), (None, 10), "10 input channels.*3.*9 or 12"),
        (PackedDense(8, 3, 2), [(None, 8)] * 2, "2 tensors.*3"),
        (SplitMembers(4), (None, 10), "10 channels.*4"),
        (PerMember(keras.layers.Dense(3, name="shared")), [(None, 4)] * 2, "shared"),
    ],
)
def test_channels_that_do_not_fit(layer, shape, pattern, raises_line):
    with raises_line(ValueError, pattern):
        layer.build(shape)


def test_without_bias_there_is_one_weight():
    layer = PackedConv1D(4, 3, 2, 2, use_bias=False)
    layer.build((None, 8, 4))
    assert [weight.shape for weight in layer.weights] == [(2, 3, 2, 4)]
