"""How `python -m zoo.training.*` ends: status 2 and one line for wrong input, 130 after Ctrl-C."""

import pathlib
import subprocess
import sys

import pytest

from zoo import training

FOLDER = pathlib.Path(training.__file__).parent
RUN = ["--data_dir=nowhere", "--output_dir=out"]
COMMANDS = {  # {module: (arguments that name files or folders that are not there, a wrong flag)}
    "train": (["--recipe=mnist_single_lenet", *RUN], "--epochs=many"),
    "members": (["--recipe=mnist_deep_ensemble_lenet", *RUN], "--heartbeat=0"),
    "hyper_deep": (["--recipe=mnist_single_lenet", *RUN], "--limit=-5"),
    "tickets": (["--recipe=mnist_dst_tickets_lenet", *RUN], "--procedure=none"),
    "fill": (["--runs=runs", "--data_dir=nowhere"], "--status=maybe"),
    "join_runs": (["--runs=nowhere", *RUN], "--limit=0"),
    "publish": (["nowhere"], "--verbosity=loud"),
    "studies.method_table": (["--report=nowhere", "--backbone=lenet"], "--backbone"),
    "studies.clothing": (["--data=nowhere", "--output_dir=out"], "--image_size=2"),
    "studies.scaling": (["--page=nowhere"], "--page"),
    "studies.choosing": (["--page=nowhere/page.md"], "extra"),
    "studies.batch_ensemble_diversity": (RUN, "--batch_size=1"),
}


def ended(module, *arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", f"zoo.training.{module}", *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_all_commands_are_known():
    paths = [path for path in FOLDER.rglob("*.py") if "__main__" in path.read_text()]
    found = {".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in paths}
    assert found == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("module", COMMANDS)
def test_wrong_input_is_one_line_and_status_2(module, tmp_path):
    missing, wrong = COMMANDS[module]
    for arguments in (missing, [*missing, wrong], [*missing, "--nonsense=1"]):
        process = ended(module, *arguments, folder=tmp_path)
        assert process.returncode == 2, process.stderr
        assert process.stderr.startswith(f"zoo.training.{module}: ") and not process.stdout
        assert len(process.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys
from zoo.command_errors import CommandError
from zoo.training.start import start
def main(argv):
    raise {"any": KeyError("a\\nb"), "plain": CommandError("no more"), "Ctrl-C": KeyboardInterrupt()}[argv[1]]
start(main, "name", takes_arguments=True)
"""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("any", 2, "name: KeyError: 'a\\nb'; ZOO_TRACEBACK=1 shows where\n"),
        ("plain", 2, "name: no more\n"),
        ("Ctrl-C", 130, ""),
    ],
)
def test_any_end_has_its_status(error, status, said, python, monkeypatch):
    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    process = python("-c", SCRIPT, error, succeeds=False)
    assert (process.returncode, process.stderr) == (status, said)
