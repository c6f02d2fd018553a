"""The README is true: its blocks run as pasted, its commands exist, its tables are those of the weights."""

import ast
import pathlib
import re
import shlex

import pytest

from zoo import registry
from zoo.training import method_overview

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def commands(page):
    """The single commands of all shell blocks, without comments and line breaks."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command and "..." not in command:
                yield command


def test_the_second_command_installs_and_runs_the_fast_tests():
    first, second, *_ = blocks("README.md", "sh")
    assert first.strip().endswith("zoo demo") and "pip install" in first
    assert second.strip() == (
        'python3 -m venv .venv && .venv/bin/pip install -q -e ".[dev]" && .venv/bin/python -m pytest -n 2'
    )


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile(page):
    found = blocks(page, "python")
    assert found
    for block in found:
        compile(block, page, "exec")


@pytest.mark.slow
def test_python_blocks_run_as_pasted(python, tmp_path):
    """The README's first block is the quickstart's code: what both say runs once, then the rest of each."""
    from zoo.data.sample import sample_photographs

    first, *others = blocks("README.md", "python")
    readme, quickstart = (
        {ast.dump(statement): statement for statement in ast.parse(text).body}
        for text in (first, "\n".join(blocks("docs/quickstart.md", "python")))
    )
    both = [statement for statement in readme if statement in quickstart]
    assert both == [statement for statement in quickstart if statement in readme] and len(both) >= 7
    rest = [ast.unparse(node) for statement, node in quickstart.items() if statement not in both]
    sample_photographs(tmp_path / "photos")
    python("-c", "\n".join([f"import os; os.chdir({str(tmp_path)!r})", first, *rest, *others]))
    assert (tmp_path / "served" / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [command for page in ("README.md", "docs/datasets.md", "docs/cluster.md") for command in commands(page)
     if re.match(r"(KERAS_BACKEND=\w+ )?python -m zoo\.training\.\w+ --", command)],
)  # fmt: skip
def test_training_commands_are_understood(command, python):
    """Flags and recipes are checked before the data, which are not there."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)][1:]
    if any(word in ("--status", "--finished", "--dry_run") for word in words) or "$" in command:
        return
    process = python(*words, succeeds=False)
    said = (process.stdout + process.stderr).strip()
    assert process.returncode and re.search("no folder|no config.json|no imagenet|not a plan", said), (
        said
    )
    assert len(said.splitlines()) == 1


def test_links_lead_somewhere():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert len(targets) > 15
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_list_of_backbones_is_that_of_the_registry():
    found = re.search(r"the backbones are (.*?)\.\s", (ROOT / "README.md").read_text(), re.DOTALL)
    assert re.findall(r"`(\w+)`", found[1]) == list(registry.BACKBONES)


def test_the_table_of_methods_is_that_of_the_weights():
    text = (ROOT / "README.md").read_text()
    shown = text.split("made by zoo.training.publish -->\n")[1].split("\n<!-- end of methods")[0]
    assert shown == method_overview.table(list(registry.index()), ROOT / "docs" / "speed")
    below = text.split("<!-- end of methods")[1]
    assert not [method for method in registry.METHODS if f"| `{method}` |" not in below]
