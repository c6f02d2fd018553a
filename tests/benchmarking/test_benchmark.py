"""`zoo benchmark`: who is measured, in which order, what comes of the times, and what is written."""

import ast
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import cli, counts, latency, registry
from zoo.benchmarking import benchmark, command, fresh_process, peers, probe, rounds
from zoo.benchmarking.models import METHODS, Settings, from_scratch, published

SMALL = {"batch_sizes": (1, 3), "train_batch_size": 4}
TINY = Settings("mlp", (8, 8, 1), **SMALL)

FAKE_PEER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "settings" in request:
        print(json.dumps({"version": "7.1", "models": ["single", "packed", "mimo", "unheard of"]}), flush=True)
    elif request.get("prepare") == "mimo":
        print(json.dumps({"error": "no such thing"}), flush=True)
    elif "prepare" in request:
        warm = {"train": 0.002, "predict 1": 0.001, "predict 3": 0.001}
        facts = {"members": 4, "parameters": 12345}
        print(json.dumps({"warm": warm, "compile": {"train": 1, "predict": 2}, "facts": facts}), flush=True)
    else:
        label, task = request["measure"]
        seconds = 0.002 * (3 if label == "packed" else 1)
        print(json.dumps({"times": [seconds, seconds / 2]}), flush=True)
"""


class Clock:
    """Stands in for `time`: only models move it on."""

    now = 0.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter


class Runner:
    """A model whose calls take `seconds` by task, CPU time twice that, and its warm-up `warm_up`."""

    of = "zoo"

    def __init__(self, label, clock, seconds, warm_up=0.0, log=None, error=None):
        self.label, self.clock, self.seconds, self.warm_up = label, clock, seconds, warm_up
        self.log, self.error = [] if log is None else log, error

    def prepare(self):
        self.clock.now += self.warm_up
        if self.error:
            raise ValueError(self.error)
        return self.seconds

    def measure(self, task):
        self.log.append((self.label, task))
        self.clock.now += self.seconds[task]
        return self.seconds[task], 2 * self.seconds[task]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(rounds, "time", clock)
    return clock


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """A peer of the right name whose script is a fake."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE_PEER)
    known = {"module": "json", "script": script, "install": "pip install fake"}
    monkeypatch.setattr(peers, "PEERS", {"fake": known})
    return script


def test_a_ratio_is_the_median_of_the_ratios_of_rounds():
    baseline = np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    times = np.array([[2.0, 3.0], [2.0, 1.0], [12.0, 9.0]])
    # Ratios by round: wall 2, 1, 3; CPU 1.5, 0.5, 4.5.  The medians' ratio would be 1 of wall time.
    assert rounds.summary(times, baseline) == {
        "wall_ms": 2000, "cpu_ms": 3000, "wall_ratio": 2, "cpu_ratio": 1.5, "rounds": 3,
    }  # fmt: skip


def test_one_call_of_each_in_every_round(clock):
    log, tasks = [], ["train", "predict 1"]
    a, b = (Runner(label, clock, {task: 1.0 for task in tasks}, log=log) for label in "ab")
    times, skipped = rounds.time_in_rounds([a, b], [a], tasks, rounds=4, seconds=1e6)
    assert log == [("a", "train"), ("b", "train")] * 4 + [("a", "predict 1"), ("b", "predict 1")] * 4
    assert not skipped and times["train"][a].shape == (4, 2)
    np.testing.assert_array_equal(times["predict 1"][b], [[1, 2]] * 4)


def test_a_short_call_comes_after_another_of_its_own(clock):
    log = []
    short, long = (
        Runner(label, clock, {"t": t}, log=log) for label, t in (("short", 0.09), ("long", 2))
    )
    times, _ = rounds.time_in_rounds([short, long], [short], ["t"], rounds=2, seconds=1e6)
    assert [label for label, _ in log] == ["short", "short", "long"] * 2
    assert times["t"][short].shape == times["t"][long].shape == (2, 2)


def test_what_does_not_fit_is_said(clock):
    cheap, dear = {"t": 1.0}, {"t": 30.0}
    first = Runner("single", clock, cheap, warm_up=20)
    others = [Runner("dear", clock, dear, 10), Runner("middle", clock, {"t": 5.0}, 25),
              Runner("late", clock, cheap, 1)]  # fmt: skip
    times, skipped = rounds.time_in_rounds([first, *others], [first], ["t"], 50, seconds=100)
    # 55 s are warm-up, so `late` does not begin; 45 s are left for 3 rounds of 36 s, then of 6 s.
    assert [one.label for one in times["t"]] == ["single", "middle"]
    assert "55 s of 100 s were gone" in skipped[others[2]]
    assert "3 rounds of it take 90 s" in skipped[others[0]] and "45 s" in skipped[others[0]]
    assert len(times["t"][first]) == 8  # after 7 rounds 42 s are gone, after 8 no other begins


