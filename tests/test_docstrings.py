"""Docstrings of the public names: they exist, name every argument, and their examples run."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

import keras
import numpy as np
import pytest

import zoo
import zoo.layers
import zoo.methods
import zoo.metrics
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


def public(module):
    """Classes and functions without an underscore that a module defines itself."""
    found = inspect.getmembers(module, lambda value: inspect.isclass(value) or inspect.isfunction(value))
    return {
        name: value
        for name, value in found
        if value.__module__ == module.__name__ and not name.startswith("_")
    }


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
    section = re.split(r"^ *Examples?:\s*$", vars(value).get("__doc__", value.__doc__) or "", flags=re.M)
    assert len(section) == 2, f"{name} has no section Example"
    assert doctest.DocTestParser().get_examples(section[1]), f"the Example of {name} has no code"
    assert value.__module__ in MODULES


@pytest.mark.parametrize("module", LAYERS)
def test_docstrings_of_layers_are_complete(module):
    """One summary sentence, and every argument by its name, type first and not as a fragment."""
    for name, value in public(importlib.import_module(module)).items():
        text = inspect.cleandoc(vars(value).get("__doc__", value.__doc__) or "")
        summary = text.partition("\n")[0]
        assert summary.endswith("."), f"{module}.{name} has no summary sentence on its first line"
        assert not re.search(r"^ +[\w, ]+: (of|as) ", text, re.M), f"{module}.{name}: fragment"
        assert not re.search(r"^Attributes, |^Arguments ", text, re.M), f"{module}.{name}: reference"
        missing = [
            argument
            for argument in parameters(value)
            if not re.search(rf"^ +([\w, ]+, )?{argument}(, [\w, ]+)?: ", text, re.M)
            and not re.search(rf"^ +{argument}:$", text, re.M)
        ]
        assert not missing, f"the docstring of {module}.{name} does not describe {missing}"


def test_functions_of_all_modules_describe_their_arguments():
    missing = []
    for file in sorted(
        file for folder in ("zoo", "layers", "training") for file in (ROOT / folder).rglob("*.py")
    ):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                text, args = ast.get_docstring(node) or "", node.args
                if not text or ((args.args or args.kwonlyargs) and "Args:" not in text):
                    missing.append(f"{file.relative_to(ROOT)}: {node.name}")
    assert not missing


def parameters(value):
    """Names of the arguments of a function, or of a class's own or inherited constructor in layers."""
    if inspect.isfunction(value):
        return list(inspect.signature(value).parameters)
    for owner in value.__mro__:
        if "__init__" in vars(owner):
            ours = owner.__module__.startswith("zoo.")
            return list(inspect.signature(owner.__init__).parameters)[1:] if ours else []
    return []
