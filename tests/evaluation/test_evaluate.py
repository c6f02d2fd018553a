"""`zoo evaluate`: figures against scikit-learn, the cache, deep-ensemble equivalents, bad input."""

import json
import math
import shutil
import types

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import zoo
from zoo.evaluation import cached_models
from zoo.evaluation.equivalents import equivalents
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.ood import ood_sets
from zoo.evaluation.scores import SCORES, calibrated_scores, curves, scores
from zoo.uncertainty import Prediction

NAMES = ["single_lenet", "packed_lenet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 40 images as MNIST's test split and 30 as Fashion-MNIST's; no CIFAR-10, no SVHN."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in (("mnist", 40), ("fashion_mnist", 30)):
        images = rng.integers(0, 256, (count, 28, 28, 1), "uint8")
        np.savez(folder / f"{name}.npz", x_test=images, y_test=np.arange(count) % 10)
    return folder


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    """(folder, results) of two models with two kinds of corruption."""
    folder = tmp_path_factory.mktemp("report")
    kinds = ("fog", "contrast")
    options = {"corrupted": 4, "progress": False, "rounds": 1, "kinds": kinds}
    return folder, evaluate(NAMES, "mnist", data, folder, **options)


@pytest.mark.slow
def test_figures_are_scikit_learns(report, data):
    _, results = report
    with np.load(data / "mnist.npz") as mnist, np.load(data / "fashion_mnist.npz") as foreign:
        labels, images, others = mnist["y_test"], mnist["x_test"], foreign["x_test"]
    for name in NAMES:
        model = zoo.load(name, weights="mnist")
        inside, outside = zoo.predict(model, images), zoo.predict(model, others)
        shown = results["models"][name]
        p = inside.probabilities
        assert shown["figures"]["accuracy"] == pytest.approx(accuracy_score(labels, p.argmax(-1)))
        assert shown["figures"]["nll"] == pytest.approx(log_loss(labels, p, labels=range(10)), rel=1e-4)
        entropy = np.r_[inside.entropy, outside.entropy]
        auroc = roc_auc_score(np.arange(70) >= 40, entropy)
        assert shown["ood"][0]["name"] == "fashion_mnist"
        assert shown["ood"][0]["scores"]["entropy"]["auroc"] == pytest.approx(auroc, abs=1e-3)
        assert [len(rows) for rows in shown["corruptions"].values()] == [5, 5]
        by_hand = {
            kind: np.mean([one["nll"] for one in rows]) for kind, rows in shown["corruptions"].items()
        }
        assert shown["corruption_means"]["nll"]["kinds"] == pytest.approx(by_hand)
        assert shown["corruption_means"]["nll"]["mean"] == pytest.approx(np.mean(list(by_hand.values())))
    assert results["models"]["single_lenet"]["figures"]["disagreement"] is None
    assert results["models"]["packed_lenet"]["figures"]["disagreement"] > 0


def test_missing_sets_are_named_in_every_form_of_the_report(report):
    folder, results = report
    assert set(results["missing"]) == {"cifar10", "svhn_cropped"}
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(results))
    for file in ("report.md", "report.html"):
        text = (folder / file).read_text()
        assert "svhn_cropped was not evaluated: no svhn_cropped in the data folder" in text
        assert "deep-ensemble equivalent of the lenet models: deep_ensemble_lenet not among" in text
        assert "packed_lenet" in text and str(folder) not in text and str(folder.parent) not in text


