"""Where the corrupted images of a report come from: the published files, or made on the fly."""

import numpy as np
import pytest

import zoo
from zoo.data.arrays import Split
from zoo.evaluation.corrupted_sets import CorruptedSets, means
from zoo.evaluation.corruptions import corrupt, published, unpublished
from zoo.evaluation.evaluate import evaluate

RNG = np.random.default_rng(4)
TEST = Split(RNG.integers(0, 256, (9, 32, 32, 3), "uint8"), np.arange(9))


@pytest.fixture(scope="module")
def files():
    """{(kind, severity): images and labels} that stand for the published ones: nine images of fog."""
    return {
        ("fog", s): Split(RNG.integers(0, 256, (9, 32, 32, 3), "uint8"), np.arange(9))
        for s in range(1, 6)
    }


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """With `fog` as `.npz` files and a clean test split."""
    folder = tmp_path_factory.mktemp("npz")
    (folder / "cifar10_corrupted").mkdir()
    np.savez(folder / "cifar10.npz", x_test=TEST.images, y_test=TEST.labels)
    for (kind, severity), split in files.items():
        np.savez(
            folder / f"cifar10_corrupted/{kind}_{severity}.npz", x_test=split.images, y_test=split.labels
        )
    return folder


def prepare(name, split, folder):
    """Let TensorFlow Datasets' own builder write a data set's test split, from our arrays."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder(name, data_dir=str(folder))
    examples = [(i, {"image": x, "label": int(y)}) for i, (x, y) in enumerate(zip(*split))]
    builder._split_generators = lambda *_, **__: {"test": examples}
    builder.download_and_prepare()


@pytest.mark.slow
def test_tensorflow_datasets_folders_are_read(files, tmp_path):
    for (kind, severity), split in files.items():
        prepare(f"cifar10_corrupted/{kind}_{severity}", split, tmp_path)
    prepare("cifar10_corrupted/frosted_glass_blur_2", files["fog", 1], tmp_path)
    assert (tmp_path / "cifar10_corrupted/fog_3/1.0.0").is_dir()
    assert unpublished(tmp_path, ("fog",)) == []
    assert unpublished(tmp_path, ("fog", "glass_blur"), (2, 3)) == [
        "cifar10_corrupted/frosted_glass_blur_3"
    ]
    for (kind, severity), split in files.items():
        given = published(kind, severity, tmp_path)
        labels = {image.tobytes(): label for image, label in zip(*split)}
        assert {image.tobytes(): label for image, label in zip(*given)} == labels
    sets = CorruptedSets.of("cifar10", tmp_path, TEST, 5, ("fog",))
    for kind, severity, images, given in sets:
        labels = {image.tobytes(): label for image, label in zip(*files[kind, severity])}
        assert len(images) == 5 and all(labels[i.tobytes()] == g for i, g in zip(images, given))


def test_published_images_are_taken_where_all_are_there(files, folder):
    sets = CorruptedSets.of("cifar10", folder, TEST, 100, ("fog",))
    assert sets.record()["corruption_source"] == "published"
    shown = list(sets)
    assert [one[:2] for one in shown] == [("fog", s) for s in range(1, 6)]
    for kind, severity, images, labels in shown:
        np.testing.assert_array_equal(images, files[kind, severity].images)
        np.testing.assert_array_equal(labels, files[kind, severity].labels)


def test_else_images_are_made_and_the_first_missing_file_is_named(folder):
    sets = CorruptedSets.of("cifar10", folder, TEST, 4, ("snow", "fog"))
    assert sets.record() == {
        "corrupted_images": 4, "corruption_kinds": ["snow", "fog"], "corruption_source": "made",
        "corruptions_not_published": "5 of 10, first cifar10_corrupted/snow_1",
    }  # fmt: skip
    shown = list(sets)
    rows = [TEST.labels.tolist().index(label) for label in shown[0][3]]
    assert rows == sorted(set(rows)) and len(rows) == 4
    for kind, severity, images, labels in shown:
        np.testing.assert_array_equal(images, corrupt(TEST.images[rows], kind, severity))
        np.testing.assert_array_equal(labels, TEST.labels[rows])


def test_no_other_data_set_has_published_images(folder):
    record = CorruptedSets.of("cifar100", folder, TEST, 4, ("fog",)).record()
    assert record["corruption_source"] == "made" and record["corruptions_not_published"] is None
    none = CorruptedSets.of("cifar10", folder, TEST, 0, ("fog",))
    assert list(none) == [] and none.record()["corruption_source"] is None


def test_means_are_of_kinds_and_severities():
    rows = {kind: [{"accuracy": a + s / 8, "nll": 1.0, "ece": s} for s in range(5)]
            for kind, a in (("fog", 0), ("snow", 0.25))}  # fmt: skip
    found = means(rows)
    assert found["accuracy"]["mean"] == 0.375 and found["accuracy"]["kinds"] == {
        "fog": 0.25,
        "snow": 0.5,
    }
    assert found["ece"]["severities"] == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4}
    assert means({}) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "said"), [(("fog",), "published files of CIFAR-10-C"),
                                             (("fog", "snow"), "on the fly from 9 test images")])  # fmt: skip
def test_the_report_says_which_and_measures_them(kinds, said, files, folder, tmp_path):
    results = evaluate(
        ["single_lenet"], "cifar10", folder, tmp_path, rounds=0, progress=False, kinds=kinds
    )
    texts = [(tmp_path / name).read_text() for name in ("report.md", "report.html")]
    assert all(said in text for text in texts)
    assert all(("first cifar10_corrupted/snow_1" in text) == ("snow" in kinds) for text in texts)
    model = results["models"]["single_lenet"]
    assert list(model["corruption_means"]["accuracy"]["kinds"]) == list(kinds)
    if kinds == ("fog",):
        images, labels = files["fog", 3]
        right = zoo.predict(zoo.load("single_lenet", weights="cifar10"), images).labels == labels
        assert model["corruptions"]["fog"][2]["accuracy"] == pytest.approx(right.mean())
