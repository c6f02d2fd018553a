"""`zoo.data.prepare`: the official archives of Tiny ImageNet and CIFAR-100, made small."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from zoo.data import arrays, prepare, sample

ROOT = "tiny-imagenet-200/"
WORDS = {"n01": "crane", "n02": "crane, wader", "n03": "dog, hound", "n09": "not in the data set"}
GREY = f"{ROOT}train/n03/images/n03_1.JPEG"


def _jpeg(level, mode="RGB", side=64):
    file = io.BytesIO()
    Image.new(mode, (side, side), level if mode == "L" else (level, 0, 0)).save(file, "JPEG", quality=95)
    return file.getvalue()


def _tiny(path, **changed):
    """An archive whose images have a red of 50 times their class, and one that is grey."""
    files = {
        f"{ROOT}wnids.txt": "n03\nn01\nn02\n",  # not in the order of the classes
        f"{ROOT}words.txt": "".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()),
        f"{ROOT}val/val_annotations.txt": "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn03\t1\t1\t5\t5\n",
        f"{ROOT}val/images/val_0.JPEG": _jpeg(50),
        f"{ROOT}val/images/val_1.JPEG": _jpeg(100),
    }
    for label, wnid in enumerate(("n01", "n02", "n03")):
        for index in range(2):
            files[f"{ROOT}train/{wnid}/images/{wnid}_{index}.JPEG"] = _jpeg(50 * label)
    files[GREY] = _jpeg(100, mode="L")
    files |= changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in files.items():
            if contents is not None:
                archive.writestr(name, contents)
    return path


def _cifar(path, train=((3, 1), (0, 0), (7, 2)), names="apple\nbaby\nbear\n"):
    """An archive whose images have their fine label in red, 10 in green and their column in blue."""
    columns = np.tile(np.arange(32, dtype=np.uint8), 32)
    records = [
        bytes([coarse, fine, *[fine] * 1024, *[10] * 1024]) + columns.tobytes() for coarse, fine in train
    ]
    files = {
        "train.bin": b"".join(records),
        "test.bin": records[0],
        "fine_label_names.txt": names.encode(),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in files.items():
            entry = tarfile.TarInfo(f"cifar-100-binary/{name}")
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))
    return path


def test_tiny_imagenet(tmp_path, capsys):
    archive = _tiny(tmp_path / "tiny-imagenet-200.zip")
    assert prepare.main(["tiny_imagenet", str(archive), str(tmp_path / "data")]) == 0
    assert "6 training and 2 test images of 3 classes" in capsys.readouterr().out
    train = arrays.load("tiny_imagenet", "train", tmp_path / "data")
    test = arrays.load("tiny_imagenet", "test", tmp_path / "data")
    assert train.images.shape == (6, 64, 64, 3) and train.images.dtype == np.uint8
    assert train.class_names == test.class_names == ("crane (n01)", "crane, wader", "dog")
    assert sorted(train.labels) == [0, 0, 1, 1, 2, 2] and list(train.labels) != sorted(train.labels)
    assert sorted(test.labels) == [1, 2]
    for split in (train, test):
        red = split.images[:, 32, 32, 0].astype(int)
        np.testing.assert_allclose(red, 50 * split.labels, atol=2)  # JPEG rounds
    grey = (train.images[:, 32, 32] > 90).all(axis=-1)
    assert list(train.labels[grey]) == [2]


def test_cifar100_keeps_pixels(tmp_path):
    archive = _cifar(tmp_path / "cifar-100-binary.tar.gz")
    prepare.prepare("cifar100", archive, tmp_path)
    train, test = (arrays.load("cifar100", split, tmp_path) for split in ("train", "test"))
    order = np.random.default_rng(0).permutation(3)
    np.testing.assert_array_equal(train.labels, np.array([1, 0, 2])[order])
    np.testing.assert_array_equal(train.images[:, 5, 5, 0], train.labels)
    assert (train.images[..., 1] == 10).all()
    np.testing.assert_array_equal(train.images[0, 7, :, 2], np.arange(32))
    assert train.class_names == ("apple", "baby", "bear") and list(test.labels) == [1]


def test_runs_give_equal_arrays(tmp_path):
    archive = _tiny(tmp_path / "tiny-imagenet-200.zip")
    first, second = prepare.tiny_imagenet(archive), prepare.tiny_imagenet(archive)
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({f"{ROOT}wnids.txt": None}, "wnids.txt"),
        ({f"{ROOT}val/val_annotations.txt": ""}, "val_0.JPEG"),
        ({f"{ROOT}words.txt": "n01\tcrane\n"}, "n02"),
        ({GREY: b"no image"}, "cannot identify image"),
        ({GREY: _jpeg(0, side=32)}, "n03_1.JPEG has 32 x 32 pixels"),
        ({f"{ROOT}val/images/val_{i}.JPEG": None for i in (0, 1)}, "a split has no images"),
    ],
)
def test_wrong_tiny_imagenet(tmp_path, capsys, changed, reason):
    archive = _tiny(tmp_path / "tiny-imagenet-200.zip", **changed)
    _refused(["tiny_imagenet", str(archive), str(tmp_path)], capsys, reason, "download it again")
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize("name", ["tiny_imagenet", "cifar100"])
def test_damaged_archives(tmp_path, capsys, name):
    path = tmp_path / "archive"
    whole = {"tiny_imagenet": _tiny, "cifar100": _cifar}[name](path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    _refused([name, str(path), str(tmp_path)], capsys, "is damaged", name)
    path.write_bytes(b"")
    _refused([name, str(path), str(tmp_path)], capsys, "is damaged", name)
    path.unlink()
    _refused([name, str(path), str(tmp_path)], capsys, "no archive", "docs/datasets.md")


def test_wrong_cifar100(tmp_path, capsys):
    archive = _cifar(tmp_path / "labels.tar.gz", names="apple\nbaby\n")
    _refused(["cifar100", str(archive), str(tmp_path)], capsys, "label 2 of 2 classes")
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as python:
        python.addfile(tarfile.TarInfo("cifar-100-python/train"))
    archive = str(tmp_path / "cifar-100-python.tar.gz")
    _refused(["cifar100", archive, str(tmp_path)], capsys, "train.bin", "cifar-100-binary.tar.gz")


def test_a_failure_keeps_the_file_before(tmp_path, monkeypatch):
    archive = _cifar(tmp_path / "cifar-100-binary.tar.gz")
    path = prepare.prepare("cifar100", archive, tmp_path)
    before = path.read_bytes()

    def full(file, **contents):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert prepare.main(["cifar100", str(archive), str(tmp_path)]) == 2
    assert path.read_bytes() == before and [file.name for file in tmp_path.glob("*.npz")] == [path.name]


def _refused(arguments, capsys, *words):
    assert prepare.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error


@pytest.mark.parametrize("arguments", [[], ["nothing", "a", "b"], ["cifar100", "nowhere", "data"]])
def test_wrong_arguments_are_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = prepare.main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2 and said.startswith("zoo") and len(said.splitlines()) == 1


def test_a_sample_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments in ([], [str(tmp_path / "file")]):
        assert sample.main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("zoo.data.sample: ") and len(said.splitlines()) == 1
