"""`zoo doctor`: settings, what is measured in each, and the advice that follows."""

import json

import pytest

from zoo.benchmarking import doctor, doctor_probe

FOUND = {
    "KERAS_BACKEND=tensorflow TF_ENABLE_ONEDNN_OPTS=1": {
        "single": {"train": 100.0, "bfloat16": 150.0, "1": 9.0, "32": 40.0},
        "list": {"train": 90.0, "bfloat16": 130.0, "1": 12.0, "32": 41.0},
        "native": {"train": 70.0, "bfloat16": 80.0, "1": 8.0, "32": 50.0},
    },
    "KERAS_BACKEND=tensorflow TF_ENABLE_ONEDNN_OPTS=0": {
        "single": {"train": 30.0, "bfloat16": None, "1": 2.0, "32": 60.0},
        "list": {"train": 25.0, "bfloat16": 2.0, "1": 3.0, "32": 70.0},
        "native": {"train": 20.0, "bfloat16": 1.0, "1": 4.0, "32": 80.0},
    },
    "KERAS_BACKEND=jax": {"error": "no device"},
}


def test_advice_names_the_best_setting_of_each_purpose():
    training, half, one, many = doctor.advice(FOUND)
    on, off = list(FOUND)[:2]
    assert training == (
        f'training: {on}, packed convolutions "list" (90.0 images/s; single network 100.0)'
    )
    assert half == (
        f'training with --precision=bfloat16: {on}, packed convolutions "list" (130.0 images/s; single '
        "network 150.0)"
    )
    assert one.startswith(f'serving one image: {off}, packed convolutions "list" (3.0 ms')
    assert many.startswith(f'serving 32 images: {on}, packed convolutions "list" (41.0 ms')
    assert doctor.advice({"KERAS_BACKEND=jax": {"error": "no device"}}) == []


def test_bfloat16_is_advised_only_where_it_is_faster():
    without_onednn = {key: forms for key, forms in FOUND.items() if key.endswith("=0")}
    assert not any("bfloat16" in line for line in doctor.advice(without_onednn))


def test_the_report_has_a_row_for_every_network_and_failure():
    lines = doctor.report(FOUND).splitlines()
    assert lines[1].split() == [*next(iter(FOUND)).split(), "single", "100.0", "150.0", "9.0", "40.0"]
    assert lines[4].split()[-3] == "emulated"
    assert lines[7].split(maxsplit=1) == ["KERAS_BACKEND=jax", "failed: no device"]
    assert lines[8] == "" and lines[9:] == doctor.advice(FOUND)


def test_tensorflow_is_tried_with_and_without_onednn(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name != "torch" or None)
    assert [setting.environment() for setting in doctor.settings()] == [
        {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"},
        {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"},
        {"KERAS_BACKEND": "jax"},
    ]


def test_emulated_half_precision_is_not_measured(monkeypatch, capsys):
    """On a processor without it a batch takes half a minute."""
    monkeypatch.setattr(doctor_probe, "_EMULATED", 0)
    request = {
        "backbone": "mlp", "input_shape": [4, 4, 1], "train_batch_size": 2, "forms": ["single"],
        "seconds": 0,
    }  # fmt: skip
    doctor_probe.main(request)
    answer = json.loads(capsys.readouterr().out)
    assert answer["single"].pop("bfloat16") is None and min(answer["single"].values()) > 0


@pytest.mark.slow
def test_every_setting_is_measured(monkeypatch):
    monkeypatch.setattr(doctor, "settings", lambda: [doctor.Setting("tensorflow", "0")])
    said = []
    found = doctor.diagnose(
        "mlp", (8, 8, 1), train_batch_size=4, forms=("list",), seconds=0.0, say=said.append
    )
    assert [line.split(":")[0] for line in said[1:]] == ["  single", "  packed, list"]
    assert said[1].endswith("ms for 32")
    assert set(found) == {"KERAS_BACKEND=tensorflow TF_ENABLE_ONEDNN_OPTS=0"}
    for numbers in next(iter(found.values())).values():
        assert set(numbers) == {"train", "bfloat16", "1", "32"}
        assert all(value > 0 for value in numbers.values() if value is not None)
    failed = doctor.diagnose("no_backbone", (8, 8, 1), seconds=0.0)
    assert all("no_backbone" in answer["error"] for answer in failed.values())
