"""Weights on disk: whole, in shards, downloaded, and every way in which they can be wrong."""

import json
import math
import warnings

import h5py
import keras
import numpy as np
import pytest

import zoo
from helpers import mutations
from zoo import registry
from zoo import weights as weight_files
from zoo.files import hashes, json_files
from zoo.methods import Packed, Single

pytestmark = pytest.mark.filterwarnings("ignore:.* has no hash beside it")


def halved(weight):
    return weight.astype("float16").astype("float32") if weight.ndim > 1 else weight


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
    config["spec_sha256"] = json_files.digest(config["spec"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders_are_refused_in_one_line(kind, folder, raises_line):
    damage, error, pattern = DAMAGE[kind]
    damage(folder)
    with raises_line(error, pattern):
        zoo.load("packed_lenet", weights=folder)


def test_single_file_loads_by_path(tmp_path, same_weights):
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


@pytest.mark.slow
def test_large_weights_come_in_shards_and_load_exactly(shards, resnet, same_weights):
    folder, config = shards
    parts = [name for name in config["files"] if name.endswith(".h5")]
    assert len(parts) > 1
    same_weights(*(zoo.load("packed_resnet20", weights=f) for f in (folder, resnet[0])))


@pytest.mark.slow
def test_a_variable_larger_than_a_file_has_one_of_its_own(
    resnet, tmp_path, publish, same_weights, monkeypatch
):
    """As the last kernels of a deep ensemble of ResNet-18 are."""
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 1_000)
    publish(resnet[1], tmp_path)
    same_weights(*(zoo.load("packed_resnet20", weights=f) for f in (tmp_path, resnet[0])))


@pytest.mark.slow
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


@pytest.mark.slow
def test_writing_again_leaves_no_old_shards(shards, resnet, publish, monkeypatch):
    folder, _ = shards
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 15_000_000)
    config = publish(resnet[1], folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", *config["files"]} == {
        "config.json", "model.weights.h5",
    }  # fmt: skip


def test_weights_are_downloaded_once(served, folder, monkeypatch, same_weights):
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


def test_a_changed_config_is_refused_on_the_way_and_in_the_cache(served, folder, raises_line):
    good = (folder / "config.json").read_bytes()
    _edit(folder, date="2000-01-01")
    with raises_line(zoo.WeightsError, "config.json"):
        zoo.load("packed_lenet")
    assert not list(served.rglob("*.json")) and not list(served.rglob("model*"))
    (folder / "config.json").write_bytes(good)
    zoo.load("packed_lenet")
    cached = served / folder.name / "config.json"
    cached.write_bytes(good.replace(b"127.5", b"227.5") if b"127.5" in good else b" " * len(good))
    for use in (zoo.load, zoo.card):
        with raises_line(zoo.WeightsError, "config.json.*(sha256|bytes)"):
            use("packed_lenet")


def test_the_index_has_the_hash_of_every_config():
    for entry in registry.index():
        config = registry.home() / entry["folder"] / "config.json"
        assert hashes.fingerprint(config) == entry["config"]


@pytest.mark.parametrize("changes", [{"mean": [0, 0, 0]}, {"std": [9, 9, 9]}])
def test_a_config_with_other_answers_than_its_weights_give_is_refused(changes, folder, raises_line):
    config = json.loads((folder / "config.json").read_text())
    config["spec"] |= changes
    config["spec_sha256"] = json_files.digest(config["spec"])
    (folder / "config.json").write_text(json.dumps(config))
    with raises_line(zoo.WeightsError, "records other answers.*restore"):
        zoo.load("packed_lenet", weights=folder)


def test_a_network_larger_than_its_weights_is_never_made(folder, raises_line):
    config = json.loads((folder / "config.json").read_text())
    for key, value in (("input_shape", [2048, 2048, 3]), ("num_classes", 900_000)):
        changed = {**config, "spec": {**config["spec"], key: value}, "spec_sha256": None}
        (folder / "config.json").write_text(json.dumps(changed))
        with raises_line(zoo.WeightsError, "larger than its weights|of other shapes"):
            zoo.load("packed_lenet", weights=folder)
    options = {"num_members": 2, "input_shape": (2048, 2048, 3)}
    with raises_line(zoo.WeightsError, "fewer than packed_lenet has; build the model"):
        zoo.load("packed_lenet", weights=folder / "model.weights.h5", **options)


def _mlp_file(folder):
    path = folder / "mine.weights.h5"
    zoo.build(Single(), "mlp", 3, (4, 4, 1)).network.save_weights(path)
    return path


