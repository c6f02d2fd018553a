"""`zoo.convert` of models that are not this zoo's: answers, heads, preprocessing, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from zoo import counts
from zoo.layers import TileMembers
from zoo.methods import (
    BatchEnsemble,
    DeepEnsemble,
    HyperBatch,
    Masksembles,
    MCDropout,
    Packed,
    Single,
    Tickets,
)


def randomize(model, seed=0):
    """Give a model weights, moving statistics included, that are none it began with."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.uniform(0.05, 0.3, w.shape) * (w.ndim == 1) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def user():
    """A plain Sequential with a softmax of its own."""
    keras.utils.set_random_seed(0)
    stack = [
        keras.Input((12, 12, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, activation="relu", name="stem"),
        layers.BatchNormalization(),
        layers.SeparableConv2D(8, 3, activation="relu"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.3, name="drop"),
        layers.Dense(16, activation="relu", name="hidden"),
        layers.Dense(5, name="logits"),
        layers.Softmax(),
    ]
    return randomize(keras.Sequential(stack, name="user"))


@pytest.fixture(scope="module")
def branched():
    """A functional model with a model called twice inside, a shortcut, layer normalisation and attention."""
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 3))
    inner_in = keras.Input((None, None, 6))
    inner = keras.Model(
        inner_in, layers.Conv2D(6, 1, activation="relu", name="inside")(inner_in), name="inner"
    )
    x = layers.Conv2D(6, 3, padding="same", name="first")(images / 255)
    y = inner(inner(x), training=False)
    x = layers.Conv2D(6, 1, name="side")(x) + y
    x = layers.Reshape((64, 6))(x)
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
    x = layers.EinsumDense("btc,cd->btd", (64, 4))(x)
    x = layers.Dense(7, activation="gelu", name="tokens")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return randomize(keras.Model(images, layers.Dense(4, activation="softmax")(x), name="branched"))


def pictures(model, count=3):
    return np.random.default_rng(2).integers(0, 256, (count, *model.input_shape[1:])).astype("uint8")


def answers(model, images):
    """Probabilities of each member, without the compilation that `predict` needs."""
    logits = model.network(images.astype("float32"), training=False)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def check_kept(model, converted, atol=1e-5):
    images = pictures(model)
    expected = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-4  # the images are told apart
    members = answers(converted, images)
    assert members.shape == (3, converted.num_members, expected.shape[-1])
    np.testing.assert_allclose(members, np.broadcast_to(expected[:, None], members.shape), atol=atol)


KEEP = [
    BatchEnsemble(3),
    BatchEnsemble(2, rank=2, per_member_norm=True),
    MCDropout(2, rate=0.0),
    Masksembles(2, scale=1.0),
    HyperBatch(2),
    DeepEnsemble(2),
    Packed(3, alpha=3),
    Tickets(2, sparsity=0.0),
    Single(),
]


@pytest.mark.fast(
    "mc_dropout-None",
    "masksembles-None",
    "hyper_batch-None",
    "deep_ensemble-0.6",
    "dst_tickets-None",
)
@pytest.mark.parametrize("tile_at", [None, 0.6, "head"])
@pytest.mark.parametrize("method", KEEP, ids=lambda method: method.name)
def test_members_answer_as_the_original(user, branched, method, tile_at):
    for model in (user, branched):
        converted = zoo.convert(model, method, spread=0, tile_at=tile_at)
        assert converted.name == f"{method.name}_{model.name}" and converted.spec is None
        check_kept(model, converted)


@pytest.mark.fast("method0", "method3")
@pytest.mark.parametrize(
    "method", [BatchEnsemble(3), MCDropout(3, rate=0.4), Masksembles(3), DeepEnsemble(3)]
)
def test_members_differ(user, branched, method):
    for model in (user, branched):
        members = answers(zoo.convert(model, method), pictures(model))
        assert np.abs(members - members[:, :1]).max(axis=(0, 2))[1:].min() > 1e-6


def test_everything_before_tile_at_is_computed_once(user):
    for method in (BatchEnsemble(2), MCDropout(2), Masksembles(2)):
        network = zoo.convert(user, method, tile_at="hidden").network
        names = [layer.name for layer in network.layers]
        assert names.index("tile") == names.index("drop") + 1  # what has no weights waits, too
        assert type(network.get_layer("stem")) is layers.Conv2D
    deep = zoo.convert(user, DeepEnsemble(2), tile_at="hidden").network
    kept = {layer.name for layer in deep.layers if layer.weights}
    assert {"stem", "depthwise", "member1_hidden", "member2_logits"} <= kept
    assert counts.macs(deep) == counts.macs(user) + 8 * 16 + 16 * 5


def test_a_share_of_the_macs_is_shared(branched):
    shares = []
    for tile_at in (0, 0.5, 0.9, 1.0):
        converted = zoo.convert(branched, DeepEnsemble(2), tile_at=tile_at)
        shares.append(sum(np.prod(weight.shape) for weight in converted.trainable_weights))
    assert shares == sorted(shares, reverse=True) and len(set(shares)) == 4
    tiles = zoo.convert(branched, BatchEnsemble(2), tile_at="inner").network.layers
    assert sum(type(layer) is TileMembers for layer in tiles) == 2  # both sides of the sum


def test_dropout_is_not_on_stems_and_shortcuts(branched):
    network = zoo.convert(branched, MCDropout(2)).network
    dropped = {layer.name for layer in network.layers if layer.name.endswith("_dropout")}
    assert dropped == {"inside_dropout", "tokens_dropout", "dense_dropout"} or (
        {"inside_dropout", "tokens_dropout"} <= dropped
        and not dropped & {"first_dropout", "side_dropout"}
    )


