"""`MCDropout(rate=None)`: members are draws of the dropout layers that a network has itself."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import zoo
from zoo import counts
from zoo.layers import MonteCarloDropout
from zoo.methods import BatchEnsemble, MCDropout

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), "uint8")
LABELS = np.array([0, 1, 2, 3, 0, 1])
OWN = MCDropout(3, rate=None)


def numpy(value):
    return ops.convert_to_numpy(value)


def stack(*inner, name="small"):
    return keras.Sequential([keras.Input((8, 8, 3)), *inner], name=name)


@pytest.fixture(scope="module")
def user():
    """A classifier with dropout of several kinds: of the image, of channels, in a model inside, called twice."""
    keras.utils.set_random_seed(0)
    inside = keras.Input((16,))
    block = keras.Model(inside, layers.Dropout(0.4, name="inner")(inside), name="block")
    twice = layers.GaussianDropout(0.3, name="twice")
    images = keras.Input((8, 8, 3))
    x = layers.Dropout(0.2, name="of_pixels")(layers.Rescaling(1 / 255)(images))
    x = layers.Conv2D(6, 3, activation="relu", name="stem")(x)
    x = layers.SpatialDropout2D(0.5, name="of_channels")(layers.BatchNormalization()(x))
    x = block(layers.Dense(16, activation="selu", name="hidden")(layers.Flatten()(x)))
    x = layers.Dense(16, name="last")(layers.Dropout(0.0, name="never")(twice(x)))
    x = layers.AlphaDropout(0.25, name="of_selus")(twice(x))
    return keras.Model(images, layers.Dense(4, activation="softmax", name="logits")(x), name="user")


def drawn(model):
    return {
        layer.name: (layer.rate, layer.noise)
        for layer in model.network.layers
        if isinstance(layer, MonteCarloDropout)
    }


def test_the_networks_own_layers_are_drawn_and_none_is_added(user):
    model = zoo.convert(user, OWN)
    assert (model.name, model.new_weights, model.num_members) == ("mc_dropout_user", [], 3)
    assert drawn(model) == {
        "of_pixels": (0.2, "dropout"), "of_channels": (0.5, "dropout"), "inner": (0.4, "dropout"),
        "twice": (0.3, "gaussian"), "twice_2": (0.3, "gaussian"), "of_selus": (0.25, "alpha"),
    }  # fmt: skip
    assert model.network.get_layer("of_channels").filterwise
    for value, expected in zip(model.network.get_weights(), user.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert counts.macs(model) == 3 * counts.macs(user)  # from the pixels on


def test_answers_are_the_network_with_each_members_units():
    keras.utils.set_random_seed(1)
    hidden, drop, head = layers.Dense(9), layers.Dropout(0.5, name="drop"), layers.Dense(3)
    model = zoo.convert(stack(layers.Rescaling(1 / 255), layers.Flatten(), hidden, drop, head), OWN)
    x = hidden(ops.reshape(ops.array(IMAGES / 255.0, "float32"), (6, -1)))
    units = numpy(model.network.get_layer("drop")(np.ones((3, 9), "float32")))
    assert set(np.unique(units)) == {0, 2} and (units[0] != units[1]).any()
    given = numpy(model.network(IMAGES.astype("float32"), training=False))
    expected = np.stack([numpy(head(x * row)) for row in units], axis=1)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_two_calls_of_a_layer_drop_different_units(user):
    network = zoo.convert(user, OWN).network
    one, other = (numpy(network.get_layer(n)(np.ones((3, 16), "float32"))) for n in ("twice", "twice_2"))
    assert np.abs(one - other).min(axis=1).max() > 1e-4


@pytest.mark.slow
def test_it_trains_repeats_and_comes_back_from_a_file(user, tmp_path):
    model = zoo.convert(user, OWN)
    in_training = [numpy(model.network(IMAGES, training=True)) for _ in range(2)]
    assert in_training[0].shape == (6, 1, 4) and (in_training[0] != in_training[1]).any()
    model.run_eagerly = True
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    members = zoo.predict(model, IMAGES).members
    assert np.abs(members - members[:, :1]).max(axis=(0, 2))[1:].min() > 1e-4
    np.testing.assert_array_equal(zoo.predict(model, IMAGES).members, members)
    np.testing.assert_allclose(zoo.predict(model, IMAGES[2:3]).members, members[2:3], atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(zoo.predict(loaded, IMAGES).members, members, atol=1e-6)


def test_seeds_and_fresh_draws(user):
    def answers(**options):
        return numpy(zoo.convert(user, MCDropout(3, rate=None, **options)).network(IMAGES))

    first = answers()
    np.testing.assert_array_equal(answers(), first)
    assert (answers(seed=1) != first).any()
    fresh = zoo.convert(user, MCDropout(3, rate=None, consistent=False)).network
    assert (numpy(fresh(IMAGES)) != numpy(fresh(IMAGES))).any()


def test_config_round_trip():
    config = json.loads(json.dumps(zoo.methods.serialize(OWN)))
    assert config["rate"] is None and zoo.methods.deserialize(config) == OWN


@pytest.mark.parametrize(
    ("tile_at", "names"),
    [
        (0, ["of_pixels", "of_channels", "inner", "twice", "twice_2", "of_selus"]),
        ("of_channels", ["of_channels", "inner", "twice", "twice_2", "of_selus"]),
        ("hidden", ["of_channels", "inner", "twice", "twice_2", "of_selus"]),
        ("block", ["inner", "twice", "twice_2", "of_selus"]),
        (0.99, ["inner", "twice", "twice_2", "of_selus"]),
        ("head", ["twice_members", "of_selus"]),
    ],
)
def test_dropout_before_tile_at_stays_off(user, tile_at, names):
    model = zoo.convert(user, OWN, tile_at=tile_at)
    assert list(drawn(model)) == names
    tiled = [layer.name for layer in model.network.layers]
    assert tiled.index("tile") + 1 == tiled.index(names[0])
    if tile_at == "head":
        method = MCDropout(3, rate=None, tile_at="head")
        assert list(drawn(zoo.convert(user, method))) == names


class HandMade(layers.Dropout):
    """Dropout that is always on, as many write it for MC dropout."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def test_dropout_that_is_called_as_in_training_is_drawn():
    images = keras.Input((8, 8, 3))
    x = layers.Dropout(0.5, name="on")(layers.Flatten()(images / 255), training=True)
    x = HandMade(0.5, name="by_hand")(layers.Dense(6)(x))
    model = zoo.convert(keras.Model(images, layers.Dense(3)(x)), OWN)
    assert list(drawn(model)) == ["on", "by_hand"]
    np.testing.assert_array_equal(zoo.predict(model, IMAGES).members, zoo.predict(model, IMAGES).members)


