"""Hyper-deep ensembles: the search from end to end, stopped, shared, taken up again, and refused."""

import dataclasses
import json
import signal
import time

import numpy as np
import optuna
import pytest

import zoo
from helpers import forks
from zoo.training import recipes
from zoo.training.ensembles import hyper_deep_search, search_space
from zoo.training.ensembles.greedy_selection import greedy_selection
from zoo.training.ensembles.hyper_deep_search import SearchOptions
from zoo.training.ensembles.network_store import NetworkStore, name_of
from zoo.training.loop import from_recipe, run

OPTIONS = SearchOptions(trials=3, members=2, tune=("l2", "label_smoothing", "dropout"))


def search_ensemble(*arguments, **options):
    """Without compiling, which takes longer than these few steps."""
    options = {"compile_options": {"run_eagerly": True}, **options}
    return hyper_deep_search.search_ensemble(*arguments, **options)


@pytest.fixture(scope="module")
def recipe():
    return dataclasses.replace(
        recipes.recipe("mnist_single_mlp"), epochs=1, batch_size=20, shift=0, held_out=0.2, seed=5
    )


@pytest.fixture(scope="module")
def finished(recipe, mnist, tmp_path_factory):
    """(folder, config) of a search that nobody interrupted."""
    folder = tmp_path_factory.mktemp("search")
    return folder, search_ensemble(recipe, mnist, folder, OPTIONS, command="made by a test")


@pytest.fixture
def trained(monkeypatch):
    """Names of the networks whose training begins while the test runs; no pictures, they take a second."""
    monkeypatch.setattr(hyper_deep_search, "draw_search", lambda *arguments: None)
    names, train = [], NetworkStore._train_and_keep
    monkeypatch.setattr(
        NetworkStore,
        "_train_and_keep",
        lambda self, name, *arguments: (names.append(name), train(self, name, *arguments))[1],
    )
    return names


def held_out(folder, name):
    return np.load(folder / "networks" / name / "held_out.npy")


