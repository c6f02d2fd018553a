"""A queue of tasks that several processes or machines share, each done once, through an Optuna study.

A task is a queued trial that carries its name.  Workers take the queued trials in order; the trial of a
worker that dies goes stale (Optuna's heartbeat) and is queued again with the same parameters.  The
caller keeps the results and tells whether a task is done; Optuna only keeps the order of work.
"""

import datetime
import os
import socket
import time
import warnings
from collections.abc import Callable

import optuna
import sqlalchemy
from optuna.trial import TrialState

from zoo.layers.keras_internals import record_heartbeat
from zoo.training.loop.preemption import CannotGoOn

MOST_RETRIES = 3
# How long a worker may take from getting a trial to its first sign of life, and clocks may differ.
SILENCE = datetime.timedelta(minutes=10)


class TaskFailed(CannotGoOn):
    """A task killed every worker that tried it, or was left by all of them."""


def open_storage(url: str, heartbeat: int = 60) -> optuna.storages.RDBStorage:
    """Open an Optuna storage in which the trials of dead workers are retried.

    Args:
        url: str, a database, such as sqlite:///search.db or postgresql://user:password@host/name.
        heartbeat: int, seconds between a worker's signs of life; without three of them it counts as
            dead. Default: 60.

    Returns:
        `optuna.storages.RDBStorage`.

    Raises:
        ValueError: if the URL or the database cannot be used; the message omits the password.
    """
    for attempt in range(4):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = optuna.storages.RDBStorage(
                    url,
                    # Workers that write at once wait for each other.
                    engine_kwargs={"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {},
                    heartbeat_interval=heartbeat,
                    grace_period=3 * heartbeat,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                        MOST_RETRIES
                    ),
                )
            if storage.engine.dialect.name == "sqlite":
                # SQLite knows no SELECT FOR UPDATE, by which Optuna gives a queued trial to one worker only.
                sqlalchemy.event.listen(
                    storage.engine,
                    "begin",
                    lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"),
                )
            return storage
        except Exception as error:  # SQLAlchemy, Alembic and every driver have errors of their own
            # Two workers that make the tables at the same time get in each other's way.
            collided = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error)
            if attempt < 3 and collided:
                time.sleep(0.5)
                continue
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            user, at, place = url.rpartition("@")
            shown = f"{user.split('://')[0]}://...@{place}" if at else url  # no password in a log
            raise ValueError(
                f"cannot use the Optuna storage {shown} ({reason.replace(url, shown)}); correct its URL"
            ) from None


def open_study(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Open an Optuna study, or create it.

    Args:
        name: str, the study.
        storage: Optuna storage, from `open_storage`.

    Returns:
        `optuna.Study`.
    """
    return optuna.create_study(
        study_name=name, storage=storage, load_if_exists=True, sampler=optuna.samplers.RandomSampler(0)
    )


def work_off(
    study: optuna.Study,
    tasks: dict[str, dict],
    perform: Callable,
    is_done: Callable[[str], bool],
    pause: float = 2.0,
    on_wait: Callable | None = None,
    stopped: type[BaseException] | tuple[type[BaseException], ...] = KeyboardInterrupt,
) -> None:
    """Do tasks until every task is done, by this worker or others.

    Args:
        study: `optuna.Study` from `open_study`.
        tasks: dict from name to the parameters that `trial.suggest_*` will give, in the order of work.
        perform: function of (name, trial) that does a task and returns the trial's value; it must return
            soon if the task is done already.
        is_done: function of a name; it must return True after `perform` has returned.
        pause: float, seconds between checks while only other workers have tasks. Default: 2.0.
        on_wait: function called at each such check, or None. Default: None.
        stopped: exception class or tuple of them. When `perform` raises one, its task is queued again at
            once. Default: KeyboardInterrupt.

    Raises:
        TaskFailed: if a task keeps killing its workers.
        Exception: whatever `perform` raises; the next `work_off` queues the task again.
    """
    live = {_task(trial) for trial in _trials(study, TrialState.WAITING, TrialState.RUNNING)}
    for name, parameters in tasks.items():
        if name not in live and not is_done(name):
            study.enqueue_trial(parameters, user_attrs={"task": name})
    idle = 0
    while missing := [name for name in tasks if not is_done(name)]:
        _retry_stale(study)
        if any(_task(trial) in missing for trial in _trials(study, TrialState.WAITING)):
            _take_one(study, perform, is_done, stopped)
            idle = 0
            continue
        at_work = {_task(trial) for trial in _trials(study, TrialState.RUNNING)}
        # A task is nowhere for a moment while another worker queues it again.
        idle = 0 if at_work & set(missing) else idle + 1
        if idle > 3:
            raise TaskFailed(
                f"{missing[0]} failed {MOST_RETRIES + 1} times; its worker's output says why; start again to "
                "try it again"
            )
        if on_wait:
            on_wait()
        time.sleep(pause)


def _trials(study, *states):
    return study.get_trials(deepcopy=False, states=states)


def _task(trial):
    return trial.user_attrs.get("task")


def _retry_stale(study):
    """Queue the tasks of dead workers again, of those that died before their first heartbeat too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in _trials(study, TrialState.RUNNING):
        if "worker" in trial.user_attrs or datetime.datetime.now() - trial.datetime_start < SILENCE:
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # another worker was faster
        if _task(trial):
            parameters = trial.system_attrs["fixed_params"]
            study.enqueue_trial(parameters, user_attrs={"task": _task(trial)})


def _take_one(study, perform, is_done, stopped=KeyboardInterrupt):
    """Do the task of the next queued trial."""
    taken, lost = None, False

    def objective(trial):
        nonlocal taken, lost
        if _task(trial) is None or _has_twin(study, trial, is_done):
            raise optuna.TrialPruned()
        taken = trial.number
        # Optuna's thread may send the first heartbeat later; a worker that died before would seem alive.
        record_heartbeat(study, trial)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        try:
            return perform(_task(trial), trial)
        finally:
            lost = study.get_trials(deepcopy=False)[trial.number].state != TrialState.RUNNING

    try:
        study.optimize(objective, n_trials=1, gc_after_trial=True)
    except stopped:
        if taken is not None and not lost:  # only now, when its own trial has ended
            trial = study.get_trials(deepcopy=False)[taken]
            study.enqueue_trial(trial.system_attrs["fixed_params"], user_attrs={"task": _task(trial)})
        raise
    except Exception:
        # A worker that was taken for dead (a suspended machine) cannot tell: another has its trial.
        if not lost:
            raise


def _has_twin(study, trial, is_done):
    """Whether a task was queued twice, by workers that started together, and this is the second."""
    states = [TrialState.WAITING, TrialState.RUNNING]
    if is_done(_task(trial)):  # else what it left was lost
        states.append(TrialState.COMPLETE)
    return any(
        other.number < trial.number and _task(other) == _task(trial) for other in _trials(study, *states)
    )
