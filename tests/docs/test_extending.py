"""docs/extending.md, run as it is printed: one file outside the package adds a method, one function a backbone."""

import dataclasses
import pathlib
import re

import keras
import numpy as np
import pytest

import zoo
from helpers import runtimes
from zoo import counts
from zoo.exporting import litert
from zoo.exporting.folding import folded
from zoo.layers import MemberLogits
from zoo.step_cost import step_cost
from zoo.training import recipes
from zoo.training.memory.graph_cuts import costs, ordered

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def page():
    """What the page's code defines; its registrations end with the module."""
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    yield names
    del zoo.registry.METHODS["dropped_batch_ensemble"], zoo.registry.METHODS["gains"]
    del zoo.registry.BACKBONES["small_net"]


@pytest.mark.slow
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


def derived(**attributes):
    """A method derived from Packed-Ensembles."""
    return dataclasses.make_dataclass(
        "Derived", (), bases=(zoo.methods.Packed,), namespace=attributes, frozen=True
    )


def test_wrong_registrations_are_refused(page, raises_line):
    with raises_line(ValueError, "a method is a dataclass derived from zoo.methods.Method"):
        zoo.register_method(dict)
    with raises_line(ValueError, "there is a backbone 'lenet' already"):
        zoo.register_backbone("lenet", page["small_net"])
    with raises_line(ValueError, "stages must be an integer >= 0, how many other announces .*; got -1"):
        zoo.register_backbone("other", lambda method, images, stem: images, stages=-1)
    with raises_line(ValueError, "letters, digits and underscores"):
        zoo.register_backbone("no name", page["small_net"])
    for name in ("odd name", ""):
        with raises_line(ValueError, f"a method's name has letters, digits and .*; got '{name}'"):
            zoo.register_method(derived(name=name))
    with raises_line(ValueError, "Derived has no name of its own"):
        zoo.register_method(derived())
    assert zoo.register_method(page["DroppedBatchEnsemble"]) is page["DroppedBatchEnsemble"]


CELL = """
@zoo.register_method
@dataclasses.dataclass(frozen=True)
class Again(zoo.methods.Packed):
    num_members: int = {members}
    name = "again"

def net_again(method, images, stem=None):
    return images

zoo.register_backbone("net_again", net_again)
"""


def test_a_cell_that_runs_again_replaces_what_it_registered(raises_line):
    names = {"zoo": zoo, "dataclasses": dataclasses, "__name__": "notebook"}
    try:
        for members in (2, 3):
            exec(CELL.format(members=members), names)
            assert zoo.methods.deserialize({"name": "again"}) == names["Again"](members)
            assert zoo.registry.BACKBONES["net_again"] is names["net_again"]
        with raises_line(ValueError, "there is a method 'again' already; choose another name"):
            exec(CELL.format(members=2), {**names, "__name__": "elsewhere"})
    finally:
        zoo.registry.METHODS.pop("again", None)
        zoo.registry.BACKBONES.pop("net_again", None)


def test_functions_that_a_function_makes_are_not_the_same(images, raises_line):
    def made(factor):
        def scaled(method, images, stem):
            x = method.conv(4, 3, "stem", name="conv")(images * factor)
            return method.per_member(keras.layers.GlobalAveragePooling2D(name="pool"))(x)

        return scaled

    try:
        first = zoo.register_backbone("made", made(1))
        with raises_line(ValueError, "there is a backbone 'made' already; choose another name"):
            zoo.register_backbone("made", made(2))
        assert zoo.register_backbone("made", first) is first is zoo.registry.BACKBONES["made"]
    finally:
        zoo.registry.BACKBONES.pop("made", None)


def test_build_takes_a_function_that_says_nothing_of_stages(images, raises_line):
    def pooled(method, images, stem):
        x = method.conv(4, 3, "stem", name="conv")(images)
        return method.per_member(keras.layers.GlobalAveragePooling2D(name="pool"))(x)

    def staged(method, images, stem):
        return pooled(method, method.begin_stage(1, images), stem)

    try:
        for method in (zoo.methods.HyperBatch(2), zoo.methods.Packed(2)):
            model = zoo.build(method, pooled, 3, (16, 16, 3))
            assert zoo.predict(model, images).members.shape == (5, 2, 3)
        assert zoo.build(zoo.methods.Packed(2), staged, 3, (16, 16, 3)).name == "packed_staged"
        with raises_line(ValueError, "announces stage 1 of 0; pass stages= to zoo.register_backbone"):
            zoo.build(zoo.methods.HyperBatch(2), staged, 3, (16, 16, 3))
    finally:
        for name in ("pooled", "staged"):
            zoo.registry.BACKBONES.pop(name, None)


