"""The timed part of a benchmark: which models fit into the time, rounds of calls, and ratios of times."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.latency import interleaved

LEAST_ROUNDS = 3
SHORT = 0.1  # seconds; of shorter calls each is made twice, and the second one counts


def time_in_rounds(
    models: Sequence[Any],
    baselines: Sequence[Any],
    tasks: Sequence[str],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict, dict]:
    """Warm up all models and time them, one call of each after the other in every round.

    A call of less than 0.1 s comes right after an untimed one, so that it does not matter whether
    another model or another process has used the caches and threads just before.

    No warm-up begins once half of the time is gone, and of those warmed up the most expensive are left
    out until three rounds of all others fit into the rest; baselines are measured in any case.

    Args:
        models: objects with `label`, `of`, `prepare()` and `measure(task)`, see `BenchmarkedModel`.
        baselines: those among them that the others are compared with.
        tasks: strings, names of what is timed.
        rounds: int >= 1, calls of each model and task, at most.
        seconds: float > 0, the time for everything; a round that has begun is completed.
        say: function of a line of progress. Default: prints nothing.

    Returns:
        ({task: {model: array (rounds, 2) of wall and CPU seconds}}, {model: why it was not
        measured}).

    Raises:
        ValueError: if a baseline cannot be built.
    """
    start, warm, skipped = time.perf_counter(), {}, {}
    for one in models:
        gone = time.perf_counter() - start
        if one not in baselines and gone > seconds / 2:
            skipped[one] = f"not begun: {gone:.0f} s of {seconds:g} s were gone before its warm-up"
            continue
        say(f"warming up {one.of}: {one.label}")
        try:
            warm[one] = prepared = one.prepare()
        except ValueError as error:
            if one in baselines:
                raise
            skipped[one] = f"cannot be built: {error}"
        else:
            say(", ".join(f"{task} {1e3 * t:.0f} ms" for task, t in prepared.items()))
    left = seconds - (time.perf_counter() - start)
    skipped |= _too_expensive(warm, baselines, left, seconds)
    runners = [one for one in warm if one not in skipped]
    times = {}
    for index, task in enumerate(tasks):
        left = seconds - (time.perf_counter() - start)
        still = sum(warm[one][t] for one in runners for t in tasks[index:]) or 1.0
        share = left * sum(warm[one][task] for one in runners) / still
        say(f"timing {task}")
        calls = {one: _measuring(one, task, warm[one][task] < SHORT) for one in runners}
        times[task] = interleaved(calls, rounds, share, LEAST_ROUNDS)
    return times, skipped


def _measuring(model, task, short):
    """A function that times a call: a short one after another, for whose turn it was before matters to it."""

    def measure():
        if short:
            model.measure(task)
        return model.measure(task)

    return measure


def _too_expensive(warm, baselines, left, seconds):
    """{model: why} of the most expensive ones, until the least rounds of all others fit."""
    costs = {one: LEAST_ROUNDS * sum(times.values()) for one, times in warm.items()}
    skipped = {}
    for one in sorted(costs, key=costs.get, reverse=True):
        total = sum(cost for other, cost in costs.items() if other not in skipped)
        if total <= left:
            break
        if one not in baselines:
            skipped[one] = (
                f"left out: {LEAST_ROUNDS} rounds of it take {costs[one]:.0f} s; those of all remaining models take "
                f"{total:.0f} s, and only {max(left, 0):.0f} s of {seconds:g} s are left; allow more with --seconds"
            )
    return skipped


def summary(times: np.ndarray, baseline: np.ndarray) -> dict:
    """Summarise rounds: medians, and the median over rounds of each round's ratio to the baseline.

    Args:
        times: array (rounds, 2), wall and CPU seconds of a model's calls.
        baseline: array (rounds, 2), the single network's in the same rounds.

    Returns:
        A dictionary: `wall_ms`, `cpu_ms`, `wall_ratio`, `cpu_ratio`, `rounds`.
    """
    wall, cpu = (float(value) for value in 1e3 * np.median(times, axis=0))
    ratios = np.median(times / np.maximum(baseline, 1e-9), axis=0)
    return {
        "wall_ms": wall,
        "cpu_ms": cpu,
        "wall_ratio": float(ratios[0]),
        "cpu_ratio": float(ratios[1]),
        "rounds": len(times),
    }
