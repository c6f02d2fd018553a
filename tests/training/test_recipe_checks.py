"""A recipe takes every value in range and refuses every other with one line that names the field."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.training import recipe_checks, recipes

RECIPE = recipes.recipe("mnist_packed_lenet")
BELOW_0 = st.floats(max_value=-1e-9) | st.just(math.nan) | st.just(math.inf)
NOT_TEXT = st.integers() | st.none() | st.binary()
OUTSIDE = {
    **{name: st.integers(max_value=0) | st.floats() | st.booleans() for name in recipe_checks._COUNTS},
    **{name: st.integers(max_value=-1) | st.floats() | st.none() for name in recipe_checks._SIZES},
    **{name: BELOW_0 | st.floats(min_value=1) for name in recipe_checks._SHARES},
    **{name: BELOW_0 | st.just(0.0) for name in recipe_checks._POSITIVE},
    **{name: BELOW_0 for name in recipe_checks._NOT_NEGATIVE},
    **{name: st.integers() | st.none() | st.text() for name in recipe_checks._TRUTHS},
    **{name: st.text(min_size=1).filter(lambda t, n=name: t not in recipe_checks._CHOICES[n]) | st.none()
       for name in recipe_checks._CHOICES},
    **{name: NOT_TEXT for name in recipe_checks._TEXTS},
    "milestones": st.tuples(st.floats(min_value=1.001) | BELOW_0) | st.just((0.5, 0.2)) | st.just(3),
}  # fmt: skip
INSIDE = {
    **{
        name: st.integers(1, recipe_checks.MOST)
        for name in ("batch_size", "epochs", "accumulate", "gamma")
    },
    **{name: st.integers(0, recipe_checks.MOST) for name in recipe_checks._SIZES},
    **{name: st.floats(0, 1, exclude_max=True) for name in recipe_checks._SHARES},
    **{name: st.floats(0, 1e300, exclude_min=True) for name in recipe_checks._POSITIVE},
    **{name: st.floats(0, 1e300) for name in recipe_checks._NOT_NEGATIVE},
    **{name: st.booleans() for name in recipe_checks._TRUTHS},
    **{name: st.sampled_from(choices) for name, choices in recipe_checks._CHOICES.items()},
    "milestones": st.lists(st.floats(0, 1)).map(lambda shares: tuple(sorted(shares))),
}


def test_every_field_is_checked():
    assert set(OUTSIDE) == {field.name for field in dataclasses.fields(recipes.Recipe)}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(OUTSIDE)).flatmap(lambda n: st.tuples(st.just(n), OUTSIDE[n])))
def test_values_out_of_range_are_refused(changed):
    name, value = changed
    with pytest.raises(ValueError, match=rf"^{name} must be ") as caught:
        dataclasses.replace(RECIPE, **{name: value})
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.fixed_dictionaries({}, optional=INSIDE))
def test_values_in_range_are_taken(changed):
    recipe = dataclasses.replace(RECIPE, **changed)
    assert all(getattr(recipe, name) == value for name, value in changed.items())


@pytest.mark.parametrize("limit", [0, -5, 2.5, True, "3"])
def test_limits_out_of_range_are_refused(limit, raises_line):
    with raises_line(ValueError, "limit must be an integer >= 1"):
        recipe_checks.check_limit(limit)


def test_recipes_of_all_settings_pass():
    for dataset, backbone in recipes._SETTINGS:
        recipes.recipe(f"{dataset}_packed_{backbone}")
    for limit in (None, 1, 50000):
        recipe_checks.check_limit(limit)