def test_new_heads(user):
    converted = zoo.convert(user, DeepEnsemble(2), spread=0, num_classes=7)
    members = answers(converted, pictures(user))
    assert members.shape == (3, 2, 7) and np.abs(members[:, 0] - members[:, 1]).max() > 1e-3
    np.testing.assert_array_equal(
        converted.network.get_layer("member1_hidden").get_weights()[0],
        user.get_layer("hidden").get_weights()[0],
    )
    features = keras.Model(user.inputs, user.get_layer("hidden").output, name="features")
    for method in (BatchEnsemble(2), MCDropout(2), DeepEnsemble(2), Single()):
        assert zoo.convert(features, method, num_classes=4).network.output_shape == (
            None,
            method.num_members,
            4,
        )


AFFINE = {
    "tf": keras.applications.mobilenet_v2.preprocess_input,
    "torch": keras.applications.densenet.preprocess_input,
    "caffe": keras.applications.resnet.preprocess_input,
    "none": keras.applications.efficientnet.preprocess_input,
    "own": lambda x: x / 255,
}
SCALED = layers.Lambda(lambda x, scale=1.0: x * scale, arguments={"scale": 1 / 255})


@pytest.mark.parametrize("name", AFFINE)
def test_preprocessing_is_part_of_the_network(name):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs)))
    images = pictures(model)
    expected = model(AFFINE[name](images.astype("float32")))
    given = [AFFINE[name], *{"none": [], "own": [SCALED]}.get(name, [name])]
    for preprocessing in given:
        converted = zoo.convert(model, BatchEnsemble(2), spread=0, preprocessing=preprocessing)
        logits = converted.network(images.astype("float32"))
        tolerance = 1e-5 * float(np.abs(expected).max())
        np.testing.assert_allclose(logits[:, 1], expected, atol=max(tolerance, 1e-5), rtol=1e-5)


def test_preprocessing_by_a_layer(user):
    normalization = layers.Normalization()
    normalization.adapt(pictures(user).astype("float32"))
    converted = zoo.convert(user, Single(), preprocessing=normalization)
    images = pictures(user).astype("float32")
    expected = user(normalization(images))
    np.testing.assert_allclose(answers(converted, images)[:, 0], expected, atol=1e-5)


class Unreadable(keras.Model):
    """A model whose layers are in no graph."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, images):
        return self.dense(keras.ops.reshape(images, (-1, 12)))


def model_of(*stack, shape=(4, 4, 3)):
    return keras.Sequential([keras.Input(shape), *stack], name="small")


def test_what_cannot_be_converted_is_refused(user, raises_line):
    cases = [
        (user, Masksembles(2, tile_at=3), {}, "tile_at=3 is a stage"),
        (user, "batch_ensemble", {"tile_at": "nowhere"}, "no layer 'nowhere'"),
        (
            model_of(layers.Flatten(), layers.Dense(4, name="first"), layers.Dense(2, name="last")),
            "batch_ensemble", {"tile_at": "nowhere"}, "for tile_at; there are first, last$",
        ),
        (user, "batch_ensemble", {"tile_at": 1.5}, "share of the MACs"),
        (user, "batch_ensemble", {"preprocessing": "numpy"}, "preprocessing must be"),
        (user, "batch_ensemble", {"preprocessing": np.sqrt}, "pass a Keras layer"),
        (user, "batch_ensemble", {"num_classes": 1}, "num_classes must be"),
        (Unreadable(), "single", {}, "not a built functional or sequential model"),
        (model_of(layers.Conv2D(3, 1)), "single", {}, "pool it"),
        (model_of(layers.Flatten(), layers.Dense(1, "sigmoid")), "single", {}, "ends small with sigmoid"),
        (model_of(layers.Dense(2), shape=(7,)), "single", {}, "not images"),
        (
            model_of(layers.Reshape((16, 3)), layers.Conv1D(2, 16), layers.Flatten()), "mc_dropout", {},
            "small has no layer from .*take an earlier tile_at, or deep_ensemble",
        ),
        (
            model_of(layers.Conv2D(3, 3, data_format="channels_first", name="planes"), layers.Flatten(), layers.Dense(2)),
            "batch_ensemble", {}, "planes cannot be a layer of batch_ensemble .*take deep_ensemble",
        ),
    ]  # fmt: skip
    for model, method, options, message in cases:
        with raises_line(ValueError, message):
            zoo.convert(model, method, **options)


def test_a_single_of_the_zoo_takes_every_argument(tiny):
    single = tiny(Single(), activation="softmax")
    images = pictures(single)
    expected = answers(single, images)
    for method in (DeepEnsemble(2), BatchEnsemble(2)):
        converted = zoo.convert(single, method, spread=0, tile_at="head")
        assert converted.activation == "softmax"
        np.testing.assert_allclose(answers(converted, images), np.repeat(expected, 2, axis=1), atol=1e-5)


def test_a_layer_called_on_both_sides_of_the_cut():
    images = keras.Input((4, 4, 6))
    twice, relu = layers.Conv2D(6, 1, name="twice"), layers.ReLU()
    x = relu(twice(relu(twice(images / 255))))
    x = layers.Dense(3, name="members")(layers.Flatten(name="tile")(x))
    model = keras.Model(images, layers.Dense(2, activation="softmax", name="images_")(x))
    for tile_at in (0.4, 0.6, "members"):
        check_kept(model, zoo.convert(model, BatchEnsemble(2), spread=0, tile_at=tile_at))
        check_kept(model, zoo.convert(model, DeepEnsemble(2), spread=0, tile_at=tile_at))
