"""Notebooks have the outputs of their code; the site is built strictly and needs no network."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "docs" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_six():
    assert len(NOTEBOOKS) == 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_of_the_code_and_small(path, tool):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"].get("code_hash") == tool.code_hash(notebook), (
        f"run python docs/execute.py {path.stem}"
    )
    assert path.stat().st_size < 200_000
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", ())]
    assert outputs and not [
        o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"
    ]
    assert "/tmp/" not in path.read_text() and "/work/" not in path.read_text()


def test_changed_code_has_another_hash(tool):
    notebook = json.loads(NOTEBOOKS[0].read_text())
    before = tool.code_hash(notebook)
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["source"] = [*cell["source"], "\n1 / 0"]
    assert tool.code_hash(notebook) != before


# Before each notebook: no names and no files of another one.
AFRESH = """%reset -f
import os, tempfile
os.chdir(tempfile.mkdtemp(prefix="{name}-", dir={folder!r}))
del os, tempfile"""


@pytest.mark.slow
def test_notebooks_run(tool, tmp_path):
    """One after the other in one kernel: importing TensorFlow takes longer than most of them."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    whole = nbformat.v4.new_notebook()
    for path in NOTEBOOKS:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        sources = [AFRESH.format(name=path.stem, folder=str(tmp_path)), *(cell.source for cell in cells)]
        whole.cells += map(nbformat.v4.new_code_cell, sources)
    nbformat.write(whole, tmp_path / "whole.ipynb")
    executed = tool.execute(tmp_path / "whole.ipynb")
    assert executed.metadata["code_hash"] == tool.code_hash(whole)
    assert all(cell.execution_count for cell in executed.cells)


@pytest.mark.slow
def test_the_site_builds_strictly_and_works_offline(tmp_path):
    pytest.importorskip("mkdocs_jupyter")
    pytest.importorskip("mkdocstrings")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 25
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?://[^\"\s>]+)")
    for page in pages:
        assert not loaded.findall(page.read_text()), page.name
        for link in re.findall(r'<a [^>]*?href="(?!\w+:|/)([^"#]+)', page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
    assert "EnsembleClassifier" in (tmp_path / "site" / "api" / "models.html").read_text()
