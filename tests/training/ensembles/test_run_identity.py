"""Workers of one folder agree on the run and its data, or stop."""

import json

import numpy as np
import pytest

from zoo.training.ensembles import run_identity


class Split:
    """Random images and labels of a seed; `images` and `labels` change bits of one value."""

    def __init__(self, seed, images=0, labels=0):
        rng = np.random.default_rng(seed)
        self.images = rng.integers(0, 256, (20, 4, 4, 1), "uint8")
        self.labels = rng.integers(0, 9, 20, "uint8")
        self.images[3, 0, 0, 0] ^= images
        self.labels[3] ^= labels
        self.image_shape = self.images.shape[1:]

    def __len__(self):
        return len(self.images)


def agree(folder, training=(1,), held_out=(2,), test=(3,), **this):
    return run_identity.agree(
        folder,
        "search",
        {"recipe": {"epochs": 3}, **this},
        (Split(*training), Split(*held_out), Split(*test)),
    )


def test_workers_of_the_same_run_share_its_name(tmp_path):
    name = agree(tmp_path)
    assert name.startswith("search-") and agree(tmp_path) == name
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


def test_a_folder_that_does_not_say_its_data_is_refused(tmp_path, raises_line):
    agree(tmp_path)
    record = json.loads((tmp_path / "search.json").read_text())
    del record["data"]
    (tmp_path / "search.json").write_text(json.dumps(record))
    with raises_line(ValueError, "an earlier version, which does not say its data; .*--output_dir"):
        agree(tmp_path)


@pytest.mark.parametrize(
    "other, pattern",
    [
        ({"training": (1, 1)}, "other training images or labels"),
        ({"training": (1, 0, 1)}, "other training images or labels"),
        ({"held_out": (2, 1)}, "other held-out images"),
        ({"held_out": (2, 0, 1)}, "other held-out images"),
        ({"test": (3, 1)}, "other test images"),
        ({"recipe": {"epochs": 4}}, "another epochs .3, not 4"),
        ({"recipe": {"epochs": 4}, "training": (4,)}, "another epochs .3, not 4"),
        ({"backend": "jax"}, "another backend"),
    ],
)
def test_another_run_or_other_data_are_refused(other, pattern, tmp_path, raises_line):
    agree(tmp_path)
    before = (tmp_path / "search.json").read_bytes()
    with raises_line(ValueError, f"{pattern}.*--output_dir"):
        agree(tmp_path, **other)
    assert (tmp_path / "search.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
