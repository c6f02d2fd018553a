"""Latencies: what is called, how often and in what order, and the numbers that come of it."""

import keras
import numpy as np
import pytest

import zoo
from zoo import latency
from zoo.latency import conditions, interleaved, latencies, timed


class Clock:
    """Stands in for `time`: every look is a tick of a microsecond, and models move it on."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1e-6
        return self.now

    process_time = perf_counter


class Slow:
    """A model whose n-th call takes `costs[n]` seconds of the clock; the last holds from there on."""

    input_shape = (None, 4, 4, 3)

    def __init__(self, name, clock, log, *costs):
        self.name, self.clock, self.log, self.costs = name, clock, log, list(costs)

    def predict_on_batch(self, images):
        self.log.append((self.name, len(images)))
        self.clock.now += self.costs.pop(0) if len(self.costs) > 1 else self.costs[0]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    return clock


def test_the_median_of_a_call_without_warm_up(clock):
    log = []
    # Two calls of warm-up, then 1, 1, 9, 1 and 90 ms.
    model = Slow("a", clock, log, 50, 50, 0.001, 0.001, 0.009, 0.001, 0.09)
    measured = latencies({"a": model}, rounds=5, batch_sizes=(8,))
    assert measured == {"a": {8: pytest.approx(1, abs=0.01)}}
    assert log == [("a", 8)] * 7


def test_models_take_turns(clock):
    log = []
    models = {name: Slow(name, clock, log, cost) for name, cost in (("a", 0.001), ("b", 0.003))}
    measured = latencies(models, rounds=4)
    assert log == [("a", 1), ("b", 1), ("a", 32), ("b", 32)] * 6
    for name, expected in (("a", 1), ("b", 3)):
        assert measured[name] == {
            1: pytest.approx(expected, abs=0.01),
            32: pytest.approx(expected, abs=0.01),
        }


@pytest.mark.parametrize(("cost", "calls"), [(10.0, 3), (0.5, 6), (0.01, 20)])
def test_slow_models_get_fewer_rounds_but_three(cost, calls, clock):
    log = []
    latencies({"a": Slow("a", clock, log, cost)}, batch_sizes=(1,), seconds=3)
    assert len(log) - 2 == calls


def test_wall_and_cpu_seconds_are_told_apart(clock, monkeypatch):
    busy = iter((10.0, 12.5))
    monkeypatch.setattr(clock, "process_time", lambda: next(busy), raising=False)
    wall, cpu = timed(lambda: clock.perf_counter())()
    assert (wall, cpu) == (pytest.approx(2e-6), 2.5)


def test_rounds_are_rows_and_stop_when_the_time_is_gone(clock):
    def call():
        clock.now += 1
        return clock.now, 7

    times = interleaved({"a": call, "b": call}, rounds=9, seconds=7)
    assert times["a"].shape == times["b"].shape == (4, 2)
    np.testing.assert_allclose(times["a"][:, 0], [1, 3, 5, 7], atol=1e-3)
    np.testing.assert_array_equal(times["b"][:, 1], 7)
    assert len(interleaved({"a": call}, rounds=2, seconds=0)["a"]) == 2
    assert len(interleaved({"a": call}, rounds=9, seconds=0, least=5)["a"]) == 5


def test_models_of_the_zoo_and_of_others(tiny, images):
    model = tiny()
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    measured = latencies({"ours": model, "theirs": other}, rounds=3, batch_sizes=(1, 3))
    assert list(measured) == ["ours", "theirs"]
    for times in measured.values():
        assert list(times) == [1, 3] and all(0 < value < 60_000 for value in times.values())
    assert latencies({"ours": model}, images, rounds=1)["ours"].keys() == {1, 32}


def test_images_are_repeated_to_fill_a_batch(tiny):
    seen = []
    model = tiny()
    model.predict_on_batch = seen.append
    images = np.arange(2, dtype="uint8")[:, None, None, None] * np.ones((1, 16, 16, 3), "uint8")
    latencies({"a": model}, images, rounds=1, batch_sizes=(5,))
    assert all(batch.dtype == np.uint8 for batch in seen)
    np.testing.assert_array_equal(seen[0][:, 3, 4, 1], [0, 1, 0, 1, 0])


def test_conditions_say_what_ran():
    assert conditions().startswith(keras.backend.backend()) and "core" in conditions()


@pytest.mark.parametrize(
    ("models", "options", "pattern"),
    [
        ({}, {}, "at least one model"),
        ([1], {}, "name: model"),
        (None, {"rounds": 0}, "rounds must be at least 1; got 0"),
        (None, {"batch_sizes": (4, 0)}, "batch sizes must be at least 1; got 4, 0"),
        (None, {"batch_sizes": ()}, "got none"),
        (None, {"images": np.zeros((2, 8, 8, 3))}, r"x takes images \(N, 16, 16, 3\).*\(2, 8, 8, 3\)"),
        (None, {"images": np.zeros((0, 16, 16, 3))}, r"N >= 1; got \(0, 16, 16, 3\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(models, options, pattern, tiny, raises_line):
    models = {"x": tiny(zoo.methods.Single())} if models is None else models
    with raises_line(ValueError, pattern):
        latencies(models, **options)
