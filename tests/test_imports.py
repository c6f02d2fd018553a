"""What imports what: nothing in circles, nothing upward, and any part of the package may come first."""

import ast
import graphlib

import pytest

from helpers.paths import ROOT

# Each may import those before it, and itself.
PACKAGES = {"zoo.layers": "layers", "zoo": "zoo", "zoo.training": "training"}


def modules():
    """{name of a module: its file} of all three packages."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = file
    return found


MODULES = modules()


class WithoutTypes(ast.NodeTransformer):
    """Removes what is for type checkers alone."""

    def visit_If(self, node):
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(tree):
    """The modules of ours that code imports anywhere, in functions, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (found for name in names if (found := of(name, node.module)))


def of(name, module):
    return name if name in MODULES else module if module in MODULES else None


def imports(module):
    """What a module imports.

    `zoo` counts as what it has for type checkers, the homes of all public names, which it loads on first use.  So
    commands may `import zoo`, and what these homes are built on may not.
    """
    tree = ast.parse(MODULES[module].read_text())
    return set(imported(tree if module == "zoo" else WithoutTypes().visit(tree))) - {module}


IMPORTS = {module: imports(module) for module in MODULES}


def package(module):
    return next((p for p in ("zoo.layers", "zoo.training") if f"{module}.".startswith(f"{p}.")), "zoo")


def folder(module):
    """The folder of a module; modules that lie directly in a package stand for themselves."""
    parent = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if parent in PACKAGES else parent


def circle(graph):
    """The names of a circle in {name: names}, or []."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_modules_do_not_import_each_other_in_circles():
    assert len(IMPORTS) > 200 and "zoo.loading" in IMPORTS["zoo"]
    assert not circle(IMPORTS)


def test_folders_do_not_import_each_other_in_circles():
    graph = {}
    for module, names in IMPORTS.items():
        graph.setdefault(folder(module), set()).update(
            {folder(name) for name in names} - {folder(module)}
        )
    assert not circle(graph)


def test_packages_import_only_those_below():
    """`zoo` itself, which offers `zoo.training` as a public name, is the exception."""
    order = list(PACKAGES)
    upward = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if order.index(package(name)) > order.index(package(module))
    ]
    assert upward == ["zoo imports zoo.training"]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import zoo.loading", ["zoo.loading"]),
        ("from zoo import loading, conformal", ["zoo.loading", "zoo.conformal"]),
        ("from zoo.loading import load", ["zoo.loading"]),
        ("def f():\n    from zoo import load", ["zoo"]),
        ("import keras\nfrom keras import ops", []),
    ],
)
def test_imports_are_found(code, names):
    assert list(imported(ast.parse(code))) == names


def test_imports_for_type_checkers_do_not_count():
    code = "import zoo.cards\nif TYPE_CHECKING:\n    import zoo.loading"
    assert list(imported(WithoutTypes().visit(ast.parse(code)))) == ["zoo.cards"]


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) and not circle({"a": {"b", "c"}, "b": {"c"}})


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import zoo; zoo.load",
        "import zoo.layers",
        "from zoo.metrics import *",
        "import zoo.evaluation.evaluate",
    ],
)
def test_parts_come_first(code, python):
    python("-c", code, KERAS_BACKEND="jax")


def test_listing_models_needs_neither_keras_nor_a_backend(python):
    code = (
        "import sys, zoo; assert 'packed_resnet50' in zoo.list_models(); zoo.list_models(dataset='cifar10'); "
        "print(*sorted({'keras', 'tensorflow', 'jax', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.split() == []
