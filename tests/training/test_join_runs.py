"""A deep ensemble of single networks that were trained apart."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import zoo
from zoo.training import recipes
from zoo.training.join_runs import join_runs
from zoo.training.loop import run


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Two single LeNets of different seeds."""
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        recipe = dataclasses.replace(
            recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=8, seed=seed
        )
        run.train(recipe, data_dir, folder, command="a command")
    return folders


@pytest.mark.slow
def test_the_ensemble_is_the_mean_of_its_runs(runs, data_dir, images, tmp_path):
    config = join_runs(runs, data_dir, tmp_path)
    model = zoo.load("deep_ensemble_lenet", weights=tmp_path)
    singles = [zoo.load("single_lenet", weights=folder) for folder in runs]
    big = np.kron(images, np.ones((1, 2, 2, 1), "uint8"))
    expected = np.mean([zoo.predict(single, big).probabilities for single in singles], axis=0)
    np.testing.assert_allclose(zoo.predict(model, big).probabilities, expected, atol=1e-3)
    parts = [json.loads((folder / "config.json").read_text()) for folder in runs]
    assert config["num_members"] == 2 and config["name"] == "deep_ensemble_lenet"
    assert config["seconds"] == sum(part["seconds"] for part in parts)
    assert config["flops"] == sum(part["flops"] for part in parts)
    assert len(config["joined"]) == 2 and config["parameters"] == 2 * parts[0]["parameters"]


def test_no_runs_make_no_ensemble(data_dir, tmp_path, raises_line):
    with raises_line(ValueError, "runs must be one or more folders .*; got none"):
        join_runs([], data_dir, tmp_path)


@pytest.mark.slow
def test_runs_that_do_not_belong_together_are_refused(runs, trained, data_dir, tmp_path, raises_line):
    with raises_line(ValueError, r"different seeds; got \[0, 0\]"):
        join_runs([runs[0], runs[0]], data_dir, tmp_path / "out")
    with raises_line(ValueError, "single networks"):
        join_runs([runs[0], trained], data_dir, tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = json.loads((other / "config.json").read_text())
    config["recipe"]["epochs"] = 2
    (other / "config.json").write_text(json.dumps(config))
    with raises_line(ValueError, "seeds alone"):
        join_runs([runs[0], other], data_dir, tmp_path / "out")
    with raises_line(FileNotFoundError, "config.json"):
        join_runs([tmp_path / "nowhere"], data_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()
