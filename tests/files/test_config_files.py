"""`config.json` and `index.json` that are damaged, hostile or absurd."""

import copy
import json
import os

import pytest

import zoo
from zoo import registry
from zoo.files import config_files, json_files

GOOD = json.loads((registry.home() / "packed_lenet-mnist" / "config.json").read_text())
DEEP = "[" * 100_000
TEXTS = {
    "nothing": "", "no JSON": "{", "a page": "<html></html>", "NaN": '{"spec": NaN}', "infinite": '{"spec": 1e999}',
    "deep": DEEP, "twice": '{"spec": {}, "spec": {}}', "escape": '{"spec": "\\u001b[31m"}', "binary": "\udcff\udcfe",
    "a number": "1" * 5000, "a list": "[]", "text": '"spec"',
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_files_that_are_not_a_config(kind, tmp_path, raises_line):
    (tmp_path / "config.json").write_text(TEXTS[kind], errors="surrogateescape")
    with raises_line(zoo.WeightsError, "config.json"):
        config_files.read_config(tmp_path)


def changed(**spec):
    config = copy.deepcopy(GOOD)
    config["spec"] |= spec
    return config


RECORD = {"sha256": "0" * 64, "bytes": 10}
CHANGES = {
    "unknown entry": {**GOOD, "run": "rm"},
    "unknown entry of spec": changed(dropout=0.5),
    "no mean": {**GOOD, "spec": {k: v for k, v in GOOD["spec"].items() if k != "mean"}},
    "mean of three": changed(mean=[1.0, 2.0, 3.0]),
    "mean of text": changed(mean=["0"]),
    "std of 0": changed(std=[0]),
    "absurd mean": changed(mean=[1e30]),
    "huge integer": changed(mean=[10**400]),
    "absurd classes": changed(num_classes=10**9),
    "one class": changed(num_classes=1),
    "classes true": changed(num_classes=True),
    "absurd members": {**changed(method={"name": "packed", "num_members": 10**6}), "num_members": 10**6},
    "absurd alpha": changed(method=GOOD["spec"]["method"] | {"alpha": 1e9}),
    "other members": {**GOOD, "num_members": 3},
    "absurd shape": changed(input_shape=[100_000, 100_000, 1]),
    "shape of two": changed(input_shape=[28, 28]),
    "unknown stem": changed(stem="none"),
    "unknown method": changed(method={"name": "os.system"}),
    "method is a list": changed(method=["packed"]),
    "method without a name": changed(method={"num_members": 4}),
    "backbone is a list": changed(backbone=["lenet"]),
    "leaves the folder": {**GOOD, "files": {"../model.weights.h5": RECORD}},
    "absolute": {**GOOD, "files": {"/proc/kmsg": RECORD}},
    "no weights": {**GOOD, "files": {"config.json": RECORD}},
    "short hash": {**GOOD, "files": {"model.weights.h5": {"sha256": "0", "bytes": 1}}},
    "negative size": {**GOOD, "files": {"model.weights.h5": {**RECORD, "bytes": -1}}},
    "files is a list": {**GOOD, "files": ["model.weights.h5"]},
    "names of numbers": {**GOOD, "class_names": list(range(10))},
    "probe of text": {**GOOD, "probe": [["0"], ["1"]]},
    "no name": {**GOOD, "name": None},
    "two data sets": {**GOOD, "dataset": ["mnist", "cifar10"]},
    "a number for the recipe": {**GOOD, "recipe": 7},
    "a list for the metrics": {**GOOD, "metrics": []},
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_configs_that_describe_no_model(kind, tmp_path, raises_line):
    (tmp_path / "config.json").write_text(json.dumps(CHANGES[kind]))
    with raises_line(zoo.WeightsError, "config.json.*restore"):
        config_files.read_config(tmp_path)
    assert config_files.check_config(GOOD, tmp_path) == GOOD


def test_special_files_are_not_waited_for(tmp_path, raises_line):
    os.mkfifo(tmp_path / "pipe.weights.h5")
    (tmp_path / "device.weights.h5").symlink_to("/dev/zero")
    (tmp_path / "kernel.weights.h5").symlink_to("/proc/self/maps")
    (tmp_path / "folder.weights.h5").mkdir()
    (tmp_path / "circle.weights.h5").symlink_to(tmp_path / "circle.weights.h5")
    for path in tmp_path.iterdir():
        with raises_line(zoo.WeightsError, "regular file|empty|cannot be read"):
            json_files.check_regular(path)
    with raises_line(zoo.WeightsError, "cannot be read|missing"):
        json_files.check_regular("nul\0byte")


ENTRY = json.loads((registry.home() / "index.json").read_text())[0]
ENTRIES = {
    "no list": ENTRY,
    "no object": [1],
    "folder outside": [{**ENTRY, "folder": "../x"}],
    "no name": [{**ENTRY, "name": 3}],
    "no files": [{**ENTRY, "files": {}}],
    "metrics of a list": [{**ENTRY, "metrics": []}],
    "no accuracy": [{**ENTRY, "metrics": {ENTRY["dataset"]: {"nll": 1, "ece": 1}}}],
    "parameters of text": [{**ENTRY, "parameters": "many"}],
    "no hash": [{**ENTRY, "config": {"bytes": 3}}],
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_damaged_index_is_said_by_every_command_that_needs_it(
    kind, tmp_path, monkeypatch, raises_line
):
    (tmp_path / "index.json").write_text(json.dumps(ENTRIES[kind]))
    monkeypatch.setattr(registry, "home", lambda: tmp_path)
    registry.index.cache_clear()
    for use in (zoo.list_models, lambda: zoo.card("packed_lenet"), lambda: zoo.load("packed_lenet")):
        with raises_line(zoo.WeightsError, "index.json is damaged.*reinstall"):
            use()
    registry.index.cache_clear()
