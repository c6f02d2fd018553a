"""The queue that fills the zoo: states, the table, and runs that are killed and go on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from helpers.plans import PLAN, plan_of
from zoo.files import config_files
from zoo.training import fill
from zoo.training.loop import dry_run, run


def test_states_are_read_off_the_folder(tmp_path):
    one = fill.read_plan(plan_of(tmp_path))[0]
    folder = tmp_path / one.name
    folder.mkdir()
    assert fill.state(one, tmp_path) == ("waiting", 0, 0)
    (folder / "failed.txt").write_text("exit code 1: no data\n")
    assert fill.state(one, tmp_path) == ("failed", 0, 0)
    (folder / "checkpoint.json").write_text('{"epochs": 7, "seconds": 12.5}')
    assert fill.state(one, tmp_path) == ("failed", 7, 12.5)
    (folder / "failed.txt").unlink()
    assert fill.state(one, tmp_path) == ("started", 7, 12.5)
    (folder / "config.json").write_text('{"seconds": 30}')
    assert fill.state(one, tmp_path) == ("done", 40, 30)
    shipped = plan_of(tmp_path, '[[run]]\nrecipe = "fashion_mnist_single_lenet"\nseeds = [0, 12345]')
    states = [fill.state(run, tmp_path)[0] for run in fill.read_plan(shipped)]
    assert states == ["published", "waiting"]


JOINED = """
[[run]]
recipe = "fashion_mnist_single_lenet"
seeds = [0, 1]

