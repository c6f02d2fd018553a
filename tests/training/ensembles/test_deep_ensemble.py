"""Members trained by processes of which some die: the ensemble is that of one undisturbed process."""

import csv
import dataclasses
import json
import os
import signal

import numpy as np
import optuna
import pytest

import zoo
from helpers.workers import checksums, outputs, recipe_of, start, three_workers
from zoo.files import config_files
from zoo.training.ensembles import deep_ensemble
from zoo.training.ensembles.deep_ensemble import Members, TakenOver
from zoo.training.loop import from_recipe, preemption, run

NAMES = ["member0", "member1", "member2"]


RECIPE = recipe_of("deep_ensemble", num_members=3)


def make(data, folder, recipe=RECIPE, **options):
    return deep_ensemble.member_ensemble(
        recipe, data, folder, pause=0.05, options={"jit_compile": False}, **options
    )


@pytest.fixture(scope="module")
def undisturbed(mnist, tmp_path_factory):
    """(Folder, config) of an ensemble that one process made."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, make(mnist, folder, command="a command")


@pytest.mark.slow
def test_two_workers_go_on_when_a_third_is_killed(undisturbed, mnist, tmp_path):
    found = three_workers("members", mnist, tmp_path, "--recipe=mnist_deep_ensemble_mlp")
    assert checksums(tmp_path) == checksums(undisturbed[0])
    for name in NAMES:
        part = tmp_path / "members" / name
        assert checksums(part) == checksums(undisturbed[0] / "members" / name)
        with open(part / "log.csv") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert "".join(found).count("epoch 1/3   33%") == 3  # no epoch is done twice
    assert {path.name for path in (tmp_path / "members").iterdir()} == {*NAMES, "ensemble"}


@pytest.mark.slow
def test_processes_with_a_member_each(undisturbed, mnist, tmp_path):
    flags = ["--recipe=mnist_deep_ensemble_mlp", "--storage=sqlite:////no/such/folder/members.db"]
    workers = [
        start("members", mnist, tmp_path, *flags, "--member=2"),
        start("members", mnist, tmp_path, *flags, "--member=1", step=26),
    ]
    found = outputs(workers)
    assert [process.returncode for process in workers] == [0, -signal.SIGKILL], found
    assert make(mnist, tmp_path, member=0) is None and not (tmp_path / "config.json").exists()
    config = make(mnist, tmp_path, member=1)
    assert config == json.loads((tmp_path / "config.json").read_text())
    assert checksums(tmp_path) == checksums(undisturbed[0])
    assert not list(tmp_path.rglob("*.db")) and not list(tmp_path.rglob("*attempt*"))
    recorded = config_files.read_config(tmp_path / "members" / "member2")["command"]
    assert recorded.endswith("--member=2") and "--seed=7" in recorded


@pytest.mark.slow
def test_members_are_the_networks_that_train_makes(undisturbed, mnist, tmp_path):
    folder, config = undisturbed
    for member, name in enumerate(NAMES):
        recipe = dataclasses.replace(recipe_of("single"), seed=7 + member)
        run.train(recipe, mnist, tmp_path / name, jit_compile=False)
        assert checksums(folder / "members" / name) == checksums(tmp_path / name)
        assert config_files.read_config(folder / "members" / name)["recipe"] == json.loads(
            json.dumps(dataclasses.asdict(recipe))
        )
    assert config == config_files.read_config(folder)
    assert (config["name"], config["num_members"]) == ("deep_ensemble_mlp", 3)
    assert config["recipe"] == json.loads(json.dumps(dataclasses.asdict(RECIPE)))
    model = zoo.load("deep_ensemble_mlp", weights=folder)
    singles = [zoo.load("single_mlp", weights=tmp_path / name) for name in NAMES]
    images = from_recipe.load_splits(recipe, mnist)[0][2].images
    expected = np.stack([zoo.predict(single, images).probabilities for single in singles], axis=1)
    np.testing.assert_allclose(zoo.predict(model, images).members, expected, atol=1e-5)


@pytest.fixture
def copy(undisturbed, mnist, tmp_path):
    """Members as of a run whose ensemble is not written, and their folder."""
    folder, _ = undisturbed
    for path in (folder / "members").glob("member*/*"):
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    single, _ = deep_ensemble.member_recipe(RECIPE)
    return Members(tmp_path, single, 3, mnist, command="a command")


@pytest.mark.slow
@pytest.mark.parametrize("member", [None, 0, 2])
def test_trained_members_are_only_joined(copy, undisturbed, mnist, monkeypatch, member):
    monkeypatch.setattr(run, "train", None)
    (copy.parts / "ensemble.left-by-a-dead-worker").mkdir()
    assert make(mnist, copy.folder, member=member)["num_members"] == 3
    assert checksums(copy.folder) == checksums(undisturbed[0])
    assert {path.name for path in copy.parts.iterdir()} == {*NAMES, "ensemble"}
    (copy.folder / "config.json").unlink()  # as where a worker died just before it
    assert make(mnist, copy.folder, member=member)["num_members"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_workers_that_join_at_the_same_time_leave_one_of_their_ensembles(copy, monkeypatch, late):
    join, dates = deep_ensemble.join_runs, iter(["first", "second"])

    def join_runs(runs, data_dir, draft, *others):
        date = next(dates)
        if date == "first" and late:
            copy.join()  # another worker's, all of it
        join(runs, data_dir, draft, *others)
        config = json.loads((draft / "config.json").read_text())
        (draft / "config.json").write_text(json.dumps(config | {"date": date}))
        if date == "first" and not late:
            copy.join()

    monkeypatch.setattr(deep_ensemble, "join_runs", join_runs)
    copy.join()
    assert copy.result()["date"] == "second"
    assert len(checksums(copy.folder)) == 1
    assert {path.name for path in copy.parts.iterdir()} == {*NAMES, "ensemble"}


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_leaves_its_member_to_others(
    undisturbed, mnist, tmp_path, monkeypatch
):
    look, steps = preemption.SaveOnSignal.on_train_batch_end, []

    def stop(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        look(self, batch, logs)

    monkeypatch.setattr(preemption.SaveOnSignal, "on_train_batch_end", stop)
    recipe = dataclasses.replace(RECIPE, num_members=1)
    with pytest.raises(preemption.Preempted, match="step 10 of epoch 2"):
        make(mnist, tmp_path, recipe)
    study = json.loads((tmp_path / "member_run.json").read_text())["study"]
    storage = f"sqlite:///{tmp_path}/members.db"
    trials = optuna.load_study(study_name=f"{study}-train", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "WAITING"]
    make(mnist, tmp_path, recipe)
    assert checksums(tmp_path / "members" / "member0") == checksums(
        undisturbed[0] / "members" / "member0"
    )
    assert len(steps) == 60


@pytest.mark.slow
def test_a_member_whose_worker_died_at_the_very_end(copy, monkeypatch):
    monkeypatch.setattr(run, "train", None)
    (copy.parts / "member1").rename(copy.parts / "member1.attempt0")
    copy.ensure_trained("member1", 1)
    assert copy.missing() == []


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
def test_a_member_that_another_worker_takes_over(copy, monkeypatch, finished):
    whole = (copy.parts / "member1").rename(copy.folder / "whole")

    def train(recipe, data_dir, folder, **options):
        folder.rename(copy.parts / "member1.attempt1")
        if finished:
            whole.rename(copy.parts / "member1")
        raise FileNotFoundError("no folder for a checkpoint")

    monkeypatch.setattr(run, "train", train)
    if finished:
        copy.ensure_trained("member1", 0)
    else:
        with pytest.raises(TakenOver, match="another worker goes on with member1"):
            copy.ensure_trained("member1", 0)


@pytest.mark.parametrize(
    ("fields", "options", "pattern"),
    [
        ({"method": "hyper_deep"}, {}, "zoo.training.hyper_deep --recipe=mnist_single_mlp"),
        ({"method": "dst_tickets"}, {}, "zoo.training.tickets --recipe=mnist_dst_tickets_mlp"),
        ({"method": "edst_tickets"}, {}, "zoo.training.tickets --recipe=mnist_edst_tickets_mlp"),
        ({"method": "packed"}, {}, "zoo.training.train --recipe=mnist_packed_mlp"),
        ({"method": "single"}, {}, "zoo.training.train --recipe=mnist_single_mlp"),
        ({"num_members": -2}, {}, "num_members.*-2"),
        ({"arguments": "rank=2"}, {}, "no argument rank"),
        ({}, {"member": 3}, r"member must be in 0 ... 2, as there are 3; got 3"),
        ({}, {"member": -1}, "got -1"),
        ({"batch_size": 101}, {}, "batch_size=101"),
        ({"schedule": "steep"}, {}, "schedule.*steep"),
        ({"backbone": "vgg"}, {}, "vgg"),
    ],
)
def test_what_cannot_work_is_refused_before_anything(
    fields, options, pattern, mnist, tmp_path, raises_line
):
    with raises_line(ValueError, pattern):
        make(mnist, tmp_path / "run", dataclasses.replace(RECIPE, **fields), **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_another_run_has_another_folder(undisturbed, mnist, raises_line):
    folder, _ = undisturbed
    with raises_line(ValueError, "another num_members .3, not 4.*--output_dir"):
        make(mnist, folder, dataclasses.replace(RECIPE, num_members=4), member=0)
    with raises_line(ValueError, "other training images or labels .*--data_dir"):
        make(mnist, folder, limit=50)