def test_a_hash_beside_a_file_is_compared_and_none_is_said(tmp_path, trained, raises_line):
    path, model = _mlp_file(tmp_path), zoo.build(Single(), "mlp", 3, (4, 4, 1))
    with pytest.warns(UserWarning, match="mine.weights.h5 has no hash beside it.*write_hash"):
        weight_files.load_file(model, path)
    hashes.write_hash(path)
    assert (tmp_path / "mine.weights.h5.sha256").read_text().endswith("  mine.weights.h5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        weight_files.load_file(model, path)
        zoo.load(
            "packed_lenet", weights=trained / "model.weights.h5", num_members=2
        )  # config.json has it
    flip(path)
    with raises_line(zoo.WeightsError, "sha256 is not the one beside it"):
        weight_files.load_file(model, path)
    (tmp_path / "mine.weights.h5.sha256").write_text("nothing")
    with raises_line(zoo.WeightsError, "holds no sha256"):
        weight_files.load_file(model, path)


@pytest.mark.fast(*map(str, range(0, len(mutations.H5_CHANGES), 4)))
@pytest.mark.parametrize("change", range(len(mutations.H5_CHANGES)))
def test_changed_arrays_and_links_are_refused_and_leave_the_model_as_it_was(change, tmp_path):
    path, model = _mlp_file(tmp_path), zoo.build(Single(), "mlp", 3, (4, 4, 1))
    before = model.network.get_weights()
    with h5py.File(path, "r+") as root:
        name = "layers/dense/vars/0"
        mutations.H5_CHANGES[change](root, name, root[name][()], np.random.default_rng(0))
    try:
        weight_files.load_file(model, path)
    except zoo.WeightsError as error:
        assert str(error).isprintable()
        for old, new in zip(before, model.network.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    else:  # float16, a finite number, or a mark that says nothing of float32
        assert all(np.isfinite(weight).all() for weight in model.network.get_weights())


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["int32", "float64", "complex64", "O"])
def test_foreign_types_and_numbers_that_are_none_are_refused(kind, number, tmp_path, raises_line):
    path, model = _mlp_file(tmp_path), zoo.build(Single(), "mlp", 3, (4, 4, 1))
    good = path.read_bytes()
    with h5py.File(path, "r+") as root:
        root["layers/dense/vars/1"][0] = number
    with raises_line(zoo.WeightsError, "NaN or infinite"):
        weight_files.load_file(model, path)
    path.write_bytes(good)
    with h5py.File(path, "r+") as root:
        value = root["layers/dense/vars/0"][()]
        del root["layers/dense/vars/0"]
        data = value.astype(str).astype(object) if kind == "O" else value.astype(kind)
        root["layers/dense/vars/0"] = data
    with raises_line(zoo.WeightsError, "type|not numbers|says that it holds"):
        weight_files.load_file(model, path)


@pytest.mark.slow
def test_shards_are_those_that_are_listed(shards, raises_line):
    folder, config = shards
    model = zoo.build(Packed(2, 1), "resnet20", 5, (8, 8, 3))
    parts = sorted(name for name in config["files"] if name.endswith(".h5"))
    stray = folder / "model_00099.weights.h5"
    stray.write_bytes((folder / parts[0]).read_bytes())
    with raises_line(zoo.WeightsError, "model_00099.*not among the files"):
        weight_files.load_folder(model, folder, config)
    stray.unlink()
    places = json.loads((folder / "model.weights.json").read_text())
    for name in ("../x.weights.h5", "/proc/kmsg", 3, "model.weights.npz"):
        places["weight_map"][next(iter(places["weight_map"]))] = name
        (folder / "model.weights.json").write_text(json.dumps(places))
        with raises_line(zoo.WeightsError, "not a file in its folder"):
            weight_files.load_file(model, folder / "model.weights.json")


def test_a_kernel_beyond_float16_stays_as_it_is(tmp_path, same_weights):
    model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    kernel = model.network.weights[0]
    kernel.assign(np.full(kernel.shape, 1e5))
    weight_files.load_folder(model, tmp_path, {"files": weight_files.write(model, tmp_path)})
    assert (model.network.get_weights()[0] == 1e5).all()


def test_a_model_in_float64_is_written_as_any_other(tmp_path):
    keras.config.set_dtype_policy("float64")
    model = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    written = weight_files.write(model, tmp_path)
    keras.config.set_dtype_policy("float32")
    shipped = zoo.build(Single(), "mlp", 3, (4, 4, 1))
    weight_files.load_folder(shipped, tmp_path, {"files": written})
    for ours, theirs in zip(shipped.network.get_weights(), model.network.get_weights(), strict=True):
        assert theirs.dtype == "float64"
        np.testing.assert_array_equal(ours, halved(theirs.astype("float32")))


def test_weights_whose_answers_are_not_finite_are_refused(tiny, tmp_path, raises_line):
    model, path = tiny(), tmp_path / "model.weights.h5"
    good = model.get_weights()
    model.set_weights([np.full_like(weight, 1e38) for weight in good])
    model.network.save_weights(path)
    hashes.write_hash(path)
    model.set_weights(good)
    with raises_line(zoo.WeightsError, "its answers are not finite; restore it"):
        zoo.weights.load_file(model, path)
    for now, before in zip(model.get_weights(), good, strict=True):
        np.testing.assert_array_equal(now, before)


def test_a_spec_that_was_changed_after_training_is_refused(folder, raises_line):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    mean = config["spec"]["mean"]
    config["spec"]["mean"] = [value * 1.0001 for value in mean]  # less than answers would tell
    path.write_text(json.dumps(config))
    with raises_line(zoo.WeightsError, "its spec was changed after training"):
        zoo.load("packed_lenet", weights=folder)
