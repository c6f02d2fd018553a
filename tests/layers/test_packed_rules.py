"""Properties of the published channel and group rules."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo.layers.packed_rules import packed_channels, packed_groups

CHANNELS = st.integers(1, 4096) | st.integers(1, 64).map(lambda n: 64 * n)
MEMBERS = st.integers(1, 9)
GAMMAS = st.integers(1, 8)
MINIMUM = st.sampled_from([1, 16, 64])


def torch_uncertainty_groups(extended_in, members, gamma, minimum):
    """The rule of torch-uncertainty's packed convolutions, written anew from its description."""
    groups = gamma * members
    while (extended_in % groups or extended_in // groups < minimum) and gamma > 1:
        gamma -= 1
        groups = gamma * members
    return groups


@given(CHANNELS, CHANNELS, MEMBERS, GAMMAS, MINIMUM)
@example(256, 512, 4, 2, 64)
@example(512, 512, 4, 2, 64)
@example(512, 512, 4, 4, 64)
def test_groups_are_the_published_ones_or_an_error(inputs, outputs, members, gamma, minimum):
    expected = torch_uncertainty_groups(inputs, members, gamma, minimum)
    if inputs % expected or outputs % expected:
        with pytest.raises(ValueError) as caught:
            packed_groups(inputs, outputs, members, gamma, minimum_channels=minimum)
        wrong = inputs if inputs % expected else outputs
        assert str(wrong) in str(caught.value) and str(expected) in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    groups = packed_groups(inputs, outputs, members, gamma, minimum_channels=minimum)
    assert groups == expected


@given(CHANNELS, MEMBERS, GAMMAS, MINIMUM)
def test_groups_divide_both_counts_and_respect_the_floor(width, members, gamma, minimum):
    inputs = outputs = width * math.lcm(*(members * g for g in range(1, gamma + 1)))
    groups = packed_groups(inputs, outputs, members, gamma, minimum_channels=minimum)
    own_gamma, rest = divmod(groups, members)
    assert rest == 0 and 1 <= own_gamma <= gamma
    assert inputs % groups == outputs % groups == 0
    assert own_gamma == 1 or inputs // groups >= minimum
    assert own_gamma == gamma or inputs // ((own_gamma + 1) * members) < minimum


@given(CHANNELS, CHANNELS, MEMBERS, GAMMAS, st.sampled_from(["stem", "first"]))
def test_stem_has_one_group(inputs, outputs, members, gamma, role):
    assert packed_groups(inputs, outputs * members, members, gamma, role) == 1


@given(CHANNELS, st.integers(2, 9), st.integers(1, 8))
def test_stem_still_shares_its_outputs_out(inputs, members, rest):
    if rest % members:
        with pytest.raises(ValueError, match="output"):
            packed_groups(inputs, 64 * members + rest, members, role="stem")


@given(CHANNELS, MEMBERS, st.floats(0.25, 8), st.sampled_from(["stem", "hidden", "shortcut"]))
def test_channels_are_widened_by_alpha_and_rounded_down(channels, members, alpha, role):
    outputs = packed_channels(channels, members, alpha, role)
    assert isinstance(outputs, int)
    assert outputs <= channels * alpha < outputs + 1


@given(CHANNELS, MEMBERS, st.floats(0.25, 8), st.sampled_from(["head", "last"]))
def test_head_has_all_channels_for_every_member(channels, members, alpha, role):
    assert packed_channels(channels, members, alpha, role) == channels * members
