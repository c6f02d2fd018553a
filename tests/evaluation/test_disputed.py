"""The photographs of a report: which they are, and what they are called."""

import types

import numpy as np
import pytest

from zoo.evaluation.disputed import CLASSES, caption, disputed, names_of_classes, short_names
from zoo.evaluation.evaluate import Evidence
from zoo.uncertainty import Prediction


def members(*votes):
    """A `Prediction` of one image for each tuple of the members' classes out of three."""
    return Prediction(np.eye(3)[np.array(votes)] * 0.94 + 0.02)


@pytest.mark.parametrize(
    ("of_model", "of_test", "dataset", "expected"),
    [
        (["a", "b"], ("c", "d"), "mnist", ["a", "b"]),
        (None, ("c", "d"), "mnist", ("c", "d")),
        (None, (), "mnist", None),
        (None, ("c", "d", "e"), "mnist", None),  # of other classes
        (None, (), "cifar10", None),  # the model has two classes
    ],
)
def test_names_are_the_models_then_the_data_sets(of_model, of_test, dataset, expected):
    config = {"class_names": of_model, "spec": {"num_classes": 2}}
    assert names_of_classes(config, types.SimpleNamespace(class_names=of_test), dataset) == expected


def test_well_known_classes_have_names_whose_files_have_none():
    config, test = {"spec": {"num_classes": 10}}, types.SimpleNamespace(class_names=())
    assert names_of_classes(config, test, "fashion_mnist") is CLASSES["fashion_mnist"]


def test_captions_have_names_and_numbers_only_where_there_are_none():
    images, labels = np.zeros((2, 4, 4, 3), "uint8"), np.array([2, 0])
    predictions = {
        "one": members((0,), (0,)),
        "named": members((0, 0), (1, 2)),
        "not": members((1, 1), (0, 1)),
    }
    names = {"named": ["cat", "dog, domestic dog", "<owl>"], "not": None}
    html = disputed(Evidence(images, labels, predictions, {}, names))
    said = ["cat; members say dog, &lt;owl&gt;", "&lt;owl&gt;; members say cat (2)"]
    assert all(html.count(f'alt="{text}">{text}</li>') == 1 for text in said)
    assert html.index(said[0]) < html.index(said[1])  # they disagree about the second image
    assert "class 0; members say 0, 1<" in html and "one" not in html.split("<h3>")[1]
    assert disputed(Evidence(images, labels, {"one": members((0,), (0,))}, {})) == ""


def test_names_are_shortened_to_what_still_tells_them_apart():
    names = [
        "European fire salamander",
        "Supercalifragilisticexpialidocious",
        "pickup_truck",
        ", x",
        "a, b",
        "a, c",
    ]
    assert short_names(names) == [
        "European fire…", "Supercalifragilistice…", "pickup truck", ", x", "a, b", "a, c"
    ]  # fmt: skip
    assert short_names(None) is None
    assert caption(1, [1, 0, 0, 1], ["a", "b"]) == "b; members say b (2), a (2)"
