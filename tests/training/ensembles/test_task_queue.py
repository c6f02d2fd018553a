"""Work shared by processes: each task is done once, also when a worker dies or is taken for dead."""

import concurrent.futures
import itertools
import subprocess
import sys
import threading
import time

import optuna
import pytest

from zoo.training.ensembles import task_queue

WORKER = """
import pathlib, sys, time
from zoo.training.ensembles import task_queue
url, folder, pause, heartbeat = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
def perform(name, trial):
    with open(folder / f"{name}.log", "a") as log:
        print(trial.number, trial.suggest_float("x", 0, 1), file=log)
    time.sleep(pause)
    (folder / name).touch()
    return 0.0
study = task_queue.open_study("tasks", task_queue.open_storage(url, heartbeat=heartbeat))
tasks = {f"task{index}": {"x": index / 20} for index in range(10)}
task_queue.work_off(study, tasks, perform, lambda name: (folder / name).exists(), pause=0.1)
print("all done")
"""


def worker(folder, pause, heartbeat):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, f"sqlite:///{folder}/tasks.db", folder, str(pause), str(heartbeat)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process):
    """What a process printed until its end, which it must come to."""
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()


@pytest.mark.slow
def test_workers_that_start_together_share_the_tasks(tmp_path):
    workers = [worker(tmp_path, 0.05, 60) for _ in range(2)]
    outputs = [finished(process) for process in workers]
    assert ["all done" in out for out, _ in outputs] == [True, True], outputs
    for index in range(10):
        (line,) = (tmp_path / f"task{index}.log").read_text().splitlines()  # once
        assert float(line.split()[1]) == index / 20


@pytest.mark.slow
def test_a_queued_trial_is_given_to_one_worker(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    study = task_queue.open_study("tasks", task_queue.open_storage(url))
    for index in range(30):
        study.enqueue_trial({"x": index / 30})

    def take(_):
        own = task_queue.open_study("tasks", task_queue.open_storage(url))
        together.wait()
        return [own.ask().number for _ in range(10)]

    together = threading.Barrier(3, timeout=120)
    with concurrent.futures.ThreadPoolExecutor(3) as workers:
        numbers = list(itertools.chain(*workers.map(take, range(3))))
    assert sorted(numbers) == list(range(30))


@pytest.mark.slow
def test_the_task_of_a_killed_worker_is_done_with_the_same_parameters(tmp_path):
    process = worker(tmp_path, 60, 1)
    try:
        while not (tmp_path / "task0.log").is_file() or not (tmp_path / "task0.log").read_text():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert "all done" in finished(worker(tmp_path, 0, 1))[0]
    killed, retried = (line.split() for line in (tmp_path / "task0.log").read_text().splitlines())
    assert killed[0] == "0" and int(retried[0]) >= 10 and killed[1] == retried[1] == "0.0"
    study = optuna.load_study(study_name="tasks", storage=f"sqlite:///{tmp_path}/tasks.db")
    assert study.trials[0].state.name == "FAIL"
    again = study.trials[int(retried[0])]
    assert optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(again) == 0


@pytest.fixture
def study(tmp_path):
    storage = task_queue.open_storage(f"sqlite:///{tmp_path}/tasks.db", heartbeat=60)
    return task_queue.open_study("tasks", storage)


@pytest.mark.slow
def test_a_worker_that_died_before_its_first_sign_of_life(study, monkeypatch):
    study.enqueue_trial({"x": 0.25}, user_attrs={"task": "one"})
    study.ask()
    monkeypatch.setattr(task_queue, "SILENCE", task_queue.SILENCE * 0)
    done = {}

    def perform(name, trial):
        done[name] = trial.suggest_float("x", 0, 1)
        return 0.0

    def wait():
        raise AssertionError("nobody else is at work")

    task_queue.work_off(study, {"one": {"x": 0.5}}, perform, done.__contains__, 0, wait)
    assert done == {"one": 0.25}


@pytest.mark.slow
def test_a_worker_that_died_before_its_thread_gave_a_sign_of_life(tmp_path):
    storage = task_queue.open_storage(f"sqlite:///{tmp_path}/tasks.db", heartbeat=1)
    study, done = task_queue.open_study("tasks", storage), []

    def die(name, trial):
        raise SystemExit  # Optuna leaves the trial as a killed process does

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        for name in ("start", "join"):
            patch.setattr(optuna.storages._heartbeat.HeartbeatThread, name, lambda self: None)
        task_queue.work_off(study, {"one": {}}, die, done.__contains__)
    assert study.trials[0].state.name == "RUNNING"
    end = time.monotonic() + 60

    def wait():
        assert time.monotonic() < end

    def perform(name, trial):
        done.append(name)
        return 0.0

    task_queue.work_off(study, {"one": {}}, perform, done.__contains__, 0.2, wait)
    assert done == ["one"] and study.trials[0].state.name == "FAIL"


@pytest.mark.slow
def test_a_task_queued_twice_is_left_to_the_first(study):
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={"task": "one"})
    done = []

    def perform(name, trial):
        if trial.number == 0:  # another worker, which finds the second, meanwhile
            task_queue._take_one(study.__class__("tasks", study._storage), perform, is_done)
        done.append(trial.number)
        return 0.0

    def is_done(name):
        return bool(done)

    task_queue.work_off(study, {"one": {}}, perform, is_done, pause=0)
    assert done == [0]


