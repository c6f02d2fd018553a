"""`zoo.load` of `.keras` files: whole ones, damaged ones, and those that mean harm."""

import io
import json
import os
import warnings
import zipfile

import keras
import numpy as np
import pytest

import zoo
from zoo.methods import Single

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1)).astype("uint8")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    zoo.build(Single(), "mlp", 3, (4, 4, 1)).save(path)
    return path.read_bytes()


def rewritten(content, **changes):
    """The archive with other entries, its checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            change = changes.get(name.split(".")[0], lambda entry: entry)
            entry = change(old.read(name))
            if entry is not None:
                new.writestr(name, entry)
    return file.getvalue()


def test_a_whole_model_answers_as_before(content, tmp_path, raises_line):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    model = zoo.load(str(path))
    expected = keras.saving.load_model(path).predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), expected)
    assert model.compiled and model.spec["backbone"] == "mlp"
    with raises_line(ValueError, "whole model; load it without other arguments"):
        zoo.load(str(path), num_classes=4)
    with raises_line(FileNotFoundError, "no file .*nowhere.keras"):
        zoo.load(str(tmp_path / "nowhere.keras"))


def test_large_numbers_of_schedules_and_usual_metrics_pass(tmp_path):
    model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10_000_000)
    metrics = ["accuracy", keras.metrics.AUC(num_thresholds=1000), zoo.metrics.NegativeLogLikelihood()]
    model.compile(keras.optimizers.SGD(schedule), zoo.losses.CrossEntropy(), metrics=metrics)
    model.save(tmp_path / "model.keras")
    assert zoo.load(str(tmp_path / "model.keras")).compiled


def test_an_optimizer_without_state_is_not_warned_of_but_all_else_is(content, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    load = keras.saving.load_model

    def warning(*arguments, **options):
        warnings.warn("something else", stacklevel=2)
        return load(*arguments, **options)

    monkeypatch.setattr(keras.saving, "load_model", warning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        zoo.load(str(path))
        assert [str(one.message) for one in caught] == ["something else"]
        load(path)
    assert any("Skipping variable loading" in str(one.message) for one in caught)


@pytest.mark.slow
def test_models_of_keras_alone_load(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.RandomFlip(), keras.layers.Flatten(),
                              keras.layers.Dropout(0.5), keras.layers.Dense(3)])  # fmt: skip
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(str(tmp_path / "model.keras"))
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), loaded.predict(IMAGES, verbose=0))


def _config(change):
    def changed(entry):
        text = entry.decode()
        assert change(text) != text
        return change(text).encode()

    return changed


def _with_lambda(text):
    config = json.loads(text)
    layers = config["config"]["network"]["config"]["layers"]
    dense = next(layer for layer in layers if layer["class_name"] == "Dense")
    dense["class_name"] = "Lambda"
    dense["config"] = {
        "name": dense["name"],
        "function": {"class_name": "__lambda__", "config": {"code": "4wAAAA=="}},
    }
    return json.dumps(config)


def _with_metric(kind, key="metrics", count=1, **arguments):
    def changed(text):
        config = json.loads(text)
        metric = {"module": "keras.metrics", "class_name": kind, "config": arguments}
        config["compile_config"][key] = [metric] * count
        return json.dumps(config)

    return {"config": _config(changed)}


def _with(key, value):
    def changed(text):
        config = json.loads(text)
        config["config"][key] = value
        return json.dumps(config)

    return {"config": _config(changed)}


def _layer(kind, **arguments):
    return {"module": "keras.layers", "class_name": kind, "config": arguments}


HARM = {
    "thresholds": _with_metric("AUC", num_thresholds=20_000_000),
    "weighted thresholds": _with_metric("AUC", "weighted_metrics", num_thresholds=20_000_000),
    "a confusion matrix": _with_metric("MeanIoU", num_classes=30_000),
    "metrics": _with_metric("Mean", count=60_000),
    "a number for calibration": _with("calibration", 5),
    "a wide calibration": _with("calibration", _layer("Dense", units=100_000)),
    "a list for spec": _with("spec", [1]),
    "a word for a method": _with("spec", {"method": "x"}),
    "control characters": _with("class_names", ["a", "b", "\x1b[31mc"]),
    "a larger network": {"config": _config(lambda text: text.replace('"units": 200', '"units": 200000000'))},
    "code": {"config": _config(_with_lambda)},
    "another module": {
        "config": _config(lambda text: text.replace('"module": "keras.layers"', '"module": "os"'))
    },
    "no config": {"config": lambda entry: None},
    "no weights": {"model": lambda entry: None},
    "half the weights": {"model": lambda entry: entry[: len(entry) // 2]},
    "a list": {"config": lambda entry: b"[]"},
    "a layer": {"config": lambda entry: b'{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}'},
    "deep": {"config": lambda entry: b"[" * 10**6},
    "no text": {"config": lambda entry: b"\xff\xfe"},
}  # fmt: skip


@pytest.mark.parametrize("kind", HARM)
def test_files_that_mean_harm_are_refused(kind, content, tmp_path, raises_line):
    path = tmp_path / "model.keras"
    path.write_bytes(rewritten(content, **HARM[kind]))
    with raises_line(zoo.WeightsError, "model.keras"):
        zoo.load(str(path))


def test_files_that_are_no_archive_are_refused(content, tmp_path, raises_line):
    path = tmp_path / "model.keras"
    for damaged in (
        b"",
        b"text",
        content[:1000],
        content[:-10],
        content[:300] + b"\0" * 50 + content[350:],
    ):
        path.write_bytes(damaged)
        with raises_line(zoo.WeightsError, "model.keras"):
            zoo.load(str(path))
    path.unlink()
    os.mkfifo(path)
    with raises_line(zoo.WeightsError, "no plain file"):
        zoo.load(str(path))
