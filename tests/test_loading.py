"""`zoo.load`, weights on disk, downloads, and every way in which they can be wrong."""

import hashlib
import json
import pathlib
import shutil

import h5py
import numpy as np
import pytest

import zoo
from zoo import registry
from zoo import weights as weight_files
from zoo.methods import Packed, Single
from zoo.training import recipes


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """A folder as training leaves it: packed LeNet after an epoch on tiny data."""
    import dataclasses

    from zoo.training import run

    folder = tmp_path_factory.mktemp("runs") / "cifar10_packed_lenet"
    recipe = dataclasses.replace(
        recipes.recipe("cifar10_packed_lenet"), epochs=1, batch_size=8, num_members=2
    )
    run.train(recipe, data_dir, folder, command="a command")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of that folder to damage."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "packed_lenet-cifar10"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory, publish):
    """A folder with weights of a ResNet-20 for 8x8 images of 5 classes, and the model."""
    model = zoo.build(Packed(2, 1), "resnet20", 5, (8, 8, 3))
    rng = np.random.default_rng(6)
    model.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    folder = tmp_path_factory.mktemp("runs") / "packed_resnet20-cifar10"
    publish(model, folder)
    return folder, model


@pytest.fixture
def served(folder, tmp_path, monkeypatch):
    """An index with one entry whose files are nowhere but at ZOO_WEIGHTS_URL; returns the cache."""
    config = json.loads((folder / "config.json").read_text())
    entry = {
        "folder": folder.name,
        **{key: config[key] for key in ("name", "dataset", "metrics", "files")},
    }
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(registry, "index", lambda: (entry,))
    monkeypatch.setattr(registry, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_WEIGHTS_URL", folder.parent.as_uri())
    return tmp_path / "cache"


def same_weights(model, other):
    for a, b in zip(model.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def halved(weight):
    return weight.astype("float16").astype("float32") if weight.ndim > 1 else weight


def test_folder_of_a_training_run_loads(trained):
    model = zoo.load("packed_lenet", weights=trained)
    same_weights(model, zoo.load("packed_lenet", weights=str(trained)))
    assert model.spec["method"] == {"name": "packed", "num_members": 2, "alpha": 2.0, "gamma": 1}
    assert model.compiled and model.num_classes == 10
    x, y = np.zeros((2, 32, 32, 3), "uint8"), np.array([0, 9])
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()


def test_training_run_recorded_what_its_weights_measure(trained, data_dir):
    config = json.loads((trained / "config.json").read_text())
    model = zoo.load("packed_lenet", weights=trained)
    with np.load(data_dir / "cifar10.npz") as data:
        x, y = data["x_test"], data["y_test"].astype("int32")
    p = zoo.predict(model, x).probabilities
    recorded = config["metrics"]["cifar10"]
    assert recorded["accuracy"] == pytest.approx((p.argmax(-1) == y).mean(), abs=1e-5)
    assert recorded["nll"] == pytest.approx(-np.log(p[np.arange(40), y]).mean(), abs=1e-4)
    assert recorded["images"] == 40
    bins = np.ceil(p.max(-1) * 15).astype(int)
    right = p.argmax(-1) == y
    gaps = [abs((right[bins == b] - p.max(-1)[bins == b]).sum()) for b in range(1, 16)]
    assert recorded["ece"] == pytest.approx(sum(gaps) / 40, abs=1e-4)


def test_weights_on_disk_are_half_as_large_and_load_rounded(resnet):
    folder, model = resnet
    loaded = zoo.load("packed_resnet20", weights=folder)
    for weight, given in zip(model.network.get_weights(), loaded.network.get_weights(), strict=True):
        np.testing.assert_array_equal(given, halved(weight))
    kinds = set()
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(
            lambda _, item: (
                kinds.add((item.ndim > 1, str(item.dtype))) if hasattr(item, "dtype") else None
            )
        )
    assert kinds == {(True, "float16"), (False, "float32")}


def test_another_number_of_classes_keeps_the_body_and_renews_the_heads(resnet):
    folder, _ = resnet
    loaded, model = (zoo.load("packed_resnet20", weights=folder, num_classes=k) for k in (None, 3))
    assert model.network.output_shape == (None, 2, 3)
    for layer in model.network.layers:
        if layer.name != "head":
            for a, b in zip(
                layer.get_weights(), loaded.network.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(a, b)
    kernel, bias = model.network.get_layer("head").get_weights()
    assert kernel.std() > 0 and not np.allclose(kernel[0], kernel[1]) and (bias == 0).all()


def test_the_same_number_of_classes_keeps_the_heads_too(resnet):
    folder, _ = resnet
    same_weights(*(zoo.load("packed_resnet20", weights=folder, num_classes=k) for k in (None, 5)))


def test_another_image_size_keeps_all_weights_where_the_backbone_pools(resnet):
    folder, _ = resnet
    model = zoo.load("packed_resnet20", weights=folder, input_shape=(12, 10, 3))
    same_weights(model, zoo.load("packed_resnet20", weights=folder))
    assert zoo.predict(model, np.zeros((2, 12, 10, 3), "uint8")).members.shape == (2, 2, 5)


def test_activation_goes_with_weights(resnet):
    folder, _ = resnet
    models = [zoo.load("packed_resnet20", weights=folder, activation=a) for a in (None, "softmax")]
    same_weights(*models)
    x = np.full((1, 8, 8, 3), 50, "uint8")
    log_p, p = (model.predict(x, verbose=0) for model in models)
    np.testing.assert_allclose(np.exp(log_p), p, atol=1e-6)


def test_arguments_that_agree_with_the_weights_pass(resnet):
    folder, _ = resnet
    given = zoo.load("packed_resnet20", weights=folder, num_members=2, alpha=1, gamma=1, stem="cifar")
    same_weights(given, zoo.load("packed_resnet20", weights=folder))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"input_shape": (28, 28, 3)}, r"input_shape=\(28, 28, 3\).*input_shape=\(32, 32, 3\)"),
        ({"input_shape": (32, 32, 1)}, "3 channels.*repeat or drop"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"num_classes": 1}, "num_classes"),
        ({"num_members": 3}, "num_members=2, not 3"),
        ({"alpha": 4}, "alpha=2.0, not 4"),
        ({"gamma": 2}, "gamma=1, not 2"),
        ({"stem": "imagenet"}, "stem=cifar"),
        ({"mean": 0.0}, "mean="),
        ({"std": (1, 2, 3)}, "std="),
        ({"rate": 0.1}, "num_members, alpha, gamma.*rate"),
        ({"activation": "sigmoid"}, "activation"),
    ],
)
def test_arguments_that_contradict_the_weights(options, pattern, trained, raises_line):
    with raises_line(ValueError, pattern):
        zoo.load("packed_lenet", weights=trained, **options)