@pytest.mark.slow
def test_an_error_of_a_task_is_the_caller_s_and_the_task_comes_again(study):
    done = []

    def perform(name, trial):
        if not study.get_trials(states=(optuna.trial.TrialState.FAIL,)):
            raise ZeroDivisionError
        done.append(name)
        return 0.0

    arguments = ({"one": {}}, perform, done.__contains__)
    with pytest.raises(ZeroDivisionError):
        task_queue.work_off(study, *arguments, pause=0)
    task_queue.work_off(study, *arguments, pause=0)
    assert done == ["one"]


@pytest.mark.slow
def test_a_worker_that_was_taken_for_dead_goes_on_with_the_next_task(study):
    done = []

    def perform(name, trial):
        if name == "one" and trial.number == 0:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # by another worker
            study.enqueue_trial({}, user_attrs={"task": "one"})
            raise FileNotFoundError("its folder was taken away")
        done.append(name)
        return 0.0

    task_queue.work_off(study, {"one": {}, "two": {}}, perform, done.__contains__, pause=0)
    assert done == ["two", "one"]


def test_a_task_that_is_nowhere_is_an_error(study, raises_line):
    with raises_line(task_queue.TaskFailed, "one failed"):
        task_queue.work_off(study, {"one": {}}, lambda name, trial: 0.0, lambda name: False, pause=0)


@pytest.mark.slow
def test_a_task_queued_twice_is_done_once_even_when_the_first_is_through(study):
    done = []
    study.enqueue_trial({}, user_attrs={"task": "a"})

    def perform(name, trial):
        if not done:
            study.enqueue_trial({}, user_attrs={"task": "a"})  # by a slow worker that started together
        done.append(name)

    task_queue.work_off(study, {"a": {}, "b": {}}, lambda n, t: perform(n, t) or 0.0, done.__contains__)
    assert done == ["a", "b"]


@pytest.mark.slow
def test_a_task_whose_worker_is_told_to_stop_is_for_others_at_once(study):
    class Stopped(Exception):
        pass

    done = []

    def perform(name, trial):
        if trial.number == 0:
            raise Stopped
        done.append((name, trial.suggest_float("x", 0, 1)))
        return 0.0

    with pytest.raises(Stopped):
        task_queue.work_off(study, {"a": {"x": 0.25}}, perform, lambda n: bool(done), stopped=Stopped)
    task_queue._take_one(study, perform, lambda name: bool(done))  # by a worker that is there already
    assert done == [("a", 0.25)]
