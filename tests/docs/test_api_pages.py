"""The pages of the API reference: whether they have all that is public, and nothing else."""

import inspect
import pathlib
import re

import pytest

import zoo
import zoo.layers
import zoo.methods
import zoo.metrics

PAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "api"
NAMES = re.findall(r"^::: (\S+)$", "".join(page.read_text() for page in PAGES.glob("*.md")), re.M)
HELPERS = {"arguments", "deserialize", "instance", "serialize"}  # of methods, for the package itself


@pytest.mark.parametrize(
    "module", [zoo, zoo.layers, zoo.methods, zoo.metrics], ids=lambda one: one.__name__
)
def test_the_reference_has_what_is_public(module):
    public = {name: getattr(module, name) for name in module.__all__}
    documented = {name.rpartition(".")[2] for name in NAMES}
    wanted = {
        name for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert wanted - documented <= (HELPERS if module is zoo.methods else set())


def test_the_reference_has_nothing_of_others():
    assert len(NAMES) == len(set(NAMES)) > 100
    assert all(name.startswith("zoo.") for name in NAMES)
