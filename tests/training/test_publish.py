"""Publishing runs: the seed that is shipped, and the tables."""

import json

import pytest

from zoo import cards, registry
from zoo.errors import WeightsError
from zoo.files.hashes import fingerprint
from zoo.training import method_overview, publish

SPEC = {
    "method": {"name": "mimo", "num_members": 4}, "backbone": "lenet", "num_classes": 10,
    "input_shape": [28, 28, 1], "stem": "cifar", "mean": [72.9], "std": [90.0],
}  # fmt: skip


def _run(folder, seed, held_out_nll, accuracy, **recipe):
    """A finished run's folder, as far as publishing reads it."""
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(b"weights of seed %d" % seed)
    (folder / "log.csv").write_text("epoch,accuracy\n" + "".join(f"{e},0.5\n" for e in range(9)))
    metrics = {"accuracy": accuracy, "nll": 1 - accuracy, "ece": 0.01 * seed, "images": 100}
    config = {
        "name": "mimo_lenet", "dataset": "fashion_mnist", "num_members": 4, "parameters": 10, "macs": 20,
        "spec": SPEC, "metrics": {"fashion_mnist": metrics}, "steps_per_epoch": 421, "seconds": 60 * (seed + 1),
        "held_out": None if held_out_nll is None else {**metrics, "nll": held_out_nll},
        "recipe": {"epochs": 20, "seed": seed, **recipe},
        "files": {"model.weights.h5": fingerprint(folder / "model.weights.h5")},
        "hardware": "1 CPU core", "software": {"keras": "3"}, "commit": None, "licence": "Apache-2.0",
        "command": "train",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def project(tmp_path):
    """A project with marked pages, and its folder of weights."""
    for page, name in (
        ("README.md", "methods"), ("docs/weights.md", "weights"), ("docs/results.md", "weights"),
    ):  # fmt: skip
        path = tmp_path / page
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"before\n<!-- {name}: made by zoo.training.publish -->\nold\n<!-- end of {name} -->\nafter\n"
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
    assert "| 0.8600 | 0.1400 | 0.0100 |" in (project / "docs" / "weights.md").read_text()
    assert "| `mimo` | 0.8600 | 0.1400 | - | 0.00 | you can" in (project / "README.md").read_text()
    text = str(cards.Card("mimo_lenet", config))
    assert "seed 1 (held-out NLL 0.4000, this one)" in text and "seed 2 (held-out NLL 0.6000)" in text
    publish.publish([], project / "saved_models")
    assert (project / "docs" / "results.md").read_text() == results


def _seeds(project):
    config = json.loads(next(project.glob("saved_models/*/config.json")).read_text())
    return config["recipe"]["seed"], [
        (seed["seed"], seed["seconds"]) for seed in config.get("seeds", ())
    ]


def test_published_seeds_of_the_same_recipe_stay(project):
    runs = [_run(project / f"s{seed}", seed, None, 0.9) for seed in range(4)]
    publish.publish(runs[1:2], project / "saved_models")
    assert _seeds(project) == (1, [])
    publish.publish(runs[2:], project / "saved_models")
    assert _seeds(project) == (1, [(1, 120), (2, 180), (3, 240)])
    publish.publish(runs[:1], project / "saved_models")
    assert _seeds(project) == (0, [(0, 60), (1, 120), (2, 180), (3, 240)])
    publish.publish(runs[:1], project / "saved_models")
    assert _seeds(project) == (0, [(0, 60), (1, 120), (2, 180), (3, 240)])
    (weights,) = project.glob("saved_models/*/*.h5")
    assert weights.read_bytes() == b"weights of seed 0"
    publish.publish([_run(project / "longer", 5, None, 0.9, batch_size=7)], project / "saved_models")
    assert _seeds(project) == (5, [])


def test_one_run_needs_no_held_out_part(project):
    run = _run(project / "runs", 0, None, 0.9)
    publish.publish([run], project / "saved_models")
    assert "mimo_lenet" not in (project / "docs" / "results.md").read_text()
    assert "mimo_lenet" in (project / "docs" / "weights.md").read_text()


def test_runs_that_cannot_be_compared_are_refused_before_anything_is_copied(project, raises_line):
    first = _run(project / "a", 0, 0.5, 0.9)
    for other, message in (
        (_run(project / "b", 0, 0.5, 0.9), "differ in their seeds"),
        (_run(project / "c", 1, 0.5, 0.9, batch_size=7), "differ in their seeds"),
    ):
        with raises_line(ValueError, message):
            publish.publish([first, other], project / "saved_models")
    assert not list((project / "saved_models").iterdir())


def _without_recipe(config):
    del config["recipe"]


def _recipe_of_null(config):
    config["recipe"] = None


def _of_two_sets(config):
    config["dataset"] = ["fashion_mnist"]


def _without_scores(config):
    config["metrics"] = {}


@pytest.mark.parametrize(
    "damage",
    [_without_recipe, _recipe_of_null, _of_two_sets, _without_scores, "log.csv", "model.weights.h5"],
)
def test_a_run_that_is_not_whole_replaces_nothing(damage, project, raises_line):
    publish.publish([_run(project / "good", 0, None, 0.9)], project / "saved_models")
    kept = {path: path.read_bytes() for path in project.glob("saved_models/**/*.*")}
    run, other = _run(project / "bad", 1, None, 0.8), _run(project / "other", 1, None, 0.8)
    if callable(damage):
        config = json.loads((run / "config.json").read_text())
        damage(config)
        (run / "config.json").write_text(json.dumps(config))
    else:
        (run / damage).write_bytes(b"")
    renamed = json.loads((other / "config.json").read_text()) | {"dataset": "mnist"}
    renamed["metrics"] = {"mnist": renamed["metrics"]["fashion_mnist"]}
    (other / "config.json").write_text(json.dumps(renamed))
    for runs in ([other, run], [_run(project / "better", 0, None, 0.9), run]):
        with raises_line(WeightsError, "bad"):
            publish.publish(runs, project / "saved_models")
    assert kept == {path: path.read_bytes() for path in project.glob("saved_models/**/*.*")}


def test_without_held_out_images_the_lowest_seed_is_shipped(project):
    runs = [_run(project / f"s{seed}", seed, None, accuracy) for seed, accuracy in ((2, 0.99), (1, 0.9))]
    (entry,) = publish.publish(runs, project / "saved_models")
    config = json.loads((project / "saved_models" / entry["folder"] / "config.json").read_text())
    assert config["recipe"]["seed"] == 1 and [run["seed"] for run in config["seeds"]] == [1, 2]


def test_of_sparse_models_the_existing_parameters_are_shown():
    entry = {"parameters": 185_118}
    assert registry.parameters(entry) == "185,118"
    assert registry.parameters({**entry, "nonzeros": 37_590}) == "37,590 of 185,118"


def test_the_methods_are_those_of_the_backbone_with_most_weights_and_have_measured_speeds(tmp_path):
    index = [
        _entry("single_lenet", "mnist", 5), _entry("single_lenet", "fashion_mnist", 5),
        _entry("packed_lenet", "fashion_mnist", 6), _entry("single_resnet20", "cifar10", 90),
        _entry("packed_resnet20", "cifar10", 99),
    ]  # fmt: skip
    shown = method_overview.table(index, tmp_path)
    assert shown.startswith("`resnet20` on `cifar10`") and "ms:" not in shown
    model = {"of": "zoo", "label": "packed", "tasks": {"predict 1": {"wall_ms": 2.34}}}
    speeds = {
        "models": [model], "settings": {"weights": "cifar10"},
        "machine": {"cores": 2, "processor": "Z80", "backend": "tensorflow"},
    }  # fmt: skip
    (tmp_path / "resnet20.json").write_text(json.dumps(speeds))
    lines = method_overview.table(index, tmp_path).splitlines()
    assert "2 cores of an Z80, TensorFlow" in lines[0]
    assert lines[4].startswith("| `single` | 0.9000 | 0.1000 | - | 1.50 |")
    assert lines[5].startswith("| `packed` | 0.9000 | 0.1000 | 2.3 | 1.50 |")
    speeds["settings"]["weights"] = None  # of other weights
    (tmp_path / "resnet20.json").write_text(json.dumps(speeds))
    assert "2.3" not in method_overview.table(index, tmp_path)


def test_every_method_with_weights_says_when_to_take_it():
    published = {registry.parse(entry["name"])[0] for entry in registry.index()}
    assert published <= set(method_overview.TAKE_IT_WHEN) <= set(registry.METHODS)


def _entry(name, dataset, macs):
    metrics = {dataset: {"accuracy": 0.9, "nll": 0.1, "ece": 0.01}}
    files = {"model.weights.h5": {"bytes": 1_500_000}}
    return {"name": name, "dataset": dataset, "macs": macs, "metrics": metrics, "files": files}
