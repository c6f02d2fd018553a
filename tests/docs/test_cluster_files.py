"""The job files of the documentation: valid, and what they run finds its workers."""

import json
import os
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from absl import flags

from helpers.clusters import ports
from helpers.paths import ROOT

DOCS = ROOT / "docs" / "cluster"
PYTHON = """#!{python}
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("TF_CONFIG")]))
"""


def documents(name):
    return list(yaml.safe_load_all((DOCS / name).read_text()))


def commands(text, folder, **environment):
    """The (arguments, TF_CONFIG) with which a script calls python."""
    stub = folder / "python"
    stub.write_text(PYTHON.format(python=sys.executable))
    stub.chmod(0o755)
    srun = folder / "srun"
    srun.write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    srun.chmod(0o755)
    (folder / "scontrol").write_text("#!/bin/sh\necho requeued >&2\n")
    (folder / "scontrol").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    process = subprocess.run(
        ["bash", "-euc", text], env=os.environ | {"PATH": path} | environment, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    ((arguments, config),) = [json.loads(line) for line in process.stdout.splitlines()]
    return arguments, config, process.stderr


def assert_flags_exist(arguments):
    """Every flag is one that the script defines."""
    module = __import__(arguments[1], fromlist=["main"])
    assert arguments[0] == "-m" and module.main
    for argument in arguments[2:]:
        name, _, value = argument.removeprefix("--").partition("=")
        assert name in flags.FLAGS and value, argument


@pytest.mark.parametrize("name", ["multi_worker.yaml", "members.yaml"])
def test_kubernetes_files_are_valid(name):
    for document in documents(name):
        kubernetes_validate.validate(document, "1.31", strict=True)
    broken = documents(name)[-1]
    broken["spec"]["completions"] = "two"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


@pytest.mark.slow
def test_pods_are_workers_of_one_cluster(tmp_path, monkeypatch):
    from zoo.training.devices.placement import cluster

    service, job = documents("multi_worker.yaml")
    container = job["spec"]["template"]["spec"]["containers"][0]
    for index in range(job["spec"]["completions"]):
        arguments, config, _ = commands(container["args"][0], tmp_path, JOB_COMPLETION_INDEX=str(index))
        assert_flags_exist(arguments)
        monkeypatch.setenv("TF_CONFIG", config)
        addresses, worker = cluster()
        assert worker == index
        name, port = addresses[index].split(":")
        assert name == f"{job['metadata']['name']}-{index}.{service['metadata']['name']}"
        assert int(port) == container["ports"][0]["containerPort"]
    assert service["spec"]["clusterIP"] == "None"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]


@pytest.mark.slow
def test_pods_train_a_member_each(tmp_path):
    (job,) = documents("members.yaml")
    script = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    arguments, _, _ = commands(script, tmp_path, JOB_COMPLETION_INDEX="3")
    assert "--member=3" in arguments and f"--num_members={job['spec']['completions']}" in arguments
    assert_flags_exist(arguments)


@pytest.mark.slow
def test_slurm_jobs_call_the_scripts_and_come_again_until_the_model_is_there(tmp_path):
    script = (DOCS / "multi_worker.sbatch").read_text()
    run = tmp_path / "run"
    run.mkdir()
    arguments, _, said = commands(script, tmp_path, DATA="d", RUN=str(run), SLURM_JOB_ID="1")
    assert_flags_exist(arguments)
    assert "requeued" in said
    (run / "config.json").touch()
    assert "requeued" not in commands(script, tmp_path, DATA="d", RUN=str(run), SLURM_JOB_ID="1")[2]
    script = (DOCS / "members.sbatch").read_text()
    arguments, _, _ = commands(script, tmp_path, DATA="d", RUN="r", SLURM_ARRAY_TASK_ID="2")
    assert "--member=2" in arguments
    assert_flags_exist(arguments)


@pytest.mark.slow
def test_tasks_of_srun_find_each_other():
    script = (
        "from zoo.training.devices import choose\n"
        "placement = choose.place('multi_worker')\n"
        "print(placement.worker, placement.workers, placement.gather([placement.worker + 5]).tolist())"
    )
    environment = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2",
        "ZOO_PORT": str(ports(1)[0]), "KERAS_BACKEND": "tensorflow",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=os.environ | environment | {"SLURM_PROCID": str(index)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for index, (out, error) in enumerate(outputs):
        assert out.strip() == f"{index} 2 [[5], [6]]", error[-2000:]


def test_a_task_without_a_step_of_srun_is_told_to_start_by_it(monkeypatch, raises_line):
    from zoo.training.devices import choose

    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")
    with raises_line(ValueError, "SLURM's variables name no workers .*; start by srun"):
        choose.place("multi_worker")
