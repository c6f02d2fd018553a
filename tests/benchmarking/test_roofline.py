"""How near to a device's limits a benchmark says models come."""

import types

import keras
import pytest

from zoo import latency
from zoo.benchmarking import benchmark, output, roofline
from zoo.benchmarking.models import Settings
from zoo.step_cost import StepCost

FOUND = {"flops": 100e9, "bytes": 10e9}
COST = StepCost(
    trainable=250, parameters=300, weight_bytes=1200, gradient_bytes=1000, existing_bytes=1000, places=0,
    tensors=2, macs=5000, macs_again=0, activation_bytes=700, statistics=(),
)  # fmt: skip


def test_the_work_of_a_step_by_hand():
    # 8 images: forward 2 * 5000 FLOPs, backward twice that; activations written once and read twice.
    assert roofline.training_work(COST, 8) == (8 * 30_000, 3 * 8 * 700 + 8 * 1000)


@pytest.mark.parametrize(
    ("work", "seconds", "limit", "share"),
    [((50e9, 1e9), 1.0, "arithmetic", 0.5), ((50e9, 8e9), 1.0, "memory", 0.8),
     ((50e9, 8e9), 4.0, "memory", 0.2), ((2e9, 0), 0.1, "arithmetic", 0.2)],
)  # fmt: skip
def test_the_nearest_limit_is_the_one_used_most(work, seconds, limit, share):
    assert roofline.nearest_limit(work, seconds, FOUND) == (limit, pytest.approx(share))


def test_a_rate_is_the_fastest_call_of_the_first_size_that_is_long_enough(monkeypatch):
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now, process_time=lambda: 0.0)
    monkeypatch.setattr(latency, "time", clock)
    called = []

    def work(size, dtype):
        def call():
            called.append(size)
            clock.now += (size + (len(called) % 2)) / 100

        return 50 * size, call

    assert roofline._rate(work, [1, 4, 9, 16], "float32") == pytest.approx(5000)
    assert sorted(set(called)) == [1, 4]  # 10 ms are too short, 40 ms are not


@pytest.mark.slow
def test_peaks_are_of_work_that_is_done():
    products, call = roofline._product(8, "float32")
    assert products == 4 * 2 * 8**3
    assert call() == pytest.approx(1 / 8)  # of matrices of 1 / 8
    for move, factor in ((roofline._reading, 4), (roofline._copying, 8)):
        count, call = move(16, "float32")
        assert count == factor * 16
        assert call() == (1 if factor == 4 else 2)
    assert min(roofline.peaks().values()) > 0


def test_the_table_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "peaks", lambda: FOUND)
    settings = Settings("mlp", (8, 8, 1), batch_sizes=(1, 4), train_batch_size=8, precision="bfloat16")
    results = benchmark.benchmark(
        settings, ["single"], rounds=1, fresh_processes=False, directory=tmp_path
    )
    assert results["machine"]["precision"] == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    (record,) = results["models"]
    for task, wall in (("train", 20.0), ("predict 4", 5.0)):
        record["tasks"][task]["wall_ms"] = wall
    record["training_work"], record["macs"] = (4e8, 1e8), 1e8
    peer = {**record, "of": "other"}
    del peer["training_work"], peer["macs"]
    table = output._work(results, [record, peer], list(record["tasks"]))
    # Training: 8 images in 20 ms; 20 GFLOP/s of 100, 5 GB/s of 10.  Inference: 160 of 100 GFLOP/s.
    expected = ["400", "20.0", "memory 50%", "800", "160", "arithmetic 160%"]
    assert [values for _, values in table.rows] == [expected, expected]
    assert "100 GFLOP/s" in table.caption and "10 GB/s" in table.caption