@pytest.mark.slow
def test_the_ensemble_is_that_of_the_two_selections(finished, recipe, mnist):
    folder, config = finished
    labels = from_recipe.load_splits(recipe, mnist)[0][1].labels
    assert config == json.loads((folder / "config.json").read_text())
    details = config["hyper_deep"]

    tried = [name_of(index, 0) for index in range(3)]
    first = [tried[i] for i in greedy_selection([held_out(folder, n) for n in tried], labels, 2)[0]]
    again = [f"{name.split('_')[0]}_s{seed}" for name in sorted(set(first)) for seed in (0, 1)]
    indices, path = greedy_selection([held_out(folder, n) for n in again], labels, 2)
    assert details["chosen_in_search"] == first
    assert details["chosen"] == [again[index] for index in indices]
    assert details["held_out_nll"] == path
    networks = {p.name for p in (folder / "networks").iterdir()}
    assert networks == {*tried, *again} and details["networks_trained"] == len(networks)
    assert config["held_out"]["nll"] == pytest.approx(path[-1], abs=2e-3)  # kernels are float16 by now
    assert config["spec"]["method"] == {"name": "hyper_deep", "num_members": len(indices)}
    assert config["recipe"]["method"] == "hyper_deep" and config["command"].endswith("made by a test")
    assert not list(folder.rglob("checkpoint*"))
    assert (folder / "search.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_ensemble_answers_with_the_mean_of_the_chosen(finished, recipe, mnist):
    folder, config = finished
    images = from_recipe.load_splits(recipe, mnist)[0][1].images
    model = zoo.load("hyper_deep_mlp", weights=folder)
    given = zoo.predict(model, images).members
    expected = np.stack([held_out(folder, name) for name in config["hyper_deep"]["chosen"]], axis=1)
    np.testing.assert_allclose(given, expected, atol=5e-3)


@pytest.mark.slow
def test_members_are_repeated_as_often_as_they_are_chosen(
    finished, recipe, mnist, trained, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        hyper_deep_search, "greedy_selection", lambda p, labels, members: ([0, 1, 0], [3.0, 2.0, 1.0])
    )
    copy_of(finished[0], tmp_path)
    config = search_ensemble(recipe, mnist, tmp_path, OPTIONS)
    assert config["num_members"] == 3 and config["hyper_deep"]["chosen"] == [
        "c000_s0",
        "c000_s1",
        "c000_s0",
    ]
    images = from_recipe.load_splits(recipe, mnist)[0][1].images
    members = zoo.predict(zoo.load("hyper_deep_mlp", weights=tmp_path), images).members
    np.testing.assert_allclose(members[:, 0], members[:, 2], atol=1e-6)
    assert abs(members[:, 0] - members[:, 1]).max() > 1e-3


@pytest.mark.slow
def test_a_finished_search_trains_nothing_again(finished, recipe, mnist, trained):
    folder, config = finished
    assert search_ensemble(recipe, mnist, folder, OPTIONS) == config
    assert trained == []


def copy_of(folder, target):
    """The same search elsewhere, without its database."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "search.db":
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


@pytest.mark.slow
def test_what_is_lost_is_trained_again_and_is_the_same(finished, recipe, mnist, trained, tmp_path):
    folder, config = finished
    copy = copy_of(folder, tmp_path)
    for path in (copy / "networks" / "c002_s0").iterdir():
        path.unlink()
    (copy / "networks" / "c002_s0").rmdir()
    (copy / "config.json").unlink()
    search_ensemble(recipe, mnist, copy, OPTIONS)
    assert trained == ["c002_s0"]
    np.testing.assert_array_equal(held_out(copy, "c002_s0"), held_out(folder, "c002_s0"))
    assert json.loads((copy / "config.json").read_text())["hyper_deep"] == config["hyper_deep"]


@pytest.mark.slow
def test_more_trials_use_what_is_there(finished, recipe, mnist, trained, tmp_path):
    copy = copy_of(finished[0], tmp_path)
    search_ensemble(recipe, mnist, copy, dataclasses.replace(OPTIONS, trials=4))
    assert trained[0] == "c003_s0" and "c000_s0" not in trained and "c001_s0" not in trained
    result = json.loads((copy / "networks" / "c003_s0" / "result.json").read_text())
    assert set(result["configuration"]) == {
        "l2_stem", "l2_hidden", "l2_head_kernel", "l2_head_bias", "label_smoothing", "dropout"
    }  # fmt: skip
    assert result["recipe"]["label_smoothing"] == result["configuration"]["label_smoothing"]


@pytest.mark.slow
def test_a_killed_worker_s_network_is_trained_by_another(finished, recipe, mnist, tmp_path, trained):
    long = dataclasses.replace(recipe, epochs=15)
    options = dataclasses.replace(OPTIONS, trials=2, members=1)
    arguments = [
        "--recipe=mnist_single_mlp", "--epochs=15", "--batch_size=20", "--shift=0", "--held_out=0.2",
        "--seed=5", "--trials=2", "--members=1", "--tune=l2,label_smoothing,dropout", "--heartbeat=1",
        f"--data_dir={mnist}", f"--output_dir={tmp_path}",
    ]  # fmt: skip
    copy_of(finished[0] / "networks" / "c000_s0", tmp_path / "networks" / "c000_s0")
    process = forks.start(["-m", "zoo.training.hyper_deep", *arguments], tmp_path)
    attempt = tmp_path / "networks" / "c001_s0.attempt0"
    try:
        while not (attempt / "checkpoint.json").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = json.loads((attempt / "checkpoint.json").read_text())["epochs"]
    assert done < 15
    stored = trials(tmp_path)
    assert [trial.state.name for trial in stored] == ["RUNNING"]

    search_ensemble(long, mnist, tmp_path, options, heartbeat=1, pause=0.2, compile_options={})
    assert trained == ["c001_s0"]
    first, second = trials(tmp_path)
    assert (first.state.name, second.state.name) == ("FAIL", "COMPLETE")
    assert first.params == second.params == space_of(long, mnist).sample(1)
    result = json.loads((tmp_path / "networks" / "c001_s0" / "result.json").read_text())
    assert result["configuration"] == first.params
    epochs = [int(row.split(",")[0]) for row in log_of(tmp_path, "c001_s0")]
    assert sorted(set(epochs)) == list(range(15)) and len(epochs) < 15 + 3  # it went on, not again


def log_of(folder, name):
    return (folder / "networks" / name / "log.csv").read_text().splitlines()[1:]


def trials(folder):
    study = json.loads((folder / "search.json").read_text())["study"]
    return optuna.load_study(
        study_name=f"{study}-search", storage=f"sqlite:///{folder}/search.db"
    ).trials


def space_of(recipe, mnist):
    (training, _, _), classes = from_recipe.load_splits(recipe, mnist)
    network = from_recipe.model_of(recipe, training.images.shape[1:], classes).network
    ranges = {field.name: getattr(OPTIONS, field.name) for field in dataclasses.fields(OPTIONS)[2:]}
    return search_space.search_space(recipe, network, len(training), **ranges)


@pytest.fixture
def untrained(recipe, mnist, tmp_path, monkeypatch):
    """Weights with which the network of (configuration, seed) begins."""
    monkeypatch.setattr(
        run,
        "fit_with_checkpoints",
        lambda model, *arguments: model.set_weights(model.get_weights()) or 0,
    )
    splits, classes = from_recipe.load_splits(recipe, mnist)
    networks = NetworkStore(tmp_path, recipe, splits, classes)

    def weights(name, configuration):
        networks.ensure_trained(name, configuration, 0)
        return networks.model(name).get_weights()

    return weights


@pytest.mark.slow
def test_configurations_begin_alike_and_seeds_do_not(untrained):
    def same(a, b):
        return all((x == y).all() for x, y in zip(a, b, strict=True))

    own = untrained("c000_s0", {})
    assert same(own, untrained("c001_s0", {"l2_stem": 1.0, "label_smoothing": 0.1, "dropout": 0.5}))
    other = untrained("c000_s1", {})
    assert not same(own, other) and same(other, untrained("c001_s1", {"l2_stem": 2.0}))


@pytest.mark.slow
def test_the_first_network_is_the_recipe_s(recipe, mnist, tmp_path):
    plain = dataclasses.replace(recipe, weight_decay=0.0)
    splits, classes = from_recipe.load_splits(plain, mnist)
    networks = NetworkStore(tmp_path / "networks", plain, splits, classes)
    networks.ensure_trained("c000_s0", {}, 0)
    run.train(plain, mnist, tmp_path / "run")
    expected = zoo.load("single_mlp", weights=tmp_path / "run").get_weights()
    for a, b in zip(networks.model("c000_s0").get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a.astype("float16") if a.ndim > 1 else a, b)


@pytest.mark.parametrize(
    ("fields", "options", "more", "pattern"),
    [
        ({}, {"trials": 0}, {}, "trials must be an integer >= 1; got 0"),
        ({}, {"members": 0}, {}, "members must be an integer >= 1; got 0"),
        ({"held_out": 0.0}, {}, {}, "held_out.*0.0"),
        ({"held_out": 1.0}, {}, {}, "held_out.*1.0"),
        ({"held_out": 0.001}, {}, {}, "held_out=0.001 leaves no image"),
        ({"method": "packed"}, {}, {}, "mnist_single_mlp"),
        ({"batch_size": 81}, {}, {}, "batch_size=81"),
        ({"schedule": "square"}, {}, {}, "schedule.*square"),
        ({}, {"tune": ("momentum",)}, {}, "tune.*dropout.*momentum"),
        ({}, {"tune": ()}, {}, "tune.*none"),
        ({}, {"l2": (0.0, 1.0)}, {}, "l2_stem.*0 < low"),
        ({}, {"label_smoothing": (0.1, 0.01)}, {}, "label_smoothing.*low <= high"),
        ({}, {"label_smoothing": (0.1, 1.0)}, {}, "label_smoothing.*below 1"),
        ({}, {}, {"storage": "sqlite:////no/such/folder/search.db"}, "cannot use.*/no/such/folder"),
        ({}, {}, {"storage": "not a url"}, "cannot use.*not a url"),
        ({}, {}, {"storage": "oracle://me:secret@host/db"}, r"cannot use.*oracle://\.\.\.@host/db"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(
    fields, options, more, pattern, recipe, mnist, tmp_path, trained, raises_line
):
    with raises_line(ValueError, pattern) as caught:
        search_ensemble(
            dataclasses.replace(recipe, **fields), mnist, tmp_path,
            dataclasses.replace(OPTIONS, **options), **more,
        )  # fmt: skip
    assert trained == [] and "secret" not in str(caught)


@pytest.mark.slow
def test_another_search_has_another_folder(finished, recipe, mnist, trained, tmp_path, raises_line):
    folder, _ = finished
    with raises_line(ValueError, "another epochs .1, not 3.*--output_dir"):
        search_ensemble(dataclasses.replace(recipe, epochs=3), mnist, folder, OPTIONS)
    with raises_line(ValueError, "another l2_stem"):
        search_ensemble(recipe, mnist, folder, dataclasses.replace(OPTIONS, l2=(1e-3, 1.0)))
    with raises_line(ValueError, "other training images or labels .*--data_dir"):
        search_ensemble(recipe, mnist, folder, OPTIONS, limit=60)
    (tmp_path / "config.json").write_text("{}")
    with raises_line(ValueError, "another run"):
        search_ensemble(recipe, mnist, tmp_path, OPTIONS)
    assert trained == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["shape", "truncated"])
def test_damaged_predictions_are_found_before_training(
    damage, finished, recipe, mnist, tmp_path, trained, raises_line
):
    copy = copy_of(finished[0], tmp_path)
    path = copy / "networks" / "c001_s0" / "held_out.npy"
    if damage == "shape":
        np.save(path, np.ones((7, 4)))
    else:
        path.write_bytes(path.read_bytes()[:-20])
    with raises_line(ValueError, "c001_s0/held_out.npy.*start again"):
        search_ensemble(recipe, mnist, copy, dataclasses.replace(OPTIONS, trials=9))
    assert trained == []


@pytest.mark.slow
def test_the_search_does_not_need_tensorflow(python):
    code = "import sys, zoo.training.ensembles.hyper_deep_search; assert 'tensorflow' not in sys.modules"
    python("-c", code, KERAS_BACKEND="jax")
