"""`zoo evaluate`: figures against scikit-learn, the cache, the report in a real browser, bad input."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import zoo
from zoo.evaluation import corruptions, subjects
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.figures import FIGURES, calibrated_figures, curves, figures
from zoo.evaluation.page import figures_table
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
    with pytest.MonkeyPatch.context() as patch:
        everything = corruptions.corruptions
        patch.setattr(
            corruptions,
            "corruptions",
            lambda images: everything(images, ("fog", "contrast"), (1, 2, 3, 4, 5)),
        )
        return folder, evaluate(NAMES, "mnist", data, folder, corrupted=4, progress=False)


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
    assert results["models"]["single_lenet"]["figures"]["disagreement"] is None
    assert results["models"]["packed_lenet"]["figures"]["disagreement"] > 0


def test_missing_sets_are_named_in_every_form_of_the_report(report):
    folder, results = report
    assert set(results["missing"]) == {"cifar10", "svhn_cropped"}
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(results))
    for file in ("report.md", "report.html"):
        text = (folder / file).read_text()
        assert "svhn_cropped was not evaluated" in text and "packed_lenet" in text


def test_predictions_are_made_once_and_another_model_costs_its_own(report, data, monkeypatch, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(report[0], folder)
    loaded = []
    load = zoo.loading.load
    monkeypatch.setattr(
        "zoo.loading.load", lambda name, **more: (loaded.append(name), load(name, **more))[1]
    )
    again = evaluate(NAMES[:1], "mnist", data, folder, corrupted=0, progress=False)
    assert not loaded
    assert again["models"]["single_lenet"]["figures"] == report[1]["models"]["single_lenet"]["figures"]
    cached = next((folder / "cache").rglob("*.npy"))
    cached.write_bytes(cached.read_bytes()[:100])  # cut off
    evaluate(NAMES, "mnist", data, folder, corrupted=0, progress=False)
    assert len(loaded) <= 1


def test_calibration_is_cross_fitted_and_helps_where_it_can():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 1, 5)) * 2
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.array([rng.choice(5, p=row[0]) for row in p])
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(-1, keepdims=True)
    scaled = calibrated_figures(Prediction(sharp), labels)
    assert scaled["temperature"] == pytest.approx(3, rel=0.1)
    assert scaled["ece"] < 0.03 < figures(Prediction(sharp), labels)["ece"]
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
    assert list(shown) == list(FIGURES)
    assert all(np.isfinite(value) for value in shown.values())


def test_the_best_of_a_column_is_marked_and_names_are_escaped():
    html = figures_table(
        "t", ["model", "x", "y"], [("<a>", [1.0, 2.0]), ("b", [3.0, None])], ["down", "up"]
    )
    assert "<a>" not in html and html.count('class="best"') == 1
    assert '<td class="best">1.0000</td>' in html


def test_the_page_needs_no_network(report):
    text = (report[0] / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "<script" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert text.count("<figure>") == text.count('role="img"') == text.count("<details>")


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_sideways_scrolling(width, report, tmp_path):
    probe = (report[0] / "report.html").read_text().replace(
        "</body>",
        "<script>document.title = JSON.stringify({"
        "over: document.documentElement.scrollWidth - window.innerWidth,"
        "charts: [...document.querySelectorAll('figure svg[role=img]')]"
        ".filter(s => s.getBoundingClientRect().width > 100).length,"
        "cut: [...document.querySelectorAll('figure svg text')].filter(t => {"
        "const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();"
        "return a.left < b.left - 2 || a.right > b.right + 2}).length,"
        "tables: document.querySelectorAll('main > section > .scroll table').length})</script></body>",
    )  # fmt: skip
    page = tmp_path / "probe.html"
    page.write_text(probe)
    dom = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    seen = json.loads(re.search(r"<title>(.*?)</title>", dom).group(1))
    assert seen["over"] <= 0 and seen["cut"] == 0
    assert seen["charts"] == probe.count("<figure>") and seen["tables"] >= 6


@pytest.mark.parametrize(
    ("names", "dataset", "options", "error", "pattern"),
    [
        (NAMES, "svhn", {}, ValueError, "unknown data set 'svhn'; there are cifar10"),
        (["single_lenett"], "mnist", {}, ValueError, "single_lenet"),
        (["single_lenet", "single_lenet"], "mnist", {}, ValueError, "named twice"),
        ([], "mnist", {}, ValueError, "at least one"),
        (NAMES, "mnist", {"corrupted": -1}, ValueError, "-1"),
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


def test_images_of_another_shape_are_refused(tmp_path, raises_line):
    images = np.zeros((3, 32, 32, 3), "uint8")
    np.savez(tmp_path / "mnist.npz", x_test=images, y_test=[0, 1, 2])
    with raises_line(ValueError, r"single_lenet takes images \(28, 28, 1\).*\(32, 32, 3\)"):
        evaluate(["single_lenet"], "mnist", tmp_path, tmp_path / "report", progress=False)


def test_a_run_that_was_trained_on_other_data_is_refused(tmp_path, raises_line):
    folder = zoo.registry.home() / "single_lenet-mnist"
    with raises_line(ValueError, "trained on mnist, not on cifar10"):
        subjects.subjects([folder], "cifar10", tmp_path)
