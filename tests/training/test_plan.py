"""Plans of runs: which can be read, and what they make of a recipe."""

import pathlib

import pytest

from helpers.plans import plan_of
from zoo.training.fill import DEFAULT_PLAN
from zoo.training.plan import read_plan

FIELDS = {"batch_size": 5, "epochs": 40, "learning_rate": 0.01}


def test_the_default_plan_names_recipes_that_exist():
    plan = read_plan(DEFAULT_PLAN)
    assert plan and all(" " not in run.name for run in plan)
    joined = [run for run in plan if run.join]
    for ensemble in joined:  # every network that is joined is trained before
        sources = ensemble.command(pathlib.Path("data"), pathlib.Path("runs"))[3]
        before = {run.name for run in plan[: plan.index(ensemble)]}
        assert {source.rpartition("/")[2] for source in sources.split("=", 1)[1].split(",")} <= before


def test_a_plan_is_one_run_a_seed_with_its_fields(tmp_path):
    runs = read_plan(plan_of(tmp_path))
    assert [run.recipe.seed for run in runs] == [71, 72]
    assert runs[0].name == "mnist_single_mlp-batch_size=5-epochs=40-learning_rate=0.01-71"
    assert all(getattr(runs[1].recipe, key) == value for key, value in FIELDS.items())
    command = runs[0].command(tmp_path / "data", tmp_path)
    assert command[1:3] == ["-m", "zoo.training.train"]
    assert {"--recipe=mnist_single_mlp", "--epochs=40", "--seed=71"} <= set(command)


def test_a_folder_of_weights_is_not_a_folder_in_a_name(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('[[run]]\nrecipe = "mnist_single_mlp"\nseeds = [1]\nweights = "runs/single"\n')
    (run,) = read_plan(path)
    assert run.name == "mnist_single_mlp-weights=runs_single-1" and run.recipe.weights == "runs/single"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("[[run", "is not a plan"),
        ("a = 1", "is not a plan.*'run'.*entries"),
        ("run = []", "is not a plan .*takes .*run.* entries"),
        ("run = 5", "is not a plan .run = 5.*entries"),
        ('[[run]]\nrecipe = "mnist_single_mlp"\nseeds = 3', "seeds and join .* are lists"),
        ("[[run]]\nseeds = [0]", "every .*run.* names a recipe"),
        ('[[run]]\nrecipe = "mnist_single_vgg"', "unknown recipe 'mnist_single_vgg'"),
        ('[[run]]\nrecipe = "mnist_single_mlp"\nepoch = 3', "mnist_single_mlp has no field epoch"),
        (
            '[[run]]\nrecipe = "mnist_single_mlp"\njoin = [0, 1]',
            "join makes a deep_ensemble, not single",
        ),
        ('[[run]]\nrecipe = "mnist_single_mlp"\nseeds = [1, 1]', "mnist_single_mlp-1 more than once"),
    ],
)
def test_plans_that_cannot_be_read(text, pattern, tmp_path, raises_line):
    with raises_line(ValueError, pattern):
        read_plan(plan_of(tmp_path, text))


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"plan\.toml"):
        read_plan(tmp_path / "plan.toml")
