"""Publishing runs: the seed that is shipped, and the tables."""

import json

import pytest

from zoo import cards, registry
from zoo.training import publish


def _run(folder, seed, held_out_nll, accuracy, **recipe):
    """A finished run's folder, as far as publishing reads it."""
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(b"weights of seed %d" % seed)
    (folder / "log.csv").write_text("epoch,accuracy\n" + "".join(f"{e},0.5\n" for e in range(9)))
    metrics = {"accuracy": accuracy, "nll": 1 - accuracy, "ece": 0.01 * seed, "images": 100}
    config = {
        "name": "mimo_lenet", "dataset": "fashion_mnist", "num_members": 4, "parameters": 10, "macs": 20,
        "spec": {}, "metrics": {"fashion_mnist": metrics}, "steps_per_epoch": 421, "seconds": 60 * (seed + 1),
        "held_out": None if held_out_nll is None else {**metrics, "nll": held_out_nll},
        "recipe": {"epochs": 20, "seed": seed, **recipe},
        "files": {"model.weights.h5": {"sha256": "0" * 64, "bytes": 17}},
        "hardware": "1 CPU core", "software": {"keras": "3"}, "commit": None, "licence": "Apache-2.0",
        "command": "train",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def project(tmp_path):
    """A project with marked pages, and its folder of weights."""
    for page in ("README.md", "docs/results.md"):
        path = tmp_path / page
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "before\n<!-- weights: made by zoo.training.publish -->\nold\n<!-- end of weights -->\nafter\n"
        )
    (tmp_path / "saved_models").mkdir()
    return tmp_path


def test_the_seed_of_the_lowest_held_out_nll_is_shipped_with_the_record_of_all(project):
    runs = [
        _run(project / "runs" / str(seed), seed, nll, accuracy)
        for seed, nll, accuracy in ((0, 0.5, 0.90), (1, 0.4, 0.86), (2, 0.6, 0.94))
    ]
    (entry,) = publish.publish(runs, project / "saved_models")
    target = project / "saved_models" / "mimo_lenet-fashion_mnist"
    assert entry["folder"] == target.name
    assert (target / "model.weights.h5").read_bytes() == b"weights of seed 1"
    assert len((target / "log.csv").read_text().splitlines()) == 6
    config = json.loads((target / "config.json").read_text())
    assert config["recipe"]["seed"] == 1
    assert [seed["seed"] for seed in config["seeds"]] == [0, 1, 2]
    assert [seed["seconds"] for seed in config["seeds"]] == [60, 120, 180]
    results = (project / "docs" / "results.md").read_text()
    assert "| `mimo_lenet` | fashion_mnist | 3 | 8,420 | 0.9000 ± 0.0400 | 0.1000 ± 0.0400 |" in results
    assert results.startswith("before") and results.endswith("after\n") and "old" not in results
    assert "| 0.8600 | 0.1400 | 0.0100 |" in (project / "README.md").read_text()
    text = str(cards.Card("mimo_lenet", config))
    assert "seed 1 (held-out NLL 0.4000, this one)" in text and "seed 2 (held-out NLL 0.6000)" in text
    publish.publish([], project / "saved_models")
    assert (project / "docs" / "results.md").read_text() == results


def test_one_run_needs_no_held_out_part(project):
    run = _run(project / "runs", 0, None, 0.9)
    publish.publish([run], project / "saved_models")
    assert "mimo_lenet" not in (project / "docs" / "results.md").read_text()
    assert "mimo_lenet" in (project / "README.md").read_text()


def test_runs_that_cannot_be_compared_are_refused_before_anything_is_copied(project, raises_line):
    first = _run(project / "a", 0, 0.5, 0.9)
    for other, message in (
        (_run(project / "b", 0, 0.5, 0.9), "differ in their seeds"),
        (_run(project / "c", 1, 0.5, 0.9, batch_size=7), "differ in their seeds"),
    ):
        with raises_line(ValueError, message):
            publish.publish([first, other], project / "saved_models")
    assert not list((project / "saved_models").iterdir())


def test_without_held_out_images_the_lowest_seed_is_shipped(project):
    runs = [_run(project / f"s{seed}", seed, None, accuracy) for seed, accuracy in ((2, 0.99), (1, 0.9))]
    (entry,) = publish.publish(runs, project / "saved_models")
    config = json.loads((project / "saved_models" / entry["folder"] / "config.json").read_text())
    assert config["recipe"]["seed"] == 1 and [run["seed"] for run in config["seeds"]] == [2, 1]


def test_of_sparse_models_the_existing_parameters_are_shown():
    entry = {"parameters": 185_118}
    assert registry.parameters(entry) == "185,118"
    assert registry.parameters({**entry, "nonzeros": 37_590}) == "37,590 of 185,118"
