"""The BatchEnsemble study: runs done once, figures that are right, and a report of them."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import roc_auc_score

from zoo import methods, metrics
from zoo.training import marked_sections
from zoo.training.ensembles import task_queue
from zoo.training.studies import diversity_report, diversity_runs, diversity_study

pytestmark = pytest.mark.slow

COMMAND = diversity_study.COMMAND
BEGIN, END = f"<!-- study: made by {COMMAND} -->", "<!-- end of study -->"
SETTINGS = diversity_runs.Settings(members=3, hidden_units=(12, 8), epochs=1, batch_size=24)
NAMES = ("single", "batch_ensemble-split-signs-rank2")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with tiny synthetic `mnist.npz` and `fashion_mnist.npz`."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    for name, brightness in (("mnist", 15), ("fashion_mnist", 5)):
        arrays = {}
        for split, count in (("train", 100), ("test", 50)):
            y = np.arange(count) % 10
            noise = rng.integers(0, 100, (count, 28, 28)) + brightness * y[:, None, None]
            arrays |= {f"x_{split}": noise.astype("uint8"), f"y_{split}": y.astype("uint8")}
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def data(data_dir):
    """The images of a study."""
    return diversity_runs.Data(data_dir, SETTINGS)


@pytest.fixture(scope="module")
def done(data_dir, tmp_path_factory):
    """The folder of a study of two configurations and two seeds, and its summary."""
    folder = tmp_path_factory.mktemp("study")
    return folder, diversity_study.study(data_dir, folder, SETTINGS, 2, NAMES, pause=0.05)


@pytest.fixture
def trained(monkeypatch):
    """Names of the methods trained and their seeds, in order."""
    calls, train = [], diversity_runs.train_mlp

    def counted(method, settings, training, seed):
        calls.append((method.name, seed))
        return train(method, settings, training, seed)

    monkeypatch.setattr(diversity_runs, "train_mlp", counted)
    return calls


def test_the_report_holds_means_and_deviations_of_the_runs(done):
    folder, summary = done
    assert len(list((folder / "runs").iterdir())) == 4
    for name in NAMES:
        runs = [diversity_runs.read(folder, f"{name}-seed{seed}") for seed in range(2)]
        assert runs[0]["figures"] != runs[1]["figures"]  # seeds differ
        for key, given in summary[name]["figures"].items():
            values = [run["figures"][key] for run in runs]
            if None in values:
                assert given is None and name == "single"
            else:
                mean = sum(values) / 2
                assert given == pytest.approx([mean, abs(values[0] - values[1]) / 2**0.5], abs=1e-12)
    assert json.loads((folder / "report.json").read_text())["configurations"] == summary
    mean, deviation = summary["single"]["figures"]["nll"]
    assert f"{mean:.4f} ± {deviation:.4f}" in (folder / "report.md").read_text()
    picture = np.asarray(PIL.Image.open(folder / "diversity.png"))
    assert picture.shape[1] > 1000 and picture.std() > 5


def test_a_second_start_does_only_what_is_missing(done, data_dir, trained):
    folder, summary = done
    assert diversity_study.study(data_dir, folder, SETTINGS, 2, NAMES, pause=0.05) == summary
    assert trained == []
    more = diversity_study.study(data_dir, folder, SETTINGS, 3, NAMES[:1], pause=0.05)
    assert trained == [("single", 2)] and more["single"]["seeds"] == 3


def test_what_a_killed_process_left_is_done_again(data_dir, tmp_path, trained, monkeypatch):
    queue = diversity_study._queue(tmp_path, SETTINGS, 60)
    queue.enqueue_trial({}, user_attrs={"task": "single-seed0"})
    queue.ask()  # the claim of a process that dies before its first sign of life
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "single-seed0.7.tmp").write_text('{"task": "sin')
    monkeypatch.setattr(task_queue, "SILENCE", task_queue.SILENCE * 0)
    summary = diversity_study.study(data_dir, tmp_path, SETTINGS, 1, ("single",), pause=0.05)
    assert trained == [("single", 0)] and summary["single"]["seeds"] == 1


def _softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def test_figures_are_those_of_their_formulas(data):
    method = methods.BatchEnsemble(3, 2, random_sign_init=0.5, fast_weight_lr_multiplier=1.0)
    model, start = diversity_runs.train_mlp(method, SETTINGS, data.training, 5)
    assert abs(start) < 0.1  # products of signs
    figures = diversity_runs.figures_of(model, data.test, data.ood)

    parts = (data.test, data.ood)
    p, q = (_softmax(model.network.predict(of.images, verbose=0).astype("float64")) for of in parts)
    y, mean, choices = data.test.labels, p.mean(axis=1), p.argmax(axis=-1)
    confidence, right = mean.max(axis=-1), mean.argmax(axis=-1) == y
    bins = np.ceil(confidence * 15)
    ece = sum(abs((right - confidence)[bins == b].sum()) for b in range(1, 16)) / len(y)
    pairs = list(itertools.combinations(range(3), 2))
    apart = np.mean([choices[:, i] != choices[:, j] for i, j in pairs])
    information = [_entropy(of.mean(axis=1)) - _entropy(of).mean(axis=1) for of in (p, q)]
    entropies = [_entropy(of.mean(axis=1)) for of in (p, q)]
    foreign = np.repeat([0, 1], 50)
    kls = [(p[:, i] * np.log(p[:, i] / p[:, j])).sum(axis=-1) for a in pairs for i, j in (a, a[::-1])]
    weights = []
    for layer in model.network.layers:
        if hasattr(layer, "kernel"):
            kernel, r, s, bias = map(
                keras.ops.convert_to_numpy, (layer.kernel, layer.r, layer.s, layer.bias)
            )
            own = kernel * sum(r[j, :, :, None] * s[j, :, None, :] for j in range(2))
            weights += [own.reshape(3, -1), bias]
    w = np.concatenate(weights, axis=1).astype("float64")
    norms = np.linalg.norm(w, axis=1)
    expected = {
        "accuracy": right.mean(),
        "member_accuracy": (choices == y[:, None]).mean(),
        "nll": -np.log(mean[np.arange(50), y]).mean(),
        "ece": ece,
        "mutual_information": information[0].mean(),
        "disagreement": apart,
        "normalized_disagreement": apart / (1 - right.mean()),
        "pairwise_kl": np.mean(kls),
        "jensen_gap": (np.log(mean[np.arange(50), y]) - np.log(p[np.arange(50), :, y]).mean(1)).mean(),
        "ood_mutual_information": information[1].mean(),
        "ood_disagreement": np.mean([q[:, i].argmax(-1) != q[:, j].argmax(-1) for i, j in pairs]),
        "ood_auroc_mutual_information": roc_auc_score(foreign, np.concatenate(information)),
        "ood_auroc_entropy": roc_auc_score(foreign, np.concatenate(entropies)),
        "weight_cosine": np.mean([w[i] @ w[j] / norms[i] / norms[j] for i, j in pairs]),
        "weight_distance": np.mean([np.linalg.norm(w[i] - w[j]) for i, j in pairs]) / norms.mean(),
    }
    assert set(figures) == set(expected)
    for key, value in expected.items():
        slack = 1e-3 if "auroc" in key else 1e-6  # ties of float32
        assert figures[key] == pytest.approx(value, rel=1e-4, abs=slack), key


def test_members_that_start_alike_stay_so_unless_batches_are_shared_out(data):
    settings = dataclasses.replace(SETTINGS, epochs=3)
    found = {}
    for mode in diversity_runs.MODES:
        name = diversity_runs.batch_ensemble_name(mode, "ones", 1)
        method = diversity_runs.configurations(3)[name](0)
        model, start = diversity_runs.train_mlp(method, settings, data.training, 0)
        assert int(model.optimizer.iterations) == 3 * (100 // 24) and start == pytest.approx(1)
        found[mode] = diversity_runs.figures_of(model, data.test, data.ood)
    assert found["tile"]["mutual_information"] < 1e-9 < 1e-6 < found["split"]["mutual_information"]
    assert found["tile"]["disagreement"] == 0 and found["tile"]["weight_cosine"] > 1 - 1e-6
    assert found["split"]["weight_cosine"] < 1 - 1e-6


def test_configurations_are_those_of_the_study():
    found = diversity_runs.configurations(4)
    assert len(found) == 34 and next(iter(found)) == "single"
    made = [make(1) for make in found.values()]
    assert len({(type(method), str(methods.serialize(method))) for method in made}) == 34
    assert {method.num_members for method in made} == {1, 4}
    assert all(m.fast_weight_lr_multiplier == 1 for m in made if m.name == "batch_ensemble")
    assert found["mimo"](1) != found["mimo"](2)  # which images are mixed is of the seed


def test_ranks_of_signs_start_at_one_scale():
    sizes = []
    for rank in (1, 7):
        name = diversity_runs.batch_ensemble_name("tile", "signs", rank)
        model = diversity_runs.make(diversity_runs.configurations()[name](0), diversity_runs.Settings())
        kernel = model.network.get_layer("dense1").kernel
        kernels = metrics.member_weights(model)["dense1/kernel"]
        sizes.append(
            np.sqrt(np.square(kernels).mean() / np.square(keras.ops.convert_to_numpy(kernel)).mean())
        )
    assert 0.7 < sizes[1] / sizes[0] < 1.3


def test_shares_of_the_way_to_a_deep_ensemble():
    def of(value):
        return {"figures": {"nll": value and [value, 0.0]}}

    summary = {"single": of(0.1), "packed": of(0.09), "deep_ensemble": of(0.06)}
    assert diversity_report.share(summary, "packed", "nll") == pytest.approx(0.25)
    assert diversity_report.share({**summary, "single": of(None)}, "packed", "nll") == pytest.approx(1.5)
    assert diversity_report.share({"packed": of(0.09)}, "packed", "nll") is None


def test_tables_go_between_the_marks_of_a_document(tmp_path, raises_line):
    path = tmp_path / "study.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        marked_sections.fill(path, COMMAND, {"study": "new"})
    expected = f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert path.read_text() == expected
    path.write_text(f"{END}{BEGIN}")
    with raises_line(ValueError, "must have the lines"):
        marked_sections.check(path, COMMAND, ["study"])


def test_what_cannot_be_run_is_said_before_any_work(done, data_dir, tmp_path, trained, raises_line):
    folder, _ = done

    def start(folder, settings=SETTINGS, names=NAMES, data_dir=data_dir, **options):
        diversity_study.study(data_dir, folder, settings, 1, names, **options)

    with raises_line(ValueError, "'mimi'; the nearest of 34 are mimo"):
        start(tmp_path, names=("mimi",))
    with raises_line(ValueError, "batch_size=101 is more than the 100"):
        start(tmp_path, dataclasses.replace(SETTINGS, batch_size=101))
    with raises_line(ValueError, r"settings \(.* epochs|another settings epochs|epochs \(1, not 2\)"):
        start(folder, dataclasses.replace(SETTINGS, epochs=2))
    with raises_line(FileNotFoundError, "no mnist in"):
        start(tmp_path, data_dir=tmp_path)
    (tmp_path / "study.md").write_text("no marks")
    with raises_line(ValueError, "must have the lines"):
        start(tmp_path, docs=tmp_path / "study.md")
    assert trained == [] and not (tmp_path / "runs").exists()


def test_the_command_with_two_workers(forked_python, data_dir, tmp_path):
    document = tmp_path / "study.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    process = forked_python(
        "-m", "zoo.training.studies.batch_ensemble_diversity", f"--data_dir={data_dir}",
        f"--output_dir={tmp_path / 'out'}", "--workers=2", "--seeds=1", "--epochs=1", "--batch_size=20",
        "--configurations=single,batch_ensemble-tile-ones-rank1", f"--docs={document}",
    )  # fmt: skip
    assert "2 runs, 0 of them finished" in process.stderr
    assert "Traceback" not in (tmp_path / "out" / "worker-1.log").read_text()
    runs = sorted(path.name for path in (tmp_path / "out" / "runs").iterdir())
    assert len(runs) == 2 and all(name.endswith(".json") for name in runs)
    assert "batch_ensemble-tile-ones-rank1" in document.read_text()
    assert "(study.png)" in document.read_text() and (tmp_path / "study.png").is_file()
