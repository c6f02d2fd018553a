"""Docstrings of the public names: they exist, name every argument, and their examples run."""

import dataclasses
import doctest
import importlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import zoo
import zoo.layers
import zoo.methods
import zoo.metrics
from helpers.docstrings import FILES, docstrings, entry, subjects
from helpers.paths import ROOT

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_of(package):
    """Names of a package and of the modules in it, at any depth."""
    inside = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [package.__name__, *(module.name for module in inside)]


def documented(package, names):
    """`package.name` of those names that are classes or functions."""
    values = {name: getattr(package, name) for name in names}
    return [f"{package.__name__}.{name}" for name, value in values.items() if callable(value)]


LAYERS = modules_of(zoo.layers)
NAMES = [
    *documented(zoo, zoo.__all__),
    *documented(zoo.layers, zoo.layers.__all__),
    *documented(zoo.methods, [method.__name__ for method in zoo.methods.METHODS.values()]),
]
# The modules that define those names, and all of the layers, methods and metrics.
MODULES = sorted(
    {zoo.__name__, *LAYERS, *modules_of(zoo.methods), *modules_of(zoo.metrics)}
    | {getattr(zoo, name.partition(".")[2]).__module__ for name in documented(zoo, zoo.__all__)}
)


def resolved(name):
    package, _, name = name.rpartition(".")
    return getattr(importlib.import_module(package), name)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, capsys):
    """Every example of a module's docstrings gives what it says."""
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in doctest.DocTestFinder().find(
        module, extraglobs={"zoo": zoo, "keras": keras, "np": np, "dataclasses": dataclasses}
    ):
        keras.utils.set_random_seed(0)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example(name):
    """A docstring of its own, with a section `Example` that a doctest runs."""
    value = resolved(name)
    section = re.split(r"^ *Example:\s*$", vars(value).get("__doc__", value.__doc__) or "", flags=re.M)
    assert len(section) == 2, f"{name} has no section Example"
    assert doctest.DocTestParser().get_examples(section[1]), f"the Example of {name} has no code"
    assert value.__module__ in MODULES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_are_complete(file):
    """One summary sentence, and every argument by its name, with its default, and not as a fragment."""
    for name, text, arguments in subjects(file):
        summary = text.partition("\n")[0]
        assert summary.endswith("."), f"{name} has no summary sentence on its first line"
        assert not re.search(r"^ +[\w, ]+: (of|as) ", text, re.M), f"{name}: fragment"
        assert not re.search(r"^Attributes, |^Arguments ", text, re.M), f"{name}: reference"
        entries = {argument: entry(text, argument) for argument in arguments}
        missing = [argument for argument, found in entries.items() if not found]
        assert not missing, f"the docstring of {name} does not describe {missing}"
        assert not arguments or re.search(r"^(Args|Attributes):$", text, re.M), (
            f"{name}: no section Args"
        )
        silent = [argument for argument, found in entries.items() if arguments[argument] and
                  not re.search(r"Default:|: see `", found)]  # fmt: skip
        assert not silent, f"the docstring of {name} does not say the defaults of {silent}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_have_one_form(file):
    """Defaults as in "Default: 4.", a section "References:", and examples indented under "Example:"."""
    for text in docstrings(file):
        assert not re.search(r"(^ +|[.;)`\"] )Default(?!:)", text, re.M), "a default has no colon"
        assert not re.search(r"^ *(Reference:|Examples:)", text, re.M), "not the name of the section"
        assert not re.search(r"^( *)Example:\n(?!\1    \S)", text, re.M), "the example is not indented"
