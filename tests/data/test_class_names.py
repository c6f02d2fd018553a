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


def test_names_may_have_spaces_and_joiners_of_any_language_but_no_orders(raises_line):
    names = ["a\u00a0b", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u96ea"]
    model = zoo.load("single_mlp", weights=None, num_classes=3, class_names=names)
    assert model.class_names == names
    for bad in ("\x1b[31m", "a\u2028b", "\u202etxt", "\ud800"):
        with raises_line(ValueError, "control characters"):
            model.class_names = [bad, "b", "c"]


def test_weights_bring_their_names_unless_the_classes_are_others(named, publish, tmp_path):
    config = publish(named, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "class_names": NAMES}))
    assert zoo.load("single_mlp", weights=tmp_path).class_names == NAMES
    assert zoo.load("single_mlp", weights=tmp_path, num_classes=4).class_names is None
    others = zoo.load("single_mlp", weights=tmp_path, class_names=["a", "b", "c"])
    assert others.class_names == ["a", "b", "c"]


def test_other_classes_have_a_new_head(named, publish, tmp_path):
    config = publish(named, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "class_names": NAMES}))
    *body, head, _ = named.network.get_weights()
    for names, kept in ((None, True), (NAMES, True), (["a", "b", "c"], False), (NAMES[::-1], False)):
        *found, new, _ = zoo.load(
            "single_mlp", weights=tmp_path, class_names=names
        ).network.get_weights()
        assert np.allclose(new, head, atol=1e-3) == kept
        for one, other in zip(found, body, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


def test_attributes_are_checked(named, tiny, raises_line):
    model = tiny()
    for wrong, said in ((["a", "b"], "2 names for 3 classes"), (["a", "a", "b"], "more than once")):
        with raises_line(ValueError, said):
            model.class_names = wrong
    with raises_line(ValueError, "resize must be"):
        model.resize = "Crop"
    assert model.class_names is None and model.resize is None
    model.class_names, model.resize = np.array(NAMES), "squash"
    assert model.class_names == NAMES and model.resize == "squash"


def test_labels_of_some_of_the_classes_must_mean_the_same(tiny, images, labels, raises_line):
    model = tiny()
    model.class_names = NAMES
    model.fit(Named(images, labels % 2, NAMES[:2]), verbose=0)
    other = Named(images, labels % 2, NAMES[1:])
    for use in (model.fit, model.evaluate, lambda data: zoo.predict(model, data), lambda data: zoo.calibrate(model, data),
                lambda data: model.fit(images, labels, validation_data=data, verbose=0)):  # fmt: skip
        with raises_line(ValueError, "labels stand for dog, owl, the model's begin with cat, dog, owl"):
            use(other)


def test_cards_list_twelve_names_and_count_the_others():
    card = zoo.card("single_lenet", "fashion_mnist")
    assert "10 classes: T-shirt/top, Trouser, Pullover," in str(card)
    many = zoo.Card("single_lenet", {**card.config, "class_names": [f"c{i}" for i in range(15)]})
    assert "15 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and 3 more." in str(many)


class Named(keras.utils.PyDataset):
    """A data set as `image_dataset_from_directory` returns it: batches and names."""

    def __init__(self, images, labels, class_names):
        super().__init__()
        self.images, self.labels, self.class_names = images, labels, class_names

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.images, self.labels


def test_a_data_set_or_its_folder_gives_names(images, labels, tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
    for source in (Named(images, labels, NAMES), tmp_path, str(tmp_path), tuple(NAMES)):
        model = zoo.load("single_mlp", weights=None, input_shape=(16, 16, 3), class_names=source)
        assert model.num_classes == 3 and model.class_names == NAMES


def test_a_source_without_names_is_refused(tmp_path, raises_line):
    for source in (str(tmp_path), "nowhere"):
        with raises_line(ValueError, "is not a folder with a subfolder for each class"):
            zoo.load("single_mlp", weights=None, class_names=source)
    with raises_line(ValueError, "this data set has no class_names"):
        zoo.load("single_mlp", weights=None, class_names=3)


def test_fit_takes_names_from_the_data_set(tiny, images, labels, raises_line):
    model = tiny()
    model.fit(Named(images, labels, NAMES), verbose=0)
    assert model.class_names == NAMES
    with raises_line(ValueError, "load the model with class_names=dataset"):
        model.fit(Named(images, labels, NAMES[::-1]), verbose=0)
    model.fit(Named(images, labels, ["Cat", "Dog", "Owl"]), verbose=0)
    assert model.class_names == NAMES  # the user's own words
    model.names_from_weights = True
    model.fit(Named(images, labels, ["x", "y", "z"]), verbose=0)
    assert model.class_names == ["x", "y", "z"]
    with raises_line(ValueError, "4 classes and this model 3; load it with num_classes=4"):
        model.fit(Named(images, labels, [*NAMES, "fox"]), verbose=0)


def test_decoded_predictions_have_the_form_of_keras(named, images):
    prediction = zoo.predict(named, images)
    for answers in (prediction, named.predict(images, verbose=0), prediction.probabilities):
        rows = zoo.decode_predictions(answers, top=2, class_names=NAMES)
        assert len(rows) == 5
        for row, p in zip(rows, prediction.probabilities):
            first, second = np.argsort(-p)[:2]
            assert [(i, name) for i, name, _ in row] == [
                (str(first), NAMES[first]), (str(second), NAMES[second])
            ]  # fmt: skip
            assert [q for *_, q in row] == pytest.approx([p[first], p[second]], abs=1e-6)


def test_imagenet_is_decoded_by_wordnet_ids():
    from zoo import imagenet

    p = np.eye(1000)[[1]]
    assert zoo.decode_predictions(p, 1, imagenet.class_names()) == [[("n01443537", "goldfish", 1.0)]]


@pytest.mark.parametrize(
    ("predictions", "pattern"),
    [
        (np.eye(3), "have no names"),
        (np.eye(3)[None], r"must be \(N, K\)"),
        (np.full((1, 3), 2.0), "sum to 1"),
    ],
)
def test_what_is_not_a_prediction_is_not_decoded(predictions, pattern, raises_line):
    with raises_line(ValueError, pattern):
        zoo.decode_predictions(predictions)


@pytest.mark.parametrize("top", [0, -1, 1.5])
def test_at_least_one_class_is_decoded(top, raises_line):
    with raises_line(ValueError, f"top must be an integer >= 1; got {top}"):
        zoo.decode_predictions(np.eye(3), top, NAMES)


def test_top_and_repr_tell_names_and_probabilities(named, images):
    prediction = zoo.predict(named, np.concatenate([images, images]))
    assert prediction.top(3)[0][0] == (
        prediction.names[0],
        pytest.approx(prediction.confidence[0], abs=1e-6),
    )
    lines = repr(prediction).splitlines()
    assert lines[0] == "Prediction of 10 images by 1 members: 3 classes"
    assert prediction.names[0] in lines[1] and f"{prediction.confidence[0]:.3f}" in lines[1]
    assert lines[-1] == "  ... and 5 more" and len(lines) == 7
    assert zoo.Prediction(np.array([[[0.2, 0.8]]])).top(1) == [[(1, 0.8)]]


def test_a_table_has_a_row_for_each_image(named, images):
    pytest.importorskip("pandas")
    prediction = zoo.predict(named, images)
    table = prediction.to_pandas()
    assert list(table) == [
        "name",
        "label",
        "confidence",
        "entropy",
        "mutual_information",
        "disagreement",
    ]
    assert table["name"].tolist() == prediction.names.tolist()
    np.testing.assert_array_equal(table["entropy"], prediction.entropy)