[[run]]
recipe = "fashion_mnist_deep_ensemble_lenet"
join = [0, 1]
"""


def test_published_networks_that_are_still_to_be_joined_are_trained_again(tmp_path):
    plan = fill.read_plan(plan_of(tmp_path, JOINED))
    first, second, ensemble = (run.name for run in plan)
    assert [fill.state(run, tmp_path)[0] for run in plan] == ["published", "published", "waiting"]
    states = {name: kind for name, (kind, *_) in fill.states(plan, tmp_path).items()}
    assert states == {first: "waiting", second: "waiting", ensemble: "waiting"}
    (tmp_path / ensemble).mkdir()
    (tmp_path / ensemble / "config.json").write_text('{"seconds": 30}')
    states = {name: kind for name, (kind, *_) in fill.states(plan, tmp_path).items()}
    assert states == {first: "published", second: "published", ensemble: "done"}


def test_a_joined_ensemble_is_published_with_its_members(tmp_path):
    text = '[[run]]\nrecipe = "cifar10_deep_ensemble_cifarnet"\nprecision = "bfloat16"\njoin = '
    for join, kind in (("[0, 1, 2]", "published"), ("[0, 1]", "waiting")):
        (run,) = fill.read_plan(plan_of(tmp_path, text + join))
        assert fill.state(run, tmp_path)[0] == kind


def test_the_table_extrapolates_from_the_flops_that_were_done(tmp_path):
    plan = fill.read_plan(plan_of(tmp_path))
    assert fill.status(plan, tmp_path).endswith("left: ?")  # nothing has trained: times are unknown
    assert fill.status(plan, tmp_path).count("?") == 3
    flops = json.loads((tmp_path / "flops.json").read_text())
    assert flops == {run.name: dry_run.run_flops(run.recipe) for run in plan}
    for name, file, text in (
        (plan[0].name, "config.json", '{"seconds": 7200}'),
        (plan[1].name, "checkpoint.json", '{"epochs": 10, "seconds": 1800}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    done, started, left = fill.status(plan, tmp_path).splitlines()
    assert done.split() == [plan[0].name, "done", "40/40"]
    assert started.split() == [plan[1].name, "started", "10/40", "1:30"]
    assert left.startswith("left: 1:30 at ")


def test_a_second_queue_in_a_folder_is_refused(tmp_path, raises_line, monkeypatch):
    monkeypatch.setattr(fill, "PATIENCE", 0)
    with fill.lock(tmp_path), raises_line(ValueError, "another queue works in .*--status"):
        fill.fill([], tmp_path, tmp_path)
    with fill.lock(tmp_path):
        pass


# The queue's command at the tests' own priority: at the lowest, other work would starve it.
QUEUE = """
from zoo.training import fill
fill._lowest_priority = int
fill._define_flags()
fill.start(fill.main, "zoo.training.fill")
"""


def queue(runs, data, plan, *more):
    flags = [f"--plan={plan}", f"--runs={runs}", f"--data_dir={data}", *more]
    return [sys.executable, "-W", "ignore", "-c", QUEUE, *flags]


def child_of(process):
    """The id of the run that a queue trains; another child keeps log lines out."""
    found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found}
    return next(int(pid) for pid, command in commands.items() if b"zoo.training.train" in command)


@pytest.mark.slow
def test_a_queue_that_is_killed_goes_on_when_it_is_started_again(mnist, tmp_path):
    plan, runs = plan_of(tmp_path), tmp_path / "runs"
    first, second = fill.read_plan(plan)
    for number in (signal.SIGTERM, signal.SIGKILL):
        _, before, _ = fill.state(first, runs)
        process = subprocess.Popen(queue(runs, mnist, plan), stdout=subprocess.PIPE, text=True)
        try:
            while fill.state(first, runs)[1] == before:
                assert process.poll() is None
                time.sleep(0.005)
            child = child_of(process)
            process.send_signal(number)
            if number == signal.SIGKILL:
                os.kill(child, number)
        finally:
            process.send_signal(number)
            process.communicate(timeout=300)
        state, epochs, _ = fill.state(first, runs)
        assert state == "started" and before < epochs < 40
        assert fill.state(second, runs)[0] == "waiting"
        assert not (runs / first.name / "failed.txt").exists()

    resumed = subprocess.run(queue(runs, mnist, plan), capture_output=True, text=True, timeout=600)
    assert resumed.returncode == 0, resumed.stderr
    assert [line.split()[1] for line in resumed.stdout.splitlines()] == [first.name, second.name]
    output = (runs / first.name / "output.txt").read_text()
    assert output.count("epoch 40/40") >= 1
    assert fill.state(first, runs)[0] == fill.state(second, runs)[0] == "done"
    expected = run.train(first.recipe, mnist, tmp_path / "alone")
    assert expected["files"] == config_files.read_config(runs / first.name)["files"]

    finished = subprocess.run(queue(runs, mnist, plan, "--finished"), capture_output=True, text=True)
    assert finished.stdout.split() == [f"{runs}/{first.name}", f"{runs}/{second.name}"]


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_queue_goes_on(mnist, tmp_path):
    text = '[[run]]\nrecipe = "cifar100_single_cifarnet"\nseeds = [73]\n' + PLAN.replace(
        "[71, 72]", "[71]"
    )
    plan, runs = plan_of(tmp_path, text.replace("epochs = 40", "epochs = 1")), tmp_path / "runs"
    process = subprocess.run(queue(runs, mnist, plan), capture_output=True, text=True, timeout=600)
    assert process.returncode == 1
    bad, good = fill.read_plan(plan)
    assert f"{bad.name} failed: " in process.stderr and "no cifar100 in" in process.stderr
    assert "Traceback" not in process.stderr
    assert fill.state(bad, runs)[0] == "failed" and fill.state(good, runs)[0] == "done"
    with fill.lock(runs):
        refused = subprocess.run(queue(runs, mnist, plan), capture_output=True, text=True, timeout=600)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("zoo.training.fill: another queue works in")
    table = subprocess.run(
        queue(runs, mnist, plan, "--status"), capture_output=True, text=True, timeout=600
    )
    rows = [line.split()[:2] for line in table.stdout.splitlines()]
    assert rows[:2] == [[bad.name, "failed"], [good.name, "done"]], table.stderr
