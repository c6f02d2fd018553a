"""Names of classes: given, kept in files, read from weights, shown on cards, answered."""

import json

import keras
import numpy as np
import pytest

import zoo

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def named():
    return zoo.load("single_mlp", weights=None, input_shape=(16, 16, 3), class_names=NAMES)


def test_names_decide_the_number_of_classes_and_are_answered(named, images):
    assert named.num_classes == 3 and named.class_names == NAMES
    prediction = zoo.predict(named, images)
    expected = [NAMES[label] for label in prediction.probabilities.argmax(-1)]
    assert prediction.names.tolist() == expected


def test_names_survive_a_keras_file(named, images, tmp_path):
    named.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.class_names == NAMES
    np.testing.assert_array_equal(zoo.predict(loaded, images).names, zoo.predict(named, images).names)


def test_classes_without_names_say_how_to_get_them(tiny, images, raises_line):
    with raises_line(ValueError, r"no names; load it with class_names=\[...\]"):
        zoo.predict(tiny(), images).names  # noqa: B018


@pytest.mark.parametrize(
    ("names", "pattern"),
    [(["a", "b"], "2 names for 3 classes"), (["a", "b", "a"], "'a' more than once")],
)
def test_wrong_names_are_refused(names, pattern, raises_line):
    with raises_line(ValueError, pattern):
        zoo.load("single_mlp", weights=None, num_classes=3, class_names=names)


def test_weights_bring_their_names_unless_the_classes_are_others(named, publish, tmp_path):
    config = publish(named, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "class_names": NAMES}))
    assert zoo.load("single_mlp", weights=tmp_path).class_names == NAMES
    assert zoo.load("single_mlp", weights=tmp_path, class_names=["a", "b", "c"]).class_names == [
        "a",
        "b",
        "c",
    ]
    assert zoo.load("single_mlp", weights=tmp_path, num_classes=4).class_names is None


def test_cards_list_twelve_names_and_count_the_others():
    card = zoo.card("single_lenet", "fashion_mnist")
    assert "10 classes: T-shirt/top, Trouser, Pullover," in str(card)
    many = zoo.Card("single_lenet", {**card.config, "class_names": [f"c{i}" for i in range(15)]})
    assert "15 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and 3 more." in str(many)
