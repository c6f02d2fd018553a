"""Arguments of `zoo.build` that are no whole or no finite numbers."""

import math

import pytest

import zoo


@pytest.mark.parametrize(
    "shape", [(8.5, 8, 1), (8, 8), (8, 8, 0), (8, math.nan, 1), (8, None, 1), (8, "x", 1)]
)
def test_input_shapes_are_whole_numbers(shape, raises_line):
    with raises_line(ValueError, r"input_shape must be \(height, width, channels\), whole numbers; got"):
        zoo.build(zoo.methods.Single(), "mlp", 3, shape)


@pytest.mark.parametrize("alpha", [math.inf, math.nan, 0, -1])
def test_alpha_is_a_positive_number(alpha, raises_line):
    with raises_line(ValueError, "alpha must be a number > 0"):
        zoo.build(zoo.methods.Packed(2, alpha=alpha), "mlp", 3, (8, 8, 1))