def test_models_without_weights_start_from_scratch_and_say_so(monkeypatch):
    monkeypatch.setattr(registry, "index", tuple)
    with pytest.warns(UserWarning, match="no weights") as caught:
        model = zoo.load("packed_resnet18", weights=None, num_classes=7, input_shape=(8, 8, 3), gamma=2)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert model.network.output_shape == (None, 4, 7)
    assert model.spec["method"]["gamma"] == 2


def test_methods_have_their_defaults_from_scratch(monkeypatch):
    monkeypatch.setattr(registry, "index", tuple)
    with pytest.warns(UserWarning, match="no weights"):
        model = zoo.load("single_mlp", weights=None, input_shape=(4, 4, 1))
    assert (model.num_members, model.num_classes, model.compiled) == (1, 10, True)


@pytest.mark.parametrize(
    ("name", "near"),
    [("packed_resnet19", "packed_resnet18"), ("resnet50", "resnet50"), ("", "_"), (None, "_")],
)
def test_unknown_names_list_the_nearest(name, near, raises_line):
    for call in (zoo.load, zoo.card):
        with raises_line(ValueError, f"unknown model {name!r}.*nearest: .*{near}"):
            call(name)


def test_unknown_weights_list_those_there_are(served, raises_line):
    with raises_line(ValueError, "weights='imagenet'.*cifar10.*None.*path"):
        zoo.load("packed_lenet", weights="imagenet")
    with raises_line(ValueError, "no weights of packed_mlp exist yet.*weights=None"):
        zoo.load("packed_mlp")


@pytest.mark.parametrize("weights", [7, True, 1.5, ["cifar10"]])
def test_weights_of_a_wrong_type(weights, raises_line):
    with raises_line(ValueError, "weights"):
        zoo.load("packed_lenet", weights=weights)


@pytest.mark.parametrize("name", ["nowhere/at/all", "nowhere.weights.h5", "nowhere.weights.json"])
def test_missing_paths(name, tmp_path, raises_line):
    for path in (tmp_path / name, str(tmp_path / name)):
        with raises_line(FileNotFoundError, "nowhere.*check the path"):
            zoo.load("packed_lenet", weights=path)