def test_networks_without_dropout_are_refused(user, raises_line):
    def refused(*inner):
        return stack(*inner, layers.Flatten(), layers.Dense(3))

    attention = keras.Input((8, 8, 3))
    x = layers.Reshape((64, 3))(attention)
    x = layers.MultiHeadAttention(1, 2, dropout=0.1, name="attention")(x, x)
    inside = keras.Model(attention, layers.Dense(3)(layers.Flatten()(x)), name="inside")
    cases = [
        (refused(), {}, "small has no Dropout layer, .*pass a rate"),
        (refused(layers.GaussianNoise(0.1)), {}, "small has no Dropout layer, .*pass a rate"),
        (refused(layers.Dropout(0.0, name="zero")), {}, "rate above 0 .not zero., .*pass a rate"),
        (refused(layers.Dropout(1.0, name="all")), {}, "all cannot be drawn: rate must be in"),
        (inside, {}, "inside has dropout only inside attention, .*pass a rate"),
        (
            refused(layers.Dropout(0.5), layers.Conv2D(4, 3), layers.ReLU(name="relu")),
            {"tile_at": "relu"}, "small has no Dropout layer from relu on .take an earlier tile_at",
        ),
        (zoo.build("single", "mlp", 3, (8, 8, 3)), {}, "this backbone has none; pass a rate"),
    ]  # fmt: skip
    for model, options, message in cases:
        with raises_line(ValueError, message):
            zoo.convert(model, OWN, **options)
    with raises_line(ValueError, "this backbone has none; pass a rate"):
        zoo.build(OWN, "mlp", 3, (8, 8, 3))


def test_dropout_inside_other_layers_is_told_of(user):
    images = keras.Input((8, 8, 3))
    x = layers.Reshape((8, 24))(images / 255)
    x = layers.Dropout(0.5)(layers.LSTM(4, dropout=0.2, name="lstm")(x))
    with pytest.warns(UserWarning, match="dropout inside lstm stays off"):
        model = zoo.convert(keras.Model(images, layers.Dense(3)(x)), OWN)
    assert list(drawn(model).values()) == [(0.5, "dropout")]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        zoo.convert(user, OWN)


def backbone_with_dropout(method, images, stem=None):
    x = method.per_member(layers.Flatten(name="flatten"))(images)
    x = method.per_member(layers.Dropout(0.5, name="before"))(x)
    x = method.begin_stage(1, method.dense(6, name="dense")(x))
    return method.per_member(layers.Dropout(0.5, name="after"))(x)


def test_backbones_of_ones_own_may_have_dropout():
    zoo.register_backbone("backbone_with_dropout", backbone_with_dropout, stages=1)
    try:
        for tile_at, names in ((0, ["before", "after"]), (1, ["after"])):
            model = zoo.build(
                MCDropout(3, rate=None, tile_at=tile_at), backbone_with_dropout, 3, (8, 8, 3)
            )
            assert list(drawn(model)) == names
        single = zoo.build("single", "backbone_with_dropout", 3, (8, 8, 3))
        assert list(drawn(zoo.convert(single, OWN))) == ["after"]
    finally:
        del zoo.registry.BACKBONES["backbone_with_dropout"]


def test_a_keras_network_as_the_backbone(user):
    model = zoo.build(OWN, user, num_classes=5)
    assert len(drawn(model)) == 6 and model.num_classes == 5


class Louder(BatchEnsemble):
    """Someone's method that changes activations."""

    name = "louder"

    def per_member(self, layer):
        return layers.Activation("tanh", name=layer.name) if isinstance(layer, layers.ReLU) else layer


def test_methods_whose_members_are_rows_are_asked_for_layers_without_weights():
    model = zoo.convert(
        stack(layers.Conv2D(4, 3), layers.ReLU(name="relu"), layers.Flatten(), layers.Dense(3)),
        Louder(2),
    )
    assert isinstance(model.network.get_layer("relu"), layers.Activation)
