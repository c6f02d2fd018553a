"""Private attributes of Keras, TensorFlow and Optuna are used in layers/keras_internals.py alone."""

import ast
import functools
import inspect
import pathlib

import keras
import pytest

import zoo

ROOT = pathlib.Path(zoo.__file__).parents[1]
INTERNALS = "layers/keras_internals.py"
FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("zoo", "layers", "training", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
# What the project's classes inherit from.
BASES = (
    keras.Model,
    keras.callbacks.Callback,
    keras.initializers.VarianceScaling,
    keras.layers.BatchNormalization,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Adam,
    keras.optimizers.LossScaleOptimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.random.SeedGenerator,
    keras.regularizers.Regularizer,
)
# `os._exit` is public.  The trainer's override cannot stand anywhere but in the class.
ALLOWED = {
    ("training/train.py", "_exit"),
    ("zoo/commands/silence.py", "_exit"),
    ("zoo/keras_workarounds.py", "_maybe_symbolic_build"),
}
FOREIGN_MODULES = ("keras.src", "tensorflow.python", "tensorflow.lite.python", "optuna.storages._")


def private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined(tree):
    """Private names that code makes itself: functions, classes, variables and attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and private(node.name):
            yield node.name
        stored = isinstance(getattr(node, "ctx", None), ast.Store)
        if isinstance(node, ast.Name) and stored and private(node.id):
            yield node.id
        if isinstance(node, ast.Attribute) and stored and private(node.attr):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr


def used(tree):
    """(line, name) of private attributes, by dot or by `getattr` and its kin, and of private modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            yield node.lineno, node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("attr"):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if private(name):
                yield node.lineno, name
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(FOREIGN_MODULES):
            yield node.lineno, node.module
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith(FOREIGN_MODULES))


@functools.cache
def names_of_ours():
    trees = (ast.parse((ROOT / file).read_text()) for file in FILES if file != INTERNALS)
    return frozenset(name for tree in trees for name in defined(tree))


@functools.cache
def names_of_keras():
    """Private names that the classes above define or set on themselves."""
    owners = {owner for base in BASES for owner in base.__mro__ if owner.__module__.startswith("keras")}
    set_names = (set(defined(ast.parse(inspect.getsource(inspect.getmodule(x))))) for x in owners)
    return frozenset().union(*set_names, *(filter(private, vars(owner)) for owner in owners))


def strangers(file, tree):
    return [
        f"{file}:{line} {name}"
        for line, name in used(tree)
        if (file, name) not in ALLOWED and (name not in names_of_ours() or name in names_of_keras())
    ]


@pytest.mark.parametrize("file", [file for file in FILES if file != INTERNALS])
def test_private_attributes_are_used_in_one_file(file):
    found = strangers(file, ast.parse((ROOT / file).read_text()))
    assert not found, f"move these to {INTERNALS}: {', '.join(found)}"


@pytest.mark.parametrize(
    "code",
    [
        "optimizer._var_key(v)",
        "self._flatten_layers()",
        "converter._experimental_calibrate_only = True",
        "getattr(model, '_distribute_strategy', None)",
        "from keras.src import backend",
        "import tensorflow.python.framework",
    ],
)
def test_a_use_elsewhere_is_found(code):
    assert strangers("zoo/elsewhere.py", ast.parse(code))


def test_every_internal_says_on_what_it_was_checked():
    """Each function of the file names the package and the version."""
    tree = ast.parse((ROOT / INTERNALS).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 15
    for function in functions:
        text = ast.get_docstring(function) or ""
        assert any(f"{package} " in text for package in ("keras", "tensorflow", "optuna")), function.name
