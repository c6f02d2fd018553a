"""CONTRIBUTING.md's list of what a new method touches is true: a copy of the project gets a method in these files."""

import configparser
import re
import shutil

import pytest

from helpers.paths import ROOT

COPIED = ("README.md", "docs", "layers", "tests", "training", "zoo")
METHOD = '''
"""Kernels of convolutions shared by all members, those of dense layers with factors."""

import dataclasses

from zoo.layers import BatchEnsembleDense
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class DenseFactors(Tiled):
    """A BatchEnsemble in its dense layers alone.

    Args:
        num_members: int >= 1, M. Default: 2.
        tile_at: see `Tiled`.
        training_mode: see `Tiled`.

    Example:
        >>> zoo.build(zoo.methods.DenseFactors(3), "mlp", input_shape=(8, 8, 1)).num_members
        3
    """

    num_members: int = 2
    name = "dense_factors"

    def dense(self, units, role="hidden", **options):
        return BatchEnsembleDense(units, self.num_members, **options)
'''
# (file, line that is there, line that follows it)
LINES = [
    (
        "zoo/methods/__init__.py",
        "from zoo.methods.deep_ensemble import DeepEnsemble, HyperDeep\n",
        "from zoo.methods.dense_factors import DenseFactors\n",
    ),
    ("zoo/methods/__init__.py", '    "DeepEnsemble",\n', '    "DenseFactors",\n'),
    (
        "zoo/names.py",
        '        "single": "zoo.methods.single:Single",\n',
        '        "dense_factors": "zoo.methods.dense_factors:DenseFactors",\n',
    ),
    (
        "README.md",
        "| `single` | one network, the baseline | | |\n",
        "| `dense_factors` | factors in dense layers | M passes | |\n",
    ),
    (
        "docs/api/methods.md",
        "::: zoo.methods.deep_ensemble.HyperDeep\n",
        "\n::: zoo.methods.dense_factors.DenseFactors\n",
    ),
    ("tests/methods/test_methods.py", "    DeepEnsemble,\n", "    DenseFactors,\n"),
    (
        "tests/methods/test_methods.py",
        '    "deep ensemble": DeepEnsemble(2),\n',
        '    "dense factors": DenseFactors(3),\n',
    ),
]
# The method at work, then its tests and those of the documentation, in one process.
CHECKS = """
import os
import sys

import pytest
import zoo

tree = sys.argv[1]
assert all(module.__file__.startswith(tree) for module in (zoo, zoo.layers, zoo.training))
assert "DenseFactors" in zoo.methods.__all__ and "dense_factors" in zoo.methods.METHODS
assert "dense_factors_mlp" in zoo.list_models()
assert zoo.build("dense_factors", "mlp", 3, (8, 8, 1)).network.output_shape == (None, 2, 3)
os.chdir(tree)
sys.exit(pytest.main([
    "-n0", "-p", "no:cacheprovider", "-k",
    "factors or test_every_method_is_here or test_api_pages or test_readme",
    "tests/methods/test_methods.py", "tests/test_docstrings.py", "tests/docs/test_api_pages.py",
    "tests/docs/test_readme.py",
]))
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of the project that is imported from its folder: `zoo` as a whole, weights and the rest as links."""
    for path in ROOT.iterdir():
        if path.name in COPIED and path.is_dir():
            shutil.copytree(path, tmp_path / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name in COPIED:
            shutil.copy(path, tmp_path)
        elif not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup["options"]["package_dir"].split("\n"):
        package, _, folder = line.partition(" = ")
        if package not in ("", "zoo"):
            (tmp_path / package.replace(".", "/")).symlink_to(tmp_path / folder)
    return tmp_path


def contents(tree):
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for name in COPIED
        for path in [tree / name, *(tree / name).rglob("*")]
        if path.is_file()
    }


@pytest.mark.slow
def test_a_new_method_touches_the_files_of_the_list(tree, python):
    section = re.search(
        r"^## A new method\n(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    listed = re.findall(r"^\d\. `(\S+)`", section[1], re.M)
    before = contents(tree)
    (tree / "zoo/methods/dense_factors.py").write_text(METHOD.lstrip())
    for file, line, next_line in LINES:
        text = (tree / file).read_text()
        assert text.count(line) == 1, (file, line)
        (tree / file).write_text(text.replace(line, line + next_line))
    after = contents(tree)
    changed = {file for file in after if after[file] != before.get(file)}
    assert changed == {file.replace("NAME", "dense_factors") for file in listed}
    process = python("-c", CHECKS, tree, PYTHONPATH=str(tree))
    assert int(re.search(r"(\d+) passed", process.stdout)[1]) > 15