def flip(path, position=-100):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated": (lambda f: _truncate(f / "model.weights.h5"), ValueError, "truncated"),
    "flipped bit": (lambda f: flip(f / "model.weights.h5"), ValueError, "sha256"),
    "missing weights": (lambda f: (f / "model.weights.h5").unlink(), FileNotFoundError, "missing"),
    "missing config": (lambda f: (f / "config.json").unlink(), FileNotFoundError, "no config.json"),
    "half a config": (lambda f: _truncate(f / "config.json"), ValueError, "config.json is damaged"),
    "config of no files": (lambda f: _edit(f, files={}), ValueError, "lists no files"),
    "another model": (
        lambda f: _edit(f, name="packed_mlp"),
        ValueError,
        "packed_mlp, not of packed_lenet",
    ),
    "another spec": (lambda f: _edit(f, num_classes=7), ValueError, "of other shapes"),
    "config without spec": (lambda f: (f / "config.json").write_text("{}"), ValueError, "packed_lenet"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), ValueError, "config.json"),
}


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _edit(folder, num_classes=None, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    config["spec"]["num_classes"] = num_classes or config["spec"]["num_classes"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders_are_refused_in_one_line(kind, folder, raises_line):
    damage, error, pattern = DAMAGE[kind]
    damage(folder)
    with raises_line(error, pattern):
        zoo.load("packed_lenet", weights=folder)


def test_single_file_loads_by_path(tmp_path):
    model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    model.network.save_weights(tmp_path / "mine.weights.h5")
    given = zoo.load(
        "single_mlp", weights=tmp_path / "mine.weights.h5", num_classes=3, input_shape=(4, 4, 1)
    )
    same_weights(given, model)


def _rename_group(path):
    with h5py.File(path, "r+") as file:
        file.move("layers/dense_2", "layers/dense_9")


def _duplicate(path):
    with h5py.File(path, "r+") as file:
        file.copy("layers/dense_2", "layers/dense_9")


def _text(path):
    path.write_text("no weights")


@pytest.mark.parametrize("damage", [_truncate, _rename_group, _duplicate, _text])
def test_a_model_keeps_its_weights_when_a_file_does_not_fit(damage, tmp_path, raises_line):
    path = tmp_path / "mine.weights.h5"
    zoo.build(Single(), "mlp", 3, (4, 4, 1)).network.save_weights(path)
    damage(path)
    model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    before = model.network.get_weights()
    with raises_line(ValueError, "mine.weights.h5"):
        weight_files.load_file(model, path)
    for old, new in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "other",
    [
        lambda: zoo.build(Single(), "lenet", 3, (16, 16, 1)),
        lambda: zoo.build(Packed(2, 1), "mlp", 3, (4, 4, 1)),
    ],
)
def test_files_of_another_architecture(other, tmp_path, raises_line):
    path = tmp_path / "mine.weights.h5"
    zoo.build(Single(), "mlp", 3, (4, 4, 1)).network.save_weights(path)
    with raises_line(ValueError, "build the model with the arguments"):
        weight_files.load_file(other(), path)


@pytest.fixture
def shards(resnet, tmp_path, publish, monkeypatch):
    """The ResNet's weights in files of at most 100 kB."""
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 100_000)
    return tmp_path, publish(resnet[1], tmp_path)


def test_large_weights_come_in_shards_and_load_exactly(shards, resnet):
    folder, config = shards
    parts = [name for name in config["files"] if name.endswith(".h5")]
    assert len(parts) > 1
    same_weights(*(zoo.load("packed_resnet20", weights=f) for f in (folder, resnet[0])))


def test_no_file_of_a_large_model_is_over_16_megabytes(tmp_path, publish):
    model = zoo.build(Packed(4, 2, 1), "resnet18", 10, (8, 8, 3))
    config = publish(model, tmp_path)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert max(sizes) < 16_000_000 and sum(sizes) > 2 * 11_000_000
    loaded = zoo.load("packed_resnet18", weights=tmp_path)
    for weight, given in zip(model.network.get_weights(), loaded.network.get_weights(), strict=True):
        np.testing.assert_array_equal(given, halved(weight))
    assert set(config["files"]) == {path.name for path in tmp_path.iterdir()} - {"config.json"}


def test_missing_and_damaged_shards(shards, raises_line):
    folder, config = shards
    part = sorted(name for name in config["files"] if name.endswith(".h5"))[1]
    flip(folder / part)
    with raises_line(ValueError, f"{part}.*sha256"):
        zoo.load("packed_resnet20", weights=folder)
    (folder / part).unlink()
    with raises_line(FileNotFoundError, f"{part} is missing"):
        zoo.load("packed_resnet20", weights=folder)


