"""The flags that all training scripts share: what their help says, and which folders they need."""

import dataclasses

import pytest
from absl import flags as absl_flags

from zoo.training import flags, recipes, start

FIELDS = [field.name for field in dataclasses.fields(recipes.Recipe)][3:]


@pytest.mark.parametrize("name", FIELDS)
def test_the_help_of_a_recipe_flag_says_what_it_is_and_its_default(name):
    text = flags._HELPS[name]
    meaning, _, default = text.partition(" Default: the recipe's, else ")
    assert len(meaning.split()) >= 2 and default.endswith(".")
    assert meaning not in (name, f"recipe: {name}") and "\n" not in text


def test_the_help_is_that_of_the_docstring():
    assert absl_flags.FLAGS["accumulate"].help == (
        "int, steps whose gradients make one update. Default: the recipe's, else 1."
    )
    assert flags._HELPS["schedule"].startswith('"cosine" or "linear", both down to 0, or "step".')


def test_a_missing_folder_is_named_with_what_it_is_for(raises_line):
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("data_dir", None, "folder of the data sets", flag_values=values)
    absl_flags.DEFINE_string("output_dir", "out", "folder of this run", flag_values=values)
    values(["script"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "FLAGS", values)
        start.check_folders("output_dir")
        with raises_line(ValueError, "^--data_dir is missing: pass the folder of the data sets$"):
            start.check_folders("data_dir", "output_dir")