@given(
    costs=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), warm_up=st.floats(0, 50),
    seconds=st.floats(0.1, 1000), count=st.integers(1, 9),
)  # fmt: skip
@settings(deadline=None)
def test_nobody_is_dropped_in_silence(costs, warm_up, seconds, count):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "time", clock)
        patch.setattr(rounds, "time", clock)
        all_of_them = [Runner(str(i), clock, {"a": c, "b": c / 2}, warm_up) for i, c in enumerate(costs)]
        baseline = all_of_them[-1]
        times, skipped = rounds.time_in_rounds(all_of_them, [baseline], ["a", "b"], count, seconds)
    assert baseline not in skipped
    for measured in times.values():
        assert set(measured) | set(skipped) == set(all_of_them)
        assert not set(measured) & set(skipped)
        assert {min(count, 3) <= len(values) <= count for values in measured.values()} == {True}


def test_a_model_that_cannot_be_built_is_noted_a_baseline_is_not(clock, raises_line):
    good, bad = Runner("good", clock, {"t": 1.0}), Runner("bad", clock, {"t": 1.0}, error="7 channels")
    times, skipped = rounds.time_in_rounds([good, bad], [good], ["t"], 3, 1e6)
    assert list(times["t"]) == [good] and skipped == {bad: "cannot be built: 7 channels"}
    with raises_line(ValueError, "7 channels"):
        rounds.time_in_rounds([good, bad], [bad], ["t"], 3, 1e6)


