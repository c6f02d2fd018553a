"""docs/extending.md, run as it is printed: one file outside the package adds a method, one function a backbone."""

import pathlib
import re

import keras
import numpy as np
import pytest

import zoo
from zoo.training import recipes

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def page():
    """What the page's code defines; its registrations end with the module."""
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    yield names
    del zoo.registry.METHODS["dropped_batch_ensemble"]
    del zoo.registry.BACKBONES["small_net"]


def test_a_method_from_outside_is_one_of_the_zoo(page, images, labels, tmp_path):
    assert "dropped_batch_ensemble_resnet20" in zoo.list_models(method="dropped_batch_ensemble")
    model = zoo.load(
        "dropped_batch_ensemble_lenet", weights=None, num_classes=3, input_shape=(16, 16, 3)
    )
    before = zoo.predict(model, images).probabilities
    model.fit(images, labels, verbose=0)
    assert not np.allclose(before, zoo.predict(model, images).probabilities)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        zoo.predict(loaded, images).members, zoo.predict(model, images).members
    )
    config = zoo.methods.serialize(page["DroppedBatchEnsemble"](2, rate=0.5))
    assert zoo.methods.deserialize(config) == page["DroppedBatchEnsemble"](2, rate=0.5)
    recipe = recipes.recipe("cifar10_dropped_batch_ensemble_lenet")
    assert (recipe.method, recipe.backbone) == ("dropped_batch_ensemble", "lenet")
    recipe = recipes.recipe("cifar10_dropped_batch_ensemble_small_net")
    assert recipe == recipes.Recipe("cifar10", "dropped_batch_ensemble", "small_net")


def test_a_backbone_from_outside_serves_every_method(page, images):
    for name in ("packed", "mimo", "mc_dropout", "hyper_batch"):
        model = zoo.load(f"{name}_small_net", weights=None, num_classes=3, input_shape=(16, 16, 3))
        assert zoo.predict(model, images).members.shape == (5, model.num_members, 3)


def test_wrong_registrations_are_refused(page, raises_line):
    with raises_line(ValueError, "a method is a dataclass derived from zoo.methods.Method"):
        zoo.register_method(dict)
    with raises_line(ValueError, "there is a backbone 'lenet' already"):
        zoo.register_backbone("lenet", page["small_net"])
    with raises_line(ValueError, "pass stages="):
        zoo.register_backbone("other", lambda method, images, stem: images)
    with raises_line(ValueError, "letters, digits and underscores"):
        zoo.register_backbone("no name", page["small_net"])
    assert zoo.register_method(page["DroppedBatchEnsemble"]) is page["DroppedBatchEnsemble"]


def test_build_takes_a_function(page):
    with pytest.raises(ValueError, match="already"):
        zoo.build(zoo.methods.Single(), _other_lenet)
    model = zoo.build(zoo.methods.Single(), page["small_net"], 3, (16, 16, 3))
    assert model.spec["backbone"] == "small_net"


def _other_lenet(method, images, stem=None):
    return images


_other_lenet.__name__, _other_lenet.stages = "lenet", 0
