"""BatchEnsemble layers against plain NumPy, member by member.  Runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from helpers.arrays import convolve, draw
from zoo.layers import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    RandomSign,
)
from zoo.layers.batch_ensemble import fast_weight_initializer
from zoo.methods import BatchEnsemble, Single

SPREAD = {"r_initializer": RandomSign(0.5, seed=3), "bias_initializer": "normal"}


def numpy(value):
    return ops.convert_to_numpy(value)


def published(operation, activation=np.tanh):
    """y_m = activation(sum_j s_jm * operation(r_jm * x_m, kernel) + bias_m), row by row."""

    def formula(x, weights):
        rows = []
        for i, row in enumerate(x):
            r, s = weights["r"], weights["s"]
            m = i * r.shape[1] // len(x)
            y = sum(
                operation((row * r[j, m])[None], weights["kernel"])[0] * s[j, m] for j in range(len(r))
            )
            rows.append(activation(y + weights["bias"][m] if "bias" in weights else y))
        return np.stack(rows)

    return formula


def depthwise(strides, padding):
    def operation(x, kernel):
        outputs = [
            convolve(x[..., c : c + 1], kernel[:, :, c : c + 1, d : d + 1], strides, 1, padding)
            for c in range(x.shape[-1])
            for d in range(kernel.shape[-1])
        ]
        return np.concatenate(outputs, axis=-1)

    return operation


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (5, 3), (1, 3), (4, 2, 3)])
def test_dense_is_its_formula(rank, shape, check_formula):
    layer = BatchEnsembleDense(2, 2, rank, activation="tanh", **SPREAD)
    check_formula(layer, draw(*shape), published(np.matmul))


def test_dense_without_bias(check_formula):
    layer = BatchEnsembleDense(2, 3, use_bias=False)
    check_formula(layer, draw(6, 3), published(np.matmul, lambda y: y))
    assert layer.bias is None and len(layer.weights) == 3


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("rank", "strides", "padding", "rows"),
    [(1, 1, "valid", 3), (2, 2, "same", 3), (2, 1, "valid", 4), (3, 2, "same", 1)],
)
def test_convolution_is_its_formula(rank, strides, padding, rows, training, check_formula):
    """Whether each term has its pass, or at inference each member a kernel that sums its terms."""
    layer = BatchEnsembleConv2D(
        2, (2, 3), 2, rank, strides=strides, padding=padding, activation="tanh", **SPREAD
    )
    formula = published(lambda x, k: convolve(x, k, strides, 1, padding))
    check_formula(layer, draw(rows, 3, 4, 2), formula, training=training)


@pytest.mark.parametrize(("rank", "strides", "padding"), [(1, 1, "valid"), (2, 2, "same")])
def test_depthwise_convolution_is_its_formula(rank, strides, padding, check_formula):
    layer = BatchEnsembleDepthwiseConv2D(
        2, 2, rank, strides=strides, padding=padding, depth_multiplier=2, activation="tanh", **SPREAD
    )
    check_formula(layer, draw(3, 3, 3, 2), published(depthwise(strides, padding)))


def test_weights_have_the_published_shapes():
    layer = BatchEnsembleDepthwiseConv2D(3, 4, 2, depth_multiplier=2)
    layer.build((None, 5, 5, 3))
    assert {w.name: tuple(w.shape) for w in layer.weights} == {
        "kernel": (3, 3, 3, 2),
        "r": (2, 4, 3),
        "s": (2, 4, 6),
        "bias": (4, 6),
    }
    assert layer.fast_weights == [layer.r, layer.s] and BatchEnsembleDense(2).fast_weights == []


@pytest.mark.parametrize("kind", [RandomSign(0.5), "random_normal"])
def test_members_and_terms_begin_apart(kind):
    layer = BatchEnsembleDense(64, 3, 2, r_initializer=kind, s_initializer=kind)
    layer.build((None, 64))
    drawn = [numpy(w)[j, m] for w in (layer.r, layer.s) for j in range(2) for m in range(3)]
    for i, one in enumerate(drawn):
        assert not any((one == other).all() for other in drawn[:i])


def test_bias_is_added_after_the_scaling():
    layer = BatchEnsembleDense(3, 2, s_initializer="zeros", bias_initializer="normal", activation="relu")
    given = numpy(layer(draw(4, 5)))
    bias = np.maximum(numpy(layer.bias), 0)
    np.testing.assert_allclose(given, bias[[0, 0, 1, 1]], atol=1e-7)


def test_only_kernel_and_bias_are_regularised():
    layer = BatchEnsembleDense(
        3, 2, kernel_regularizer=keras.regularizers.L2(0.5), bias_regularizer=keras.regularizers.L2(2.0),
        bias_initializer="ones",
    )  # fmt: skip
    layer(draw(4, 5))
    total = sum(float(loss) for loss in layer.losses)
    assert total == pytest.approx(0.5 * (numpy(layer.kernel) ** 2).sum() + 2 * 6, rel=1e-5)


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(0, 0, 0), (0.3, 2800, 3200), (1, 10_000, 10_000)]
)
def test_random_sign_is_plus_one_with_its_probability(probability, low, high):
    drawn = numpy(RandomSign(probability, seed=1)((100, 100)))
    assert set(np.unique(drawn)) <= {-1, 1} and low <= (drawn == 1).sum() <= high


def test_random_sign_repeats_under_its_seed():
    one, other = RandomSign(0.5, seed=1), RandomSign(0.5, seed=2)
    np.testing.assert_array_equal(numpy(one((50,))), numpy(one.clone()((50,))))
    assert (numpy(one((50,))) != numpy(other((50,)))).any()
    keras.utils.set_random_seed(7)
    drawn = numpy(RandomSign()((50,)))
    assert (drawn != numpy(RandomSign()((50,)))).any()
    keras.utils.set_random_seed(7)
    np.testing.assert_array_equal(numpy(RandomSign()((50,))), drawn)


def test_one_number_chooses_the_initialiser_as_published():
    drawn = numpy(fast_weight_initializer(-0.5)((100, 100)))
    assert drawn.mean() == pytest.approx(1, abs=0.02) and drawn.std() == pytest.approx(0.5, abs=0.02)
    assert set(np.unique(numpy(fast_weight_initializer(0.5)((50,))))) == {-1, 1}
    for value in (0, 1):
        assert (numpy(fast_weight_initializer(value)((50,))) == 1).all()


MAPS = draw(5, 6, 6, 4)
LAYERS = {
    "dense": (
        lambda: BatchEnsembleDense(3, 2, r_initializer="normal", activation="relu"),
        MAPS[:, 0, 0],
    ),
    "dense 3d": (lambda: BatchEnsembleDense(3, 2, 2, use_bias=False), MAPS[:, 0]),
    "conv": (lambda: BatchEnsembleConv2D(3, 3, 4, kernel_regularizer="l2", strides=2), MAPS),
    "conv groups": (lambda: BatchEnsembleConv2D(4, 2, 2, 2, groups=2, padding="same"), MAPS),
    "depthwise": (
        lambda: BatchEnsembleDepthwiseConv2D(3, 2, depth_multiplier=2, fast_weight_lr_multiplier=0.5),
        MAPS,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_a_good_keras_layer(name, check_layer):
    make, inputs = LAYERS[name]
    check_layer(make, inputs)


PLAIN = {
    BatchEnsembleDense: (keras.layers.Dense, (5,), {}, (7, 4)),
    BatchEnsembleConv2D: (keras.layers.Conv2D, (5, 3), {"strides": 2, "padding": "same"}, (7, 6, 6, 4)),
    BatchEnsembleDepthwiseConv2D: (keras.layers.DepthwiseConv2D, (3,), {"dilation_rate": 2}, (7, 6, 6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
def test_with_all_ones_a_layer_is_the_plain_one(kind):
    plain_kind, size, options, shape = PLAIN[kind]
    plain = plain_kind(*size, activation="relu", bias_initializer="normal", **options)
    layer = kind(
        *size, num_members=3, r_initializer="ones", s_initializer="ones", activation="relu", **options
    )
    x = draw(*shape)
    expected = numpy(plain(x))
    layer.build(shape)
    layer.kernel.assign(plain.kernel)
    layer.bias.assign(ops.tile(plain.bias[None], (3, 1)))
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "sign"), [("mlp", 0), ("lenet", 1), ("resnet20", 0)])
def test_with_all_ones_a_network_trains_as_the_single_one(backbone, sign, tiny, images, labels):
    """Answers, and after a step weights, are the single network's; a bias takes a member's share of it."""
    method = BatchEnsemble(3, random_sign_init=sign, fast_weight_lr_multiplier=0)
    images = images if backbone == "lenet" else images[:, ::2, ::2]
    single, model = (tiny(m, backbone, images.shape[1:]) for m in (Single(), method))
    sources = {layer.name: layer for layer in single.network.layers}

    def pairs():
        for layer in model.network.layers:
            source = {w.name: w for w in sources[layer.name].weights} if layer.weights else {}
            for weight in layer.weights:
                if weight.name in source:
                    yield weight, numpy(source[weight.name])

    for weight, value in [*pairs()]:
        weight.assign(np.broadcast_to(value, weight.shape))
    for network in (single, model):
        network.compile(keras.optimizers.SGD(0.01), network.loss, run_eagerly=True)
    np.testing.assert_allclose(numpy(model(images)), numpy(single(images)), atol=1e-4)
    before = {id(weight): value for weight, value in pairs()}
    for network in (single, model):
        network.train_on_batch(images, labels)
    for weight, value in pairs():
        if len(weight.shape) > len(value.shape):
            value = before[id(weight)] + (value - before[id(weight)]) / 3
        np.testing.assert_allclose(
            numpy(weight), np.broadcast_to(value, weight.shape), atol=1e-4, err_msg=weight.path
        )


BAD = [
    (lambda: BatchEnsembleDense(3, 0), "num_members.*0"),
    (lambda: BatchEnsembleConv2D(3, 3, 2.5), "num_members.*2.5"),
    (lambda: BatchEnsembleDense(3, 2, 0), "rank.*0"),
    (lambda: BatchEnsembleDepthwiseConv2D(3, 2, 1.5), "rank.*1.5"),
    (lambda: BatchEnsembleDense(3, fast_weight_lr_multiplier=-0.5), "fast_weight_lr_multiplier.*-0.5"),
    (lambda: BatchEnsembleDense(3, fast_weight_lr_multiplier=np.nan), "fast_weight_lr_multiplier.*nan"),
    (lambda: BatchEnsembleConv2D(3, 3, data_format="channels_first"), "channels_first"),
    (lambda: RandomSign(1.5), "probability.*1.5"),
    (lambda: RandomSign(-0.1), "probability.*-0.1"),
    (lambda: BatchEnsemble(0), "num_members.*0"),
    (lambda: BatchEnsemble(2, rank=-1), "rank.*-1"),
    (lambda: BatchEnsemble(2, random_sign_init=2), "probability.*2"),
    (lambda: BatchEnsemble(2, fast_weight_lr_multiplier=-1), "fast_weight_lr_multiplier.*-1"),
    (lambda: BatchEnsemble(2, training_mode="both"), "training_mode.*both"),
    (lambda: BatchEnsemble(2, tile_at=-1), "tile_at.*-1"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()


@pytest.mark.parametrize("per_member_norm", [False, True])
def test_normalisation_is_the_members_own_where_asked(per_member_norm, tiny):
    model = tiny(BatchEnsemble(3, per_member_norm=per_member_norm), "resnet20", (8, 8, 3))
    shapes = {
        tuple(layer.gamma.shape)
        for layer in model.network.layers
        if isinstance(layer, (zoo.layers.BatchNormalization, zoo.layers.PerMemberBatchNormalization))
    }
    assert shapes == {(3, c) if per_member_norm else (c,) for c in (16, 32, 64)}