def test_writing_again_leaves_no_old_shards(shards, resnet, publish, monkeypatch):
    folder, _ = shards
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 15_000_000)
    config = publish(resnet[1], folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", *config["files"]} == {
        "config.json", "model.weights.h5",
    }  # fmt: skip


def test_weights_are_downloaded_once(served, folder, monkeypatch):
    model = zoo.load("packed_lenet")
    same_weights(model, zoo.load("packed_lenet", weights=folder))
    assert {p.name for p in (served / folder.name).iterdir()} == {"config.json", "model.weights.h5"}
    monkeypatch.delenv("ZOO_WEIGHTS_URL")
    same_weights(model, zoo.load("packed_lenet", weights="cifar10"))
    assert "cifar10" in str(zoo.card("packed_lenet"))


def test_corrupted_downloads_are_refused_and_not_left_behind(served, folder, raises_line):
    good = (folder / "model.weights.h5").read_bytes()
    for damage in (flip, _truncate):
        damage(folder / "model.weights.h5")
        with raises_line(ValueError, "sha256|truncated"):
            zoo.load("packed_lenet")
        assert not list(served.rglob("model*"))
    (folder / "model.weights.h5").write_bytes(good)
    assert zoo.load("packed_lenet").num_members == 2


def test_failed_downloads_say_how_to_go_on(served, folder, monkeypatch, raises_line):
    (folder / "model.weights.h5").unlink()
    with raises_line(FileNotFoundError, "cannot download .*model.weights.h5.*try again"):
        zoo.load("packed_lenet")
    monkeypatch.setenv("ZOO_WEIGHTS_URL", "no url")
    with raises_line((FileNotFoundError, ValueError), "cannot download|ZOO_WEIGHTS_URL"):
        zoo.load("packed_lenet")
    monkeypatch.delenv("ZOO_WEIGHTS_URL")
    with raises_line(FileNotFoundError, "ZOO_WEIGHTS_URL"):
        zoo.load("packed_lenet")


def test_a_damaged_cache_is_noticed(served, folder, raises_line):
    zoo.load("packed_lenet")
    flip(served / folder.name / "model.weights.h5")
    with raises_line(ValueError, "sha256"):
        zoo.load("packed_lenet")


def test_models_are_listed_by_what_they_are(served):
    names = zoo.list_models()
    assert len(names) == 12 and names == sorted(names)
    assert zoo.list_models(method="packed", backbone="resnet50") == ["packed_resnet50"]
    assert zoo.list_models(method="single") == [n for n in names if n.startswith("single_")]
    assert zoo.list_models(dataset="cifar10") == ["packed_lenet"]


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"method": "swag"}, "method='swag'.*packed"),
        ({"backbone": "vgg"}, "backbone='vgg'.*lenet"),
        ({"dataset": "svhn"}, "dataset='svhn'.*cifar10"),
    ],
)
def test_filters_that_nothing_passes(options, pattern, served, raises_line):
    with raises_line(ValueError, pattern):
        zoo.list_models(**options)


def test_listing_models_imports_no_keras(python):
    code = "import sys, zoo; print(*zoo.list_models(), *sys.modules, sep='\\n')"
    printed = set(python("-c", code).stdout.split())
    assert "packed_resnet50" in printed
    assert not {"keras", "tensorflow", "jax", "torch"} & printed


def test_cards(trained, served):
    text = str(zoo.card("packed_lenet", weights=trained))
    config = json.loads((trained / "config.json").read_text())
    for value in ("packed_lenet", "cifar10", "a command", config["files"]["model.weights.h5"]["sha256"]):
        assert value in text
    assert zoo.card("packed_lenet", weights=trained).config["parameters"] == config["parameters"]
    assert "No weights" in str(zoo.card("packed_resnet50"))


def test_shipped_weights_are_whole():
    registry.index.cache_clear()
    assert (registry.home() / "index.json").is_file()
    index = registry.index()
    assert index
    for entry in index:
        folder = registry.home() / entry["folder"]
        config = json.loads((folder / "config.json").read_text())
        for key in ("name", "dataset", "parameters", "macs", "metrics", "files"):
            assert entry[key] == config[key], (entry["folder"], key)
        assert entry["name"] in zoo.list_models(dataset=entry["dataset"])
        assert set(entry["metrics"][entry["dataset"]]) >= {"accuracy", "nll", "ece", "images"}
        for name, recorded in entry["files"].items():
            content = (folder / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == recorded["sha256"]
            assert len(content) == recorded["bytes"] < 16_000_000
        model = zoo.load(entry["name"], weights=entry["dataset"])
        assert model.num_members == config["num_members"]
        assert all(np.isfinite(weight).all() for weight in model.get_weights())
