"""`zoo.load`, `zoo.list_models` and `zoo.card`: which weights there are, and where they fit."""

import json

import numpy as np
import pytest

import zoo
from zoo import registry


@pytest.mark.slow
def test_folder_of_a_training_run_loads(trained, same_weights):
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


@pytest.mark.slow
def test_the_same_number_of_classes_keeps_the_heads_too(resnet, same_weights):
    folder, _ = resnet
    same_weights(*(zoo.load("packed_resnet20", weights=folder, num_classes=k) for k in (None, 5)))


@pytest.mark.slow
def test_another_image_size_keeps_all_weights_where_the_backbone_pools(resnet, same_weights):
    folder, _ = resnet
    model = zoo.load("packed_resnet20", weights=folder, input_shape=(12, 10, 3))
    same_weights(model, zoo.load("packed_resnet20", weights=folder))
    assert zoo.predict(model, np.zeros((2, 12, 10, 3), "uint8")).members.shape == (2, 2, 5)


@pytest.mark.slow
def test_activation_goes_with_weights(resnet, same_weights):
    folder, _ = resnet
    models = [zoo.load("packed_resnet20", weights=folder, activation=a) for a in (None, "softmax")]
    same_weights(*models)
    x = np.full((1, 8, 8, 3), 50, "uint8")
    log_p, p = (model.predict(x, verbose=0) for model in models)
    np.testing.assert_allclose(np.exp(log_p), p, atol=1e-6)


@pytest.mark.slow
def test_arguments_that_agree_with_the_weights_pass(resnet, same_weights):
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


def test_models_are_listed_by_what_they_are(served):
    names = zoo.list_models()
    assert names == sorted(f"{m}_{b}" for m in registry.METHODS for b in registry.BACKBONES)
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
    assert "No weights" in str(zoo.card("packed_wide_resnet28_10"))
