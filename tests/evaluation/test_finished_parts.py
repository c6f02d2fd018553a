"""`zoo evaluate` of a model that is always right, and of one part that fails; names that are HTML."""

import json

import numpy as np
import pytest

import zoo
from zoo.evaluation import evaluate as evaluation
from zoo.evaluation.evaluate import Evidence, evaluate, finite
from zoo.evaluation.report import write_html

OPTIONS = {"corrupted": 2, "progress": False, "kinds": ("fog",)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 20 images as MNIST's test split, whose labels are what a model says."""
    folder = tmp_path_factory.mktemp("data")
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), "uint8")
    labels = zoo.predict(zoo.load("packed_lenet", weights="mnist"), images).labels
    np.savez(folder / "mnist.npz", x_test=images, y_test=labels)
    return folder


@pytest.fixture(scope="module")
def perfect(data, tmp_path_factory):
    """(folder, results) of a model that is always right."""
    folder = tmp_path_factory.mktemp("report")
    return folder, evaluate(["packed_lenet"], "mnist", data, folder, rounds=0, **OPTIONS)


@pytest.mark.slow
def test_a_model_that_is_always_right(perfect):
    folder, results = perfect
    figures = results["models"]["packed_lenet"]["figures"]
    assert figures["accuracy"] == 1 and None in figures.values()
    written = json.loads((folder / "report.json").read_text())
    assert written["models"]["packed_lenet"]["figures"] == figures
    assert "nan" not in (folder / "report.md").read_text().lower().split()
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_finished_parts_are_kept(data, tmp_path, monkeypatch, raises_line):
    def fail(*arguments):
        raise RuntimeError("the clock\nstopped")

    monkeypatch.setattr(evaluation, "_latencies", fail)
    with raises_line(ValueError, "latency failed .*the clock stopped.* has all other parts"):
        evaluate(["packed_lenet"], "mnist", data, tmp_path, rounds=1, **OPTIONS)
    model = json.loads((tmp_path / "report.json").read_text())["models"]["packed_lenet"]
    assert model["figures"]["accuracy"] == 1 and len(model["corruptions"]["fog"]) == 5
    assert model["latency"] == {} and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_all_forms_of_the_report_are_written_without_corruptions(
    data, tmp_path, monkeypatch, raises_line
):
    def fail(*arguments):
        raise OSError("disc full")

    monkeypatch.setattr(evaluation, "_corrupted", fail)
    with raises_line(ValueError, "^corruptions failed .disc full.; .* has all other parts"):
        evaluate(["packed_lenet"], "mnist", data, tmp_path, rounds=0, **OPTIONS)
    for name in ("report.md", "report.html"):
        assert "accuracy" in (tmp_path / name).read_text() and "fog" not in (tmp_path / name).read_text()


def test_names_are_escaped_in_html(perfect, data, tmp_path):
    _, results = perfect
    name = '<script>alert("1")</script>'
    results = {**results, "models": {name: results["models"]["packed_lenet"]}, "dataset": "<b>mnist"}
    with np.load(data / "mnist.npz") as found:
        images, labels = found["x_test"], found["y_test"]
    prediction = zoo.predict(zoo.load("packed_lenet", weights="mnist"), images)
    evidence = Evidence(images, labels, {name: prediction}, {name: {}})
    write_html(results, evidence, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "<b>mnist" not in page and "&lt;script&gt;" in page


def test_finite():
    assert finite({"a": (1, np.float64("nan")), "b": [-np.inf, "x", True]}) == {
        "a": [1, None],
        "b": [None, "x", True],
    }
