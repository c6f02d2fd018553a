"""`zoo.load` of `.keras` files: whole ones, damaged ones, and those that mean harm."""

import io
import json
import os
import time
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


def test_usual_optimizers_pass(tmp_path):
    optimizers = keras.optimizers
    for optimizer in (
        optimizers.AdamW(weight_decay=1e-4, amsgrad=True, use_ema=True, gradient_accumulation_steps=4),
        optimizers.LossScaleOptimizer(optimizers.SGD(momentum=0.9)), optimizers.Adafactor(), optimizers.Muon(),
        optimizers.Adam(name="adam+wd"),
    ):  # fmt: skip
        model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
        model.compile(optimizer, zoo.losses.CrossEntropy())
        model.save(tmp_path / "model.keras")
        assert type(zoo.load(str(tmp_path / "model.keras")).optimizer) is type(optimizer)


def test_a_compiled_model_within_a_model_loads(tmp_path):
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    inner.compile("adam", "mse")
    model = keras.Sequential([keras.Input((4, 4, 1)), inner, keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(str(tmp_path / "model.keras"))
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), loaded.predict(IMAGES, verbose=0))


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


def _with_mixed_offset(text):
    config = json.loads(text)
    layers = config["config"]["network"]["config"]["layers"]
    next(layer for layer in layers if layer["class_name"] == "Rescaling")["config"]["offset"] = [
        0.0,
        None,
    ]
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


def _compiled(**entries):
    def changed(text):
        config = json.loads(text)
        config["compile_config"] |= entries
        return json.dumps(config)

    return {"config": _config(changed)}


def _with_optimizer(kind, module="keras.optimizers", **arguments):
    return _compiled(optimizer={"module": module, "class_name": kind, "config": arguments})


def _with_layers(count):
    """A sequential model of that many layers, in the place of the classifier."""
    first = {"class_name": "InputLayer", "module": "keras.layers", "config": {"batch_shape": [None, 4]}}
    config = {"layers": [first, *([_layer("Dense", units=3)] * count)]}
    model = {"module": "keras", "class_name": "Sequential", "config": config}
    return {"config": lambda entry: json.dumps(model).encode()}


def _backwards(count):
    """A functional model whose layers come last to first."""
    layers = []
    for index in range(count):
        history = {
            "class_name": "__keras_tensor__",
            "config": {"keras_history": [f"l{index - 1}", 0, 0]},
        }
        node = {"args": [history], "kwargs": {}}
        layers.append({**_layer("ReLU"), "name": f"l{index}", "inbound_nodes": [node] if index else []})
    config = {"layers": layers[::-1], "input_layers": [["l0", 0, 0]], "output_layers": [["l9", 0, 0]]}
    model = {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}
    return {"config": lambda entry: json.dumps(model).encode()}


SLOPE = {"module": "keras.optimizers.schedules", "class_name": "CosineDecay",
         "config": {"initial_learning_rate": 0.1, "decay_steps": 10**30}}  # fmt: skip
ADAM = {"optimizer": {"module": "keras.optimizers", "class_name": "Adam", "config": {}}}


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
    "an unknown optimizer": _with_optimizer("Nothing"),
    "an optimizer of another module": _with_optimizer("system", module="os"),
    "a layer as the optimizer": _with_optimizer("Dense", module="keras.layers", units=3),
    "a learning rate of NaN": _with_optimizer("Adam", learning_rate=float("nan")),
    "a learning rate without end": _with_optimizer("Adam", learning_rate=10**400),
    "steps without end": _with_optimizer("SGD", learning_rate=SLOPE),
    "a pattern that takes for ever": _with_optimizer("Muon", exclude_layers=["(e|e?)+$"]),
    "an optimizer by pattern": _with_optimizer("MultiOptimizer", optimizers=[]),
    "many optimizers": _with("other", [{"compile_config": ADAM}] * 50),
    "very many optimizers": _with("other", [{"compile_config": ADAM}] * 10_000),
    "a list for the compilation": {"config": _config(
        lambda text: json.dumps({**json.loads(text), "compile_config": [1]}))},
    "an unknown entry of the compilation": _compiled(nonsense=1),
    "code as the loss": _compiled(loss={"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}),
    "a function of another module": _compiled(loss={"module": "os", "class_name": "function", "config": "system"}),
    "steps of one call": _compiled(steps_per_execution=10**9),
    "fewer than no steps of one call": _compiled(steps_per_execution=-3),
    "half a step of one call": _compiled(steps_per_execution=1.5),
    "a word for eager": _compiled(run_eagerly="yes"),
    "a word for compiled": _compiled(jit_compile="x"),
    "a list for scaled losses": _compiled(auto_scale_loss=[]),
    "3,000 layers": _with_layers(3000),
    "text among numbers": {"config": _config(lambda text: text.replace('"offset": [-1.0]', '"offset": ["x"]'))},
    "answers that are not finite": {"config": _config(lambda text: text.replace('"max_value": null', '"max_value": NaN'))},
    "an argument of mixed types": {"config": _config(_with_mixed_offset)},
    "3,000 layers last to first": _backwards(3000),
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
    started = time.process_time()
    with raises_line(zoo.WeightsError, "model.keras"):
        zoo.load(str(path))
    assert time.process_time() - started < 20


def test_files_that_are_not_archives_are_refused(content, tmp_path, raises_line):
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
    with raises_line(zoo.WeightsError, "not a regular file"):
        zoo.load(str(path))