def test_build_takes_a_function(page):
    with pytest.raises(ValueError, match="already"):
        zoo.build(zoo.methods.Single(), _other_lenet)
    model = zoo.build(zoo.methods.Single(), page["small_net"], 3, (16, 16, 3))
    assert model.spec["backbone"] == "small_net"


def _other_lenet(method, images, stem=None):
    return images


_other_lenet.__name__, _other_lenet.stages = "lenet", 0


def gains(page, norm=True):
    """A network of three members with a `GainDense` before a normalisation and one as a head."""
    method = page["Gains"](3)
    images = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(method.layer_factory(0).expand(images))
    x = method.dense(6, use_bias=False, name="hidden")(x)
    x = keras.layers.ReLU()(method.norm(name="norm")(x) if norm else x)
    logits = method.dense(2, role="head", name="head")(x)
    network = keras.Model(images, MemberLogits(3, name="members")(logits))
    rng = np.random.default_rng(0)
    network.set_weights([w + rng.uniform(0.1, 0.5, w.shape) for w in network.get_weights()])
    return network


def test_a_layer_from_outside_says_what_the_zoo_asks(page):
    network = gains(page)
    copy = folded(network)  # which compares the answers
    assert len(copy.layers) == len(network.layers) - 1 and "norm" not in [x.name for x in copy.layers]
    assert counts.macs(network) == 3 * (48 * 6 + 6 * 2)
    cost = step_cost(gains(page, norm=False))
    # Of each member: pixels; six outputs before the gain, and rectified; two outputs before the gain.
    assert cost.activation_bytes == 4 * 3 * (48 + 6 + 6 + 2)
    assert cost.macs == 3 * (48 * 6 + 6 * 2)
    weights = zoo.metrics.member_weights(network)
    layer = network.get_layer("hidden")
    expected = layer.kernel[None] * layer.gain[:, None]
    np.testing.assert_allclose(weights["hidden/kernel"], expected, rtol=1e-6)
    assert weights["norm/gamma"].shape == (3, 6)  # shared


@keras.saving.register_keras_serializable(package="tests")
class Twice(keras.layers.Layer):
    """Each row twice, in training and at inference; the LiteRT file has each row once and says so."""

    def row_factor(self, training):
        return 2

    def litert_layer(self, config):
        return keras.layers.Identity(name=config["name"])

    def call(self, inputs):
        return keras.ops.concatenate([inputs, inputs], axis=0)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, *inputs.shape[1:]), inputs.dtype)


@keras.saving.register_keras_serializable(package="tests")
class Thrice(keras.layers.Dense):
    """A kernel that is applied three times to each row."""

    def kernel_uses(self, input_shape, output_shape):
        yield self.kernel, 3


def test_rows_and_kernels_of_layers_from_outside_are_counted():
    images = keras.Input((4, 4, 3))
    x = Twice(name="twice")(keras.layers.Conv2D(5, 3)(images))
    logits = Thrice(2)(keras.layers.Flatten()(x))
    network = keras.Model(images, logits)
    macs = 4 * 27 * 5 + 2 * 3 * 20 * 2
    assert counts.macs(network) == step_cost(network).macs == macs
    nodes = ordered([images], [logits])
    assert costs(nodes, [logits])[0] == [4 * 20, 2 * 4 * 20, 2 * 4 * 20, 2 * 4 * 2]
    converted = litert._convertible(network)
    assert type(converted.get_layer("twice")) is keras.layers.Identity
    np.testing.assert_array_equal(converted.get_weights()[0], network.get_weights()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [("gains_mlp", "savedmodel"), ("gains_mlp", "onnx"), ("gains_small_net", "litert"),
     ("gains_small_net", "openvino"), ("dropped_batch_ensemble_lenet", "litert"),
     ("dropped_batch_ensemble_lenet", "onnx")],
)  # fmt: skip
def test_models_from_outside_are_exported(name, form, page, images, tmp_path):
    model = zoo.load(name, weights=None, num_classes=3, input_shape=(16, 16, 3))
    path = zoo.export(model, tmp_path / "out", form)
    answers = runtimes.run(path)(images)
    prediction = zoo.predict(model, images)
    np.testing.assert_allclose(answers["members"], prediction.members, atol=1e-4)
    np.testing.assert_allclose(answers["predictive_entropy"], prediction.entropy, atol=1e-4)
