"""`zoo.convert` to methods that need other shapes: which layers start anew, and which keep their weights."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from zoo import counts
from zoo.methods import MIMO, BatchEnsemble, DeepEnsemble, Method, Packed


def stack(*inner, shape=(8, 8, 3), name="small"):
    return keras.Sequential([keras.Input(shape), *inner], name=name)


@pytest.fixture(scope="module")
def user():
    """Convolutions with a gate of squeezed channels, attention over what they see, and a softmax."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(layers.Rescaling(1 / 255)(images))
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)])
    x = layers.Add()([x, layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)])
    x = keras.ops.reshape(x, (-1, 16, 8))
    x = x + layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.EinsumDense("btc,cd->btd", (None, 8), name="einsum")(
        layers.LayerNormalization(name="layer_normalization")(x)
    )
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(5, activation="softmax", name="logits")(x), name="user")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3)).astype("float32")


def answers(model, images):
    """Probabilities of each member, without the compilation that `predict` needs."""
    return keras.ops.convert_to_numpy(keras.ops.softmax(model.network(images, training=False)))


def test_packed_is_narrower_and_says_what_starts_anew(user, pictures):
    with pytest.warns(UserWarning, match="packed starts 8 layers from new weights.*stem, norm"):
        model = zoo.convert(user, Packed(4, alpha=2))
    assert model.new_weights == [
        "stem", "norm", "gate", "separable", "attention", "layer_normalization", "einsum", "logits"
    ]  # fmt: skip
    assert counts.parameters(model.network)[0] < 2 * counts.parameters(user)[0]
    shapes = [model.network.get_layer(f"member{m}_separable").pointwise_kernel.shape for m in (1, 4)]
    assert shapes == [(1, 1, 4, 4)] * 2
    members = answers(model, pictures)
    assert members.shape == (4, 4, 5) and np.abs(members[:, 0] - members[:, 1]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*new weights")
@pytest.mark.parametrize("method", [Packed(4, alpha=2), MIMO(2)], ids=lambda method: method.name)
def test_what_starts_anew_trains_and_is_saved(user, pictures, method, tmp_path):
    model = zoo.convert(user, method)
    model.fit(pictures, np.array([0, 1, 2, 3]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        zoo.predict(loaded, pictures).members, zoo.predict(model, pictures).members, atol=1e-6
    )


def test_packed_keeps_the_shared_trunk_and_divides_channels_into_groups():
    wide = stack(
        layers.Conv2D(8, 3, name="trunk"), layers.Conv2D(256, 1, name="wide"),
        layers.Conv2D(256, 1, name="grouped"), layers.GlobalAveragePooling2D(), layers.Dense(3, name="head"),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="wide, grouped, head"):
        model = zoo.convert(wide, Packed(2, alpha=1, gamma=2), tile_at="wide")
    np.testing.assert_array_equal(
        model.network.get_layer("trunk").get_weights()[0], wide.get_layer("trunk").get_weights()[0]
    )
    grouped = model.network.get_layer("member2_grouped")
    assert (grouped.groups, grouped.kernel.shape) == (2, (1, 1, 64, 128))
    assert model.network.get_layer("member1_wide").groups == 1  # 8 channels a group are too few


def test_mimo_draws_its_stem_and_head(user, pictures):
    with pytest.warns(UserWarning, match="mimo starts 2 layers from new weights.*stem, logits"):
        model = zoo.convert(user, MIMO(3, batch_repetitions=2))
    assert model.new_weights == ["stem", "logits"]
    assert model.network.get_layer("stem").kernel.shape == (3, 3, 9, 8)
    for name in ("norm", "gate", "separable", "attention", "einsum"):
        mine, theirs = (net.get_layer(name).get_weights() for net in (model.network, user))
        for value, expected in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(value, expected)
    assert answers(model, pictures).shape == (4, 3, 5)
    assert model.network(pictures, training=True).shape == (4, 6, 5)


def test_methods_that_keep_weights_say_so(user):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert zoo.convert(user, BatchEnsemble(2)).new_weights == []
        assert zoo.convert(user, DeepEnsemble(2), num_classes=3).new_weights == ["logits"]
    assert not any("new weights" in str(warning.message) for warning in caught)


def test_what_starts_anew_is_trained_even_where_the_source_is_frozen(user):
    frozen = keras.models.clone_model(user)
    frozen.trainable = False
    with pytest.warns(UserWarning, match="new weights"):
        model = zoo.convert(frozen, MIMO(2))
    assert {v.path.split("/")[-2] for v in model.network.trainable_variables} == {"stem", "logits"}
    heads = zoo.convert(frozen, BatchEnsemble(2), num_classes=3, tile_at="head").network
    assert heads.get_layer("logits").trainable


@dataclasses.dataclass(frozen=True)
class WithoutNorms(Method):
    """A method of somebody else, which has no class of this zoo's but the interface."""

    name = "without_norms"

    def norm(self, **options):
        return lambda x: x


def test_any_method_is_asked_for_layers(user, pictures):
    model = zoo.convert(user, WithoutNorms())
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in model.network.layers)
    assert model.new_weights == [] and answers(model, pictures).shape == (4, 1, 5)


def test_what_cannot_change_its_width_is_refused(raises_line):
    images = keras.Input((8, 8, 3))
    both = [
        layers.Conv2D(2, 3, name=name)(images / scale) for name, scale in (("left", 1), ("right", 2))
    ]
    branches = keras.Model(
        images, layers.Dense(2)(layers.Flatten()(layers.Add()(both))), name="branches"
    )
    grouped = stack(
        layers.Conv2D(12, 3), layers.GroupNormalization(6, name="grouped"), layers.Flatten(), layers.Dense(2)
    )  # fmt: skip
    convolved = stack(layers.Conv2D(4, 3), layers.Conv2D(2, 6, name="last"), layers.Flatten())
    written = stack(layers.Lambda(lambda x: x / 255, name="written"), layers.Flatten(), layers.Dense(2))
    depthwise = stack(layers.DepthwiseConv2D(3, name="first"), layers.Flatten(), layers.Dense(2))
    cases = [
        (branches, MIMO(2), {}, "the images of branches enter left, right, .*take deep_ensemble"),
        (depthwise, MIMO(2), {}, "first gives .*take deep_ensemble, packed or batch_ensemble"),
        (convolved, MIMO(2), {}, "last is not a Dense layer .*take deep_ensemble"),
        (convolved, MIMO(2), {"tile_at": 0.5}, "leave tile_at out"),
        (grouped, Packed(2, alpha=1.5), {}, "grouped cannot have another width, .*deep_ensemble"),
        (written, "batch_ensemble", {}, "written is a Lambda layer"),
        (written, "nonsense", {}, "method must be one of zoo.methods"),
    ]
    for model, method, options, message in cases:
        with raises_line(ValueError, message):
            zoo.convert(model, method, **options)


def test_sizes_that_a_model_inside_leaves_open_are_counted():
    inner = stack(layers.Conv2D(6, 3, name="inside"), shape=(None, None, 3), name="inner")
    model = stack(inner, layers.GlobalAveragePooling2D(), layers.Dense(2))
    assert counts.macs(model) == 6 * 6 * 27 * 6 + 12


def test_macs_of_separable_einsum_and_attention_kernels():
    separable = stack(layers.SeparableConv2D(5, 3), layers.GlobalAveragePooling2D(), layers.Dense(2))
    assert counts.macs(separable) == 36 * (9 * 3 + 3 * 5) + 10
    tokens = keras.Input((4, 4, 6))
    x = layers.Reshape((16, 6))(tokens)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 5))(x)  # 16 tokens, 6 to 2 x 5
    x = layers.Reshape((16, 10))(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)  # queries, keys and values of 2 x 3, then back to 10
    head = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    expected = 16 * 6 * 10 + 16 * 4 * 10 * 6 + 20
    assert counts.macs(keras.Model(tokens, head)) == expected
    transposed = stack(layers.Conv2DTranspose(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(2))
    assert counts.macs(transposed) == 64 * 9 * 3 * 4 + 8


def test_groups_of_the_source_are_kept():
    source = stack(layers.Conv2D(6, 3, groups=3), layers.GlobalAveragePooling2D(), layers.Dense(2))
    model = zoo.convert(source, Packed(4, 2))
    convolutions = [layer for layer in model.network.layers if isinstance(layer, layers.Conv2D)]
    assert [(layer.filters, layer.groups) for layer in convolutions] == 4 * [(3, 3)]


def wrapped():
    """A network of layers that hold others."""
    return stack(
        layers.Reshape((6, 18)), layers.Bidirectional(layers.GRU(4, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(6)), layers.GlobalAveragePooling1D(), layers.Dense(3),
        shape=(6, 6, 3),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", [Packed(4, 2), MIMO(2)])
def test_wrapped_layers_have_other_widths(method):
    source = wrapped()
    model = zoo.convert(source, method)
    assert len(model.new_weights) == (3 if isinstance(method, Packed) else 2)
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), "uint8")
    assert zoo.predict(model, images).members.shape == (3, method.num_members, 3)


def test_a_cell_cannot_be_narrowed(raises_line):
    source = stack(
        layers.Reshape((6, 18)),
        layers.RNN(layers.SimpleRNNCell(4), name="rnn"),
        layers.Dense(3),
        shape=(6, 6, 3),
    )
    with raises_line(ValueError, "rnn .RNN. cannot have another width.*deep_ensemble"):
        zoo.convert(source, Packed(4, 2))
