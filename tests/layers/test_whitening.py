"""`PatchWhitening`: decorrelated patches, a basis before that, and what it refuses.  On every backend."""

import keras
import numpy as np
import pytest

from helpers.arrays import numpy
from zoo.layers import PatchWhitening


def correlated(count=40):
    """Images whose neighbouring pixels and channels are alike, (count, 9, 9, 3)."""
    rng = np.random.default_rng(0)
    grey = rng.normal(size=(count, 9, 9, 1)).cumsum(axis=1).cumsum(axis=2) / 6
    return (grey + 0.2 * rng.normal(size=(count, 9, 9, 3))).astype("float32")


def patches(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    return np.moveaxis(windows, 3, 5).reshape(-1, 12).astype("float64")


def test_adapted_outputs_are_decorrelated_and_then_negated():
    x = correlated()
    layer = PatchWhitening(epsilon=1e-3)
    layer.adapt(x)
    y = numpy(layer(x)).reshape(-1, 24)
    np.testing.assert_allclose(y[:, 12:], -y[:, :12], atol=1e-4)
    covariance = np.cov(y[:, :12].T.astype("float64"), bias=True)
    eigenvalues = np.linalg.eigvalsh(np.cov(patches(x).T, bias=True))[::-1]
    assert eigenvalues[0] > 20 * eigenvalues[-1]
    np.testing.assert_allclose(covariance, np.diag(eigenvalues / (eigenvalues + 1e-3)), atol=2e-3)
    np.testing.assert_allclose(covariance.diagonal()[eigenvalues > 0.1], 1, atol=0.02)


def test_before_it_is_adapted_its_filters_are_an_orthonormal_basis():
    layer = PatchWhitening(kernel_size=3)
    layer.build((None, 9, 9, 2))
    half = numpy(layer.kernel).reshape(18, 36)[:, :18]
    np.testing.assert_allclose(half.T @ half, np.eye(18), atol=1e-6)
    np.testing.assert_array_equal(numpy(layer.kernel)[..., 18:], -numpy(layer.kernel)[..., :18])


def test_patches_of_one_colour_stay_finite():
    layer = PatchWhitening()
    layer.adapt(np.full((2, 4, 4, 3), 7.0, "float32"))
    assert np.isfinite(numpy(layer.kernel)).all()


def test_it_is_a_good_layer(check_layer):
    x = correlated(5)
    check_layer(PatchWhitening, x)
    layer = PatchWhitening()
    layer.adapt(x)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Flatten()])
    assert not model.trainable_variables


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"kernel_size": 0}, "kernel_size.*0"),
        ({"kernel_size": 2.0}, "kernel_size.*2.0"),
        ({"epsilon": 0.0}, "epsilon.*0.0"),
        ({"epsilon": float("nan")}, "epsilon.*nan"),
    ],
)
def test_impossible_sizes_are_refused(options, pattern, raises_line):
    with raises_line(ValueError, pattern):
        PatchWhitening(**options)
