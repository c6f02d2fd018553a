"""Commands with wrong arguments, hostile or missing files: one line, status 2, no traceback."""

import json
import os

import keras
import numpy as np
import pytest

from zoo import cli, command_errors, registry
from zoo.benchmarking import doctor


def run(capsys, *arguments):
    """(status, standard error) of a command, in this process."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err


FOLDER = "packed_lenet-mnist"


def _without(key):
    config = json.loads((registry.home() / FOLDER / "config.json").read_text())
    config.pop(key)
    return json.dumps(config)


CONFIGS = {
    "empty": "", "page": "<html>", "list": "[]", "deep": "[" * 100_000, "NaN": '{"spec": NaN}', "no spec": _without("spec"),
    "no recipe": _without("recipe"), "no metrics": _without("metrics"), "no files": _without("files"),
    "metrics of text": _without("metrics")[:-1] + ', "metrics": "x"}',
    "recipe of a list": _without("recipe")[:-1] + ', "recipe": [1]}',
    "an escape": _without("command")[:-1] + ', "command": "\\u001b[2J"}',
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_cards_of_damaged_folders(kind, tmp_path, capsys):
    (tmp_path / "config.json").write_text(CONFIGS[kind])
    status, said = run(capsys, "card", "packed_lenet", "--weights", tmp_path)
    assert status == 2 and said.startswith("zoo: ") and len(said.splitlines()) == 1
    assert "config.json" in said


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sing",),
        ("list", "--method"),
        ("list", "--method", "a\nb"),
        ("card",),
        ("card", ""),
        ("card", "../../etc/passwd"),
        ("card", "packed_lenet", "--weights", "/dev/null"),
        ("card", "packed_lenet", "--weights", "/nowhere/at/all"),
        ("card", "packed_lenet", "--weights", "x" * 5000),
        ("card", "packed_lenet", "--weights", "/" + "x" * 5000),
        ("export", "nowhere.keras", "out"),
        ("export", "packed_lenet", "out", "--format", "exe"),
        ("export", "packed_lenet", "out", "--weights", "imagenet"),
        ("demo", "--epochs", "many"),
        ("doctor", "--input_shape", "a,b"),
        ("benchmark", "--rounds", "9" * 5000),
        ("benchmark", "--methods", ","),
    ],
)
def test_wrong_arguments(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, *arguments)
    assert status == 2 and said.startswith("zoo: ") and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_files_for_export_that_are_none(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "folder.keras").mkdir()
    for path in tmp_path.iterdir():
        status, said = run(capsys, "export", path, tmp_path / "out")
        assert status == 2 and path.name in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("command", ["predict", "app", "export"])
def test_models_that_are_not_ensembles_are_told_of_convert(command, tmp_path, capsys):
    path = tmp_path / "plain.keras"
    keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(path)
    status, said = run(capsys, command, path, tmp_path)
    assert status == 2 and said == (
        f"zoo: {path} must hold an EnsembleClassifier; got Sequential: zoo.convert makes one of a Keras "
        "model\n"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--input_shape", "0,0,0"), ("--input_shape", "8,8"), ("--train_batch_size", "0"),
        ("--seconds", "nan"), ("--seconds", "0"), ("--seconds", "-1"), ("--seconds", "inf"),
    ],
)  # fmt: skip
def test_what_the_doctor_cannot_measure_is_refused(option, value, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "diagnose", None)
    status, said = run(capsys, "doctor", f"{option}={value}")
    assert status == 2 and said.startswith(f"zoo: {option} must be ") and said.endswith(f"got {value}\n")


def test_images_for_int8_that_are_none(tmp_path, raises_line):
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "empty.npy").touch()
    header = b"\x93NUMPY\x01\x00\x4a\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 8, 8, 1)}\n"
    (tmp_path / "huge.npy").write_bytes(header.ljust(400))
    for path in tmp_path.iterdir():
        with raises_line(ValueError, path.name):
            cli._images(str(path))
    np.save(tmp_path / "good.npy", np.ones((300, 4, 4)))
    assert cli._images(str(tmp_path / "good.npy")).shape == (200, 4, 4, 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("plain"), "zoo: plain\n"),
        (ValueError(""), "zoo: ValueError; ZOO_TRACEBACK=1 shows where\n"),
        (PermissionError(13, "Permission denied", "/x"), "zoo: [Errno 13] Permission denied: '/x'\n"),
        (KeyError("sha256"), "zoo: KeyError: 'sha256'; ZOO_TRACEBACK=1 shows where\n"),
        (RuntimeError("two\nlines"), "zoo: RuntimeError: two lines; ZOO_TRACEBACK=1 shows where\n"),
        (ValueError("\x1b[2J"), "zoo: ValueError: [2J; ZOO_TRACEBACK=1 shows where\n"),
    ],
)
def test_any_error_is_one_line(error, said, capsys, monkeypatch):
    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    assert command_errors.report(error) == 2
    assert capsys.readouterr().err == said
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    command_errors.report(error)
    assert len(capsys.readouterr().err.splitlines()) > 1


def test_warnings_are_one_line(capsys):
    command_errors.show_warning(UserWarning("two\nlines"), UserWarning, "file", 3)
    assert capsys.readouterr().err == "zoo: warning: two lines\n"
    assert command_errors.report(KeyboardInterrupt()) == 130