@pytest.mark.slow
def test_a_run_is_written_as_json_markdown_and_picture(tmp_path, peer):
    results = benchmark.benchmark(
        TINY, ("packed:gamma=2", "packed", "mimo"), rounds=3, peer="fake", fresh_processes=False,
        directory=tmp_path / "out", command="zoo benchmark here",
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == json.loads(
        json.dumps(results)
    )
    records = {(r["of"], r["label"]): r for r in results["models"]}
    ours = [label for of, label in records if of == "zoo"]
    assert ours == ["single", "packed gamma=2", "packed", "mimo"]
    single = records["zoo", "single"]
    for label in ours:
        record = records["zoo", label]
        for task in ("train", "predict 1", "predict 3"):
            times, base = (np.array(r["tasks"][task]["seconds"]) for r in (record, single))
            assert times.shape == (3, 2) and (times > 0).all()
            expected = np.median(times / base, axis=0)
            np.testing.assert_allclose(record["tasks"][task]["wall_ratio"], expected[0], rtol=0.01)
            np.testing.assert_allclose(record["tasks"][task]["cpu_ratio"], expected[1], rtol=0.01)
    assert [records["zoo", label]["members"] for label in ours] == [1, 4, 4, 3]
    model = from_scratch(["single"], TINY)[0].make()
    assert single["macs"] == counts.macs(model.network)
    assert records["fake", "packed"]["tasks"]["train"]["cpu_ratio"] == pytest.approx(3)
    assert records["fake", "packed"]["tasks"]["train"]["cpu_ms"] == pytest.approx(3)
    assert records["fake", "mimo"]["skipped"] == "cannot be built: fake: no such thing"
    assert ("fake", "unheard of") not in records  # there is none of ours to set it beside

    text = (tmp_path / "out" / "benchmark.md").read_text()
    for line in ("| fake: packed | 4 | 3.00 (3.00) |", "| single | 1 | 1.00 (1.00) |", "fake 7.1",
                 "* fake: mimo: cannot be built", "`zoo benchmark here`", "not measured, see below"):  # fmt: skip
        assert line in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
    assert (tmp_path / "out" / "benchmark.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.slow
def test_published_models_are_measured_with_their_accuracy(tmp_path):
    chosen = Settings("lenet", **SMALL)
    names = {e["name"] for e in registry.index() if e["dataset"] == "mnist" and "lenet" in e["name"]}
    assert {one.name for one in published("mnist", chosen)} == names
    results = benchmark.benchmark(
        chosen, weights="mnist", rounds=1, fresh_processes=False, directory=tmp_path
    )
    assert results["models"][0]["label"] == "single"
    for record in results["models"]:
        entry = next(e for e in registry.entries(record["name"]) if e["dataset"] == "mnist")
        assert record["accuracy"] == entry["metrics"]["mnist"]["accuracy"]
        assert (record["macs"], record["members"]) == (entry["macs"], entry["num_members"])
        assert f"{record['accuracy']:.4f} |" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_a_fresh_process_loads_what_was_written(tmp_path):
    one = from_scratch(["packed"], TINY)[1]
    one.prepare()
    size = fresh_process.write(one, tmp_path / "weights")
    assert size == sum(p.stat().st_size for p in tmp_path.glob("weights/model*"))
    found = fresh_process.measured(one, tmp_path / "weights", TINY)
    assert "fresh_error" not in found
    assert (
        min(found[key] for key in ("keras_s", "zoo_adds_s", "load_s", "inference_mib", "train_mib")) > 0
    )
    imports = fresh_process.imports(
        [found, {**found, "keras_s": found["keras_s"] + 4}, {"fresh_error": "x"}], least=2
    )
    assert imports["keras_s"] == pytest.approx(found["keras_s"] + 2) and imports["processes"] == 2
    (tmp_path / "weights" / "config.json").unlink()
    assert "no config.json" in fresh_process.measured(one, tmp_path / "weights", TINY)["fresh_error"]


def test_peak_memory_is_seen_after_it_was_freed():
    memory = probe.Memory("none")
    memory.restart()
    before = memory.now()
    np.ones(2**26, "uint8").sum()
    assert memory.peak() - before > 60
    memory.restart()
    if probe._status("VmHWM"):
        assert memory.peak() - memory.now() < 30


def test_every_method_and_argument_becomes_a_model():
    labels = [one.label for one in from_scratch(METHODS, TINY)]
    assert labels == [text.replace(":", " ") for text in METHODS]
    models = {
        one.label: one.make() for one in from_scratch(["mimo", "packed:alpha=3:num_members=2"], TINY)
    }
    assert {label: model.num_members for label, model in models.items()} == {
        "single": 1, "mimo": 3, "packed alpha=3 num_members=2": 2,
    }  # fmt: skip
    assert command.chosen(["packed_lenet", "mimo_lenet"]) == ("lenet", ("packed", "mimo"))
    assert command.chosen([]) == ("resnet18", METHODS)


def test_a_peer_that_ends_or_is_not_there_is_told_in_one_line(peer, raises_line):
    with peers.Peer("fake") as one:
        assert [model.label for model in one.models(TINY, 1)][:2] == ["single", "packed"]
    assert one.process.returncode == 0
    peer.write_text("raise SystemExit(3)")
    with peers.Peer("fake") as one, raises_line(ValueError, "fake ended with status 3"):
        one.models(TINY, 1)
    peers.PEERS["fake"]["module"] = "no_such_module_anywhere"
    with raises_line(ValueError, "has no fake; install it: .*-m pip install fake"):
        peers.Peer("fake")
    with raises_line(ValueError, "cannot run /no/python"):
        peers.Peer("fake", "/no/python")


def test_the_peers_script_knows_nothing_of_keras_or_us():
    tree = ast.parse(peers.PEERS["torch-uncertainty"]["script"].read_text())
    names = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {
        "functools", "importlib", "json", "os", "sys", "time", "torch", "torch_uncertainty",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--methods", "packd"], "unknown method 'packd'"),
        (["--methods", "packed:beta=2"], "packed takes num_members, alpha, gamma; got beta"),
        (["--methods", "packed:gamma=0"], "gamma must be an integer >= 1; got 0"),
        (["--methods", "packed:gamma"], "arguments must be like"),
        (["--backbone", "resnet19"], "unknown backbone 'resnet19'"),
        (["--input_shape", "32,32"], "input_shape must be height,width,channels; got 32,32"),
        (["--batch_sizes", "1,0"], "batch sizes must be at least 1; got 1, 0, 64"),
        (["--batch_sizes", "4,4"], "batch sizes must differ; got 4, 4"),
        (["--num_members", "0"], "num_members must be at least 1; got 0"),
        (["--rounds", "0"], "rounds and seconds must be at least 1; got 0 and 900"),
        (
            ["--methods", "masksembles", "--train_batch_size", "2"],
            "batch_size=2 leaves some of 4 members",
        ),
        (["--backbone", "lenet", "--weights", "imagenet"], "no weights of lenet for 'imagenet'"),
        (["--peer", "nobody"], "unknown peer 'nobody'; there are torch-uncertainty"),
        (["--peer", "torch-uncertainty", "--weights", "mnist"], "leave out --peer or --weights"),
        (["--peer", "torch-uncertainty", "--precision", "bfloat16"], "leave out --peer or --precision"),
        (["--precision", "float8"], "precision must be one of float32, bfloat16, float16, float64"),
        (["packed_lenet", "mimo_resnet20"], "models of one backbone; got lenet, resnet20"),
        (["packed_lenet", "--methods", "mimo"], "not both"),
        (["packed_lenett"], "unknown model 'packed_lenett'"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, pattern, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "time_in_rounds", None)  # before anything is measured
    assert cli.main(["benchmark", "--output", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and pattern in said[0]
    assert not (tmp_path / "out").exists()