@pytest.mark.slow
def test_predictions_are_made_once_and_another_model_costs_its_own(report, data, monkeypatch, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(report[0], folder)
    loaded = []
    load = zoo.loading.load
    monkeypatch.setattr(
        "zoo.loading.load", lambda name, **more: (loaded.append(name), load(name, **more))[1]
    )
    again = evaluate(NAMES[:1], "mnist", data, folder, corrupted=0, rounds=0, progress=False)
    assert not loaded
    assert again["models"]["single_lenet"]["figures"] == report[1]["models"]["single_lenet"]["figures"]
    cached = next((folder / "cache").rglob("*.npy"))
    cached.write_bytes(cached.read_bytes()[:100])  # cut off
    evaluate(NAMES, "mnist", data, folder, corrupted=0, rounds=0, progress=False)
    assert len(loaded) <= 1


@pytest.mark.slow
def test_calibration_is_cross_fitted_and_helps_where_it_can():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 1, 5)) * 2
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.array([rng.choice(5, p=row[0]) for row in p])
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(-1, keepdims=True)
    scaled = calibrated_scores(Prediction(sharp), labels)
    assert scaled["temperature"] == pytest.approx(3, rel=0.1)
    assert scaled["ece"] < 0.03 < scores(Prediction(sharp), labels)["ece"]
    assert scaled["nll"] == pytest.approx(log_loss(labels, p[:, 0]), rel=0.02)


def test_curves_of_a_case_by_hand():
    members = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.8, 0.2], [0.2, 0.8]], [[0.3, 0.7], [0.1, 0.9]]])
    drawn = curves(Prediction(members), np.array([0, 1, 1]))
    coverage, risk = drawn["risk_coverage"]
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0, 0, 1 / 3])  # 0.9, 0.8, then the tie that chooses class 0
    assert drawn["disagreement"] == [[0, pytest.approx(1 / 3)], [pytest.approx(1 / 3), 0]]


def test_every_figure_has_a_value(report):
    shown = report[1]["models"]["packed_lenet"]["figures"]
    assert list(shown) == list(SCORES)
    assert all(np.isfinite(value) for value in shown.values())


def test_equivalents_are_interpolated_between_deep_ensembles():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(600, 1, 3)) * 2
    logits = truth + rng.normal(size=(600, 3, 3)) * 1.5
    members = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.array([rng.choice(3, p=np.exp(row[0]) / np.exp(row[0]).sum()) for row in truth])
    predictions = {"s": Prediction(members[:, :1]), "d": Prediction(members)}
    scaled = {label: calibrated_scores(given, labels) for label, given in predictions.items()}
    two = calibrated_scores(Prediction(members[:, :2]), labels)["nll"]
    one, three = scaled["s"]["nll"], scaled["d"]["nll"]
    assert one > two > three
    for label, nll in (("between", (two + three) / 2), ("better", three - 0.1), ("other", 9.0)):
        predictions[label], scaled[label] = predictions["s"], {"nll": nll}
    models = [_find_model("s", "single"), _find_model("d", "deep_ensemble"), _find_model("between", "packed"),
              _find_model("better", "hyper_deep"), _find_model("other", "single", "mlp")]  # fmt: skip
    worth, missing = equivalents(models, predictions, scaled, labels)
    assert worth == {
        "s": {"networks": 1, "of": 3},
        "d": {"networks": 3, "of": 3},
        "between": {"networks": pytest.approx(2.5), "of": 3},
        "better": {"networks": None, "of": 3},
        "other": None,
    }
    assert missing == {"mlp": "deep_ensemble_mlp not among the models"}
    worth, missing = equivalents(models[2:4], {m.label: None for m in models[2:4]}, scaled, labels)
    assert set(worth.values()) == {None}
    assert missing == {"lenet": "single_lenet and deep_ensemble_lenet not among the models"}
    few = {label: {"nll": None} for label in "sd"}
    assert "too few" in equivalents(models[:2], {"s": None, "d": None}, few, labels)[1]["lenet"]


def _find_model(label, method, backbone="lenet"):
    spec = {"method": {"name": method}, "backbone": backbone}
    return types.SimpleNamespace(label=label, config={"spec": spec})


