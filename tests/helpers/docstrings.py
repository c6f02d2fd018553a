"""Docstrings of the package as its sources have them: nothing is imported, so scripts cannot clash."""

import ast
import functools
import re

from helpers.paths import ROOT

FILES = sorted(
    file for folder in ("zoo", "layers", "training") for file in (ROOT / folder).rglob("*.py")
)


@functools.cache
def tree(file):
    return ast.parse(file.read_text())


def docstrings(file):
    """All docstrings of a file, private ones included."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree(file)) if isinstance(node, kinds)]


def subjects(file):
    """(name, docstring, arguments) of public functions and classes, and of public methods with a docstring.

    Arguments are a dictionary from a name to whether it has a default; those of a class are its
    constructor's, which may be inherited.
    """
    for node in _public(tree(file)):
        is_class = isinstance(node, ast.ClassDef)
        arguments = _constructor(node, file) if is_class else _arguments(node)
        yield node.name, ast.get_docstring(node) or "", arguments
        for method in _public(node) if is_class else ():
            if isinstance(method, ast.FunctionDef) and ast.get_docstring(method):
                yield f"{node.name}.{method.name}", ast.get_docstring(method), _method_arguments(method)


def entry(text, argument):
    """The lines of a docstring that describe an argument, or None."""
    names = rf"(?:[\w, ]+, )?{argument}(?:, [\w, ]+)?"
    found = re.search(rf"^( +){names}:(?: |$).*(?:\n\1 +.*)*", text, re.M)
    return found and found[0]


def _public(node):
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [one for one in node.body if isinstance(one, kinds) and not one.name.startswith("_")]


def _arguments(function):
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + given.defaults
    pairs = [*zip(positional, defaults), *zip(given.kwonlyargs, given.kw_defaults)]
    found = {argument.arg: default is not None for argument, default in pairs}
    found |= {argument.arg: False for argument in (given.vararg, given.kwarg) if argument}
    return {name: default for name, default in found.items() if not name.startswith("_")}


def _method_arguments(method):
    arguments = _arguments(method)
    if not any(ast.unparse(decorator) == "staticmethod" for decorator in method.decorator_list):
        arguments.pop(next(iter(arguments), None), None)
    return arguments


@functools.cache
def _classes():
    found = {}
    for file in FILES:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append((node, file))
    return found


def _constructor(node, file):
    """Arguments of a class's own constructor, of its dataclass's, or of the first of our bases that has any."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            return _method_arguments(one)
    arguments = {}
    for base in node.bases:
        name = ast.unparse(base)
        homes = _classes().get(name.rpartition(".")[2], []) if not name.startswith("keras.") else []
        if homes:
            arguments = _constructor(*next((home for home in homes if home[1] == file), homes[0]))
        if arguments:
            break
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        arguments = dict(arguments)
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                arguments[field.target.id] = field.value is not None
                if field.value is not None and "init=False" in ast.unparse(field.value):
                    del arguments[field.target.id]
    return {name: default for name, default in arguments.items() if not name.startswith("_")}
