"""The `zoo` command, run as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

import zoo
from zoo import cli


def run_zoo(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "zoo.cli", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_every_command_and_argument_has_a_help_text():
    [commands] = (action for action in cli._parser()._actions if isinstance(action.choices, dict))
    assert {action.dest for action in commands._choices_actions if action.help} == set(commands.choices)
    arguments = [
        (name, action) for name, command in commands.choices.items() for action in command._actions
    ]
    assert len(arguments) > 40
    assert not [f"{name} {action.dest}" for name, action in arguments if not action.help]


def test_list_names_every_model_and_its_metrics(tmp_path):
    result = run_zoo("list", cwd=tmp_path)
    assert result.returncode == 0
    for name in zoo.list_models():
        assert name in result.stdout
    for entry in zoo.registry.index():
        assert f"{entry['metrics'][entry['dataset']]['accuracy']:.4f}" in result.stdout


def test_list_filters_by_dataset(tmp_path):
    result = run_zoo("list", "--dataset", "mnist", cwd=tmp_path)
    assert "packed_lenet" in result.stdout
    assert "resnet20" not in result.stdout


def test_card_shows_what_was_measured(tmp_path):
    config = zoo.card("packed_resnet20").config
    result = run_zoo("card", "packed_resnet20", cwd=tmp_path)
    assert result.returncode == 0
    assert f"{config['metrics']['cifar10']['accuracy']:.4f}" in result.stdout
    assert config["command"] in result.stdout
    for record in config["files"].values():
        assert record["sha256"] in result.stdout


def test_card_says_where_no_weights_exist(tmp_path):
    result = run_zoo("card", "packed_wide_resnet28_10", cwd=tmp_path)
    assert result.returncode == 0
    assert "No weights" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("card", "packed_resnet2000"), "packed_resnet20"),
        (("card", "packed_resnet20", "--weights", "imagenet"), "cifar10"),
        (("list", "--method", "dropout"), "packed"),
        (("export", "none.keras", "out"), "none.keras"),
    ],
)
def test_errors_are_one_line(arguments, hint, tmp_path):
    result = run_zoo(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_demo_does_the_main_job(tmp_path):
    result = run_zoo("demo", "--output", "out", "--epochs", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    names = ("packed_resnet20", "single_resnet20")
    rows = {row[0]: [float(value) for value in row[1:]] for row in rows if row[:1] and row[0] in names
            and row[-1].replace(".", "").isdigit()}  # fmt: skip
    accuracy, _, before, after, auroc = rows["packed_resnet20"]
    assert accuracy > 0.9
    assert auroc > 0.8
    assert before != after, "it is calibrated"
    assert "packed_resnet20 " in result.stdout and "95 % interval over 500 digits" in result.stdout
    assert rows["single_resnet20"][0] > 0.9
    for name in (
        "gain.png",
        "sorted_by_uncertainty.png",
        "reliability.png",
        "saved_model/saved_model.pb",
    ):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
    assert "epoch 2/2" in result.stderr


def test_publish_copies_runs_and_rebuilds_index_and_table(tmp_path):
    from zoo.stored_weights import locate
    from zoo.training import publish

    entry = next(e for e in zoo.registry.entries("packed_lenet") if e["dataset"] == "mnist")
    run = locate(entry)
    (tmp_path / "README.md").write_text(
        "before\n<!-- methods: made by zoo.training.publish -->\nold\n<!-- end of methods -->\nafter\n"
    )
    saved_models = tmp_path / "saved_models"
    saved_models.mkdir()
    index = publish.publish([run], saved_models)
    assert [e["folder"] for e in index] == ["packed_lenet-mnist"]
    assert json.loads((saved_models / "index.json").read_text()) == index
    readme = (tmp_path / "README.md").read_text()
    assert "| `packed` |" in readme
    assert "old" not in readme
    assert readme.startswith("before") and readme.endswith("after\n")


def test_digits_and_photos_are_alike_in_form():
    from zoo import demo

    (x, y), (x_held, _), (x_test, _) = demo.digits()
    photos = demo.photo_patches(5)
    assert x.shape[1:] == x_held.shape[1:] == x_test.shape[1:] == photos.shape[1:] == (16, 16, 3)
    assert x.dtype == photos.dtype == np.uint8
    assert (len(x), len(y), len(x_held), len(x_test)) == (997, 997, 300, 500)
    assert x.max() == 255
    rows = {image.tobytes() for image in x} & {image.tobytes() for image in x_test}
    assert len(rows) <= 2, "test images are not training images, except for equal scans"


@pytest.mark.parametrize(("sharper", "verb"), [(2.0, "gained on"), (-1.0, "lost to"), (1.0, "is level")])
def test_the_demo_says_what_the_numbers_say(sharper, verb, tmp_path):
    from zoo import demo

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    logits = rng.normal(size=(400, 1, 10))
    answers = {}
    for name, strength in (("single_lenet", 1.0), ("packed_lenet", sharper)):
        given = logits.copy()
        given[np.arange(200), 0, labels] += 2 * strength
        members = np.exp(given) / np.exp(given).sum(-1, keepdims=True)
        answers[name] = zoo.Prediction(members[:200]), zoo.Prediction(members[200:])
    assert demo.gain("single_lenet", "packed_lenet", answers, labels).startswith(f"packed_lenet {verb}")
    assert demo.draw_gain(answers, labels, tmp_path / "gain.png").stat().st_size > 10_000