@pytest.mark.parametrize(
    ("names", "dataset", "options", "error", "pattern"),
    [
        (NAMES, "svhn", {}, ValueError, "unknown data set 'svhn'; there are cifar10"),
        (
            ["singel_lenet"],
            "mnist",
            {},
            ValueError,
            "unknown model 'singel_lenet'; nearest: single_lenet",
        ),
        (["single_wide_resnet28_10"], "mnist", {}, ValueError, "no weights of single_wide_resnet28_10"),
        (["single_lenet", "single_lenet"], "mnist", {}, ValueError, "named twice"),
        ([], "mnist", {}, ValueError, "at least one"),
        (NAMES, "mnist", {"corrupted": -1}, ValueError, "-1"),
        (NAMES, "mnist", {"rounds": -2}, ValueError, "rounds.*-2"),
        (NAMES, "mnist", {"kinds": ("fog", "rain")}, ValueError, "rain.*gaussian_noise"),
        (NAMES, "mnist", {"kinds": ()}, ValueError, "corrupted=0"),
        (["hyper_deep_lenet"], "mnist", {}, ValueError, "hyper_deep_lenet has no weights='mnist'"),
        (NAMES, "cifar10", {}, FileNotFoundError, "no cifar10"),
        (["runs/nothing"], "mnist", {}, FileNotFoundError, "runs/nothing"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    names, dataset, options, error, pattern, data, tmp_path, raises_line
):
    with raises_line(error, pattern):
        evaluate(names, dataset, data, tmp_path / "report", progress=False, **options)
    assert not (tmp_path / "report").exists()


def test_a_folder_that_does_not_exist_is_refused(tmp_path, raises_line):
    with raises_line(FileNotFoundError, "no folder .*nowhere"):
        evaluate(NAMES, "mnist", tmp_path / "nowhere", tmp_path / "report", progress=False)


def test_a_report_on_top_of_a_file_is_refused(data, tmp_path, raises_line):
    (tmp_path / "report").write_text("mine")
    with raises_line(ValueError, "report is not a folder"):
        evaluate(NAMES, "mnist", data, tmp_path / "report", progress=False)
    assert (tmp_path / "report").read_text() == "mine"


def test_damaged_files_are_refused_or_named(data, tmp_path, raises_line):
    for name in ("mnist", "fashion_mnist"):
        (tmp_path / f"{name}.npz").write_bytes(b"PK damaged")
    with raises_line(ValueError, "mnist.npz is not a complete data set"):
        evaluate(NAMES, "mnist", tmp_path, tmp_path / "report", progress=False)
    [near, *_] = ood_sets("mnist", (28, 28, 1), tmp_path)
    assert (
        near.images is None
        and "fashion_mnist.npz" in near.missing
        and "not a complete data set" in near.missing
    )


@pytest.mark.parametrize(
    ("images", "labels", "pattern"),
    [
        (
            np.zeros((3, 32, 32, 3), "uint8"),
            [0, 1, 2],
            r"single_lenet takes images \(28, 28, 1\).*\(32, 32, 3\)",
        ),
        (np.zeros((0, 28, 28, 1), "uint8"), [], "0 images and 0 labels"),
        (np.zeros((3, 28, 28, 1), "uint8"), [0, 1], "3 images and 2 labels"),
        (np.zeros((3, 28, 28, 1), "uint8"), [0, 1, 10], "10 classes; the labels go to 10"),
        (np.zeros((3, 28, 28, 1), "uint8"), [0, 1, -1], "labels must be >= 0.*-1"),
        (np.zeros((3, 28, 28, 1), "uint8"), ["a", "b", "c"], "not a complete data set.*'a'"),
        (np.full((3, 28, 28, 1), math.nan), [0, 1, 2], "uint8.*float64"),
    ],
)
def test_test_splits_that_do_not_fit_are_refused(images, labels, pattern, tmp_path, raises_line):
    np.savez(tmp_path / "mnist.npz", x_test=images, y_test=np.array(labels))
    with raises_line(ValueError, pattern):
        evaluate(["single_lenet"], "mnist", tmp_path, tmp_path / "report", progress=False)
    assert not (tmp_path / "report").exists()


def test_a_run_that_was_trained_on_other_data_is_refused(tmp_path, raises_line):
    folder = zoo.registry.home() / "single_lenet-mnist"
    with raises_line(ValueError, "trained on mnist, not on cifar10"):
        cached_models.find_models([folder], "cifar10", tmp_path)
