"""MC dropout: the layer, and networks whose members are draws.  Runs on every backend."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from helpers.arrays import draw
from zoo.layers import MonteCarloDropout
from zoo.layers.monte_carlo import noise_of
from zoo.methods import MCDropout, Single


def numpy(value):
    return ops.convert_to_numpy(value)


def ones(*shape):
    return np.ones(shape, "float32")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 0.9])
def test_rate_is_the_share_that_is_dropped_and_the_mean_stays(rate, training):
    y = numpy(MonteCarloDropout(rate, 4, seed=1)(ones(8, 50, 50), training=training))
    for rows in y.reshape(4, 2, 50, 50):
        dropped = (rows == 0).mean()
        assert dropped == pytest.approx(rate, abs=0.03)
        np.testing.assert_allclose(rows[rows != 0], 1 / (1 - rate), rtol=1e-5)
        assert rows.mean() == pytest.approx(1, abs=0.2 if rate == 0.9 else 0.06)


@pytest.mark.parametrize("shape", [(6, 7), (4, 7), (1, 7), (6, 3, 2)])
def test_inference_is_its_formula(shape, check_formula):
    layer = MonteCarloDropout(0.4, 3, seed=2)
    units = numpy(layer(ones(3, *shape[1:])))  # one row a member shows what it keeps
    np.testing.assert_allclose(np.unique(units), [0, 1 / 0.6], rtol=1e-6)

    def formula(x, weights):
        return np.stack([row * units[i * 3 // len(x)] for i, row in enumerate(x)])

    check_formula(layer, draw(*shape), formula, training=False)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rows", [6, 7])
def test_filterwise_drops_whole_channels(rows, training):
    layer = MonteCarloDropout(0.4, 3, seed=2, filterwise=True)
    y = numpy(layer(ones(rows, 5, 4, 50), training=training))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))
    assert (y == 0).mean() == pytest.approx(0.4, abs=0.1)
    np.testing.assert_allclose(y[y != 0], 1 / 0.6, rtol=1e-6)
    alike = [(a[0, 0] == b[0, 0]).all() for a, b in itertools.combinations(y, 2)]
    members = [i * 3 // rows for i in range(rows)]
    expected = [not training and a == b for a, b in itertools.combinations(members, 2)]
    assert alike == expected


def test_filterwise_is_plain_dropout_of_vectors():
    plain, filterwise = (MonteCarloDropout(0.4, 3, seed=2, filterwise=f) for f in (False, True))
    np.testing.assert_array_equal(numpy(plain(ones(6, 9))), numpy(filterwise(ones(6, 9))))


def test_members_and_layers_drop_different_units():
    one, other = (numpy(MonteCarloDropout(0.5, 3, seed=seed)(ones(3, 40))) for seed in (1, 2))
    for a, b in itertools.combinations([*one, *other], 2):
        assert 5 < (a != b).sum() < 35
    unseeded = [MonteCarloDropout(0.5, 3) for _ in range(2)]
    assert unseeded[0].seed != unseeded[1].seed


def test_consistent_draws_do_not_depend_on_the_batch():
    layer = MonteCarloDropout(0.5, 3, seed=1)
    units = numpy(layer(ones(3, 40)))
    for count in (1, 5):  # images, tiled member by member
        for _ in range(2):
            y = numpy(layer(ones(3 * count, 40)))
            np.testing.assert_array_equal(y, np.repeat(units, count, axis=0))
    layer(ones(4, 40), training=True)  # training does not move them
    np.testing.assert_array_equal(numpy(layer(ones(3, 40))), units)


def test_fresh_draws_differ_from_call_to_call():
    layer = MonteCarloDropout(0.5, 3, consistent=False, seed=1)
    first, second = (numpy(layer(ones(6, 40))) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(first[::2], first[1::2])  # a member drops the same for all images
    repeated = MonteCarloDropout(0.5, 3, consistent=False, seed=1)
    np.testing.assert_array_equal(numpy(repeated(ones(6, 40))), first)


def test_training_drops_fresh_units_for_every_row():
    layer = MonteCarloDropout(0.5, 4, seed=1)
    first, second = (numpy(layer(ones(4, 40), training=True)) for _ in range(2))
    for a, b in itertools.combinations([*first, *second], 2):
        assert (a != b).any()


@pytest.mark.parametrize("options", [{"rate": 0.5}, {"rate": 0.0, "consistent": False}])
def test_layer_is_a_good_keras_layer(options, check_layer):
    check_layer(lambda: MonteCarloDropout(num_members=1, seed=3, **options), draw(5, 4, 6))
    check_layer(lambda: MonteCarloDropout(num_members=4, seed=3, **options), ones(5, 6))
    check_layer(lambda: MonteCarloDropout(seed=3, filterwise=True, **options), draw(4, 3, 2, 6))


@pytest.mark.parametrize("training", [False, True])
def test_gaussian_noise_and_the_saturation_of_selus_are_keras_own(training):
    gaussian = numpy(
        MonteCarloDropout(0.2, 4, seed=1, noise="gaussian")(ones(4, 900), training=training)
    )
    np.testing.assert_allclose([gaussian.mean(), gaussian.std()], [1, 0.5], atol=0.05)
    x = draw(4, 900)
    alpha, keras_alpha = (
        numpy(layer(x, training=mode))
        for layer, mode in (
            (MonteCarloDropout(0.2, 4, seed=1, noise="alpha"), training),
            (keras.layers.AlphaDropout(0.2, seed=2), True),
        )
    )
    saturation = -1.7580993
    lowest = 0.8 * saturation / np.sqrt(0.8 * (1 + 0.2 * saturation**2))
    dropped, by_keras = (np.isclose(y, lowest, atol=1e-5) for y in (alpha, keras_alpha))
    assert dropped.mean() == pytest.approx(by_keras.mean(), abs=0.03)
    kept = ~dropped & ~by_keras
    np.testing.assert_allclose(alpha[kept], keras_alpha[kept], atol=1e-5)


@pytest.mark.parametrize(
    ("noise_shape", "axes"), [((None, 1, 1, 1), (1, 2, 3)), ((None, None, 1, 1), (2, 3))]
)
@pytest.mark.parametrize("noise", ["dropout", "gaussian", "alpha"])
def test_a_noise_shape_draws_once_for_an_axis(noise_shape, axes, noise):
    layer = MonteCarloDropout(0.5, 8, seed=3, noise_shape=noise_shape, noise=noise)
    units = numpy(layer(ones(8, 6, 5, 4)))
    first = units[tuple(slice(1) if axis in axes else slice(None) for axis in range(4))]
    np.testing.assert_allclose(units, np.broadcast_to(first, units.shape), rtol=1e-6)
    assert len(np.unique(first.round(4))) > 1
    for rows in (16, 7):  # tiled member by member, and a batch that was not tiled
        y = numpy(layer(ones(rows, 6, 5, 4)))
        np.testing.assert_allclose(y, [units[i * 8 // rows] for i in range(rows)], rtol=1e-6)
    y = numpy(layer(ones(200, 6, 5, 4), training=True))
    np.testing.assert_allclose(y, np.broadcast_to(y.mean(axes, keepdims=True), y.shape), rtol=1e-5)
    assert y.std(axis=0).min() > 0.1
    shared = MonteCarloDropout(0.5, 2, seed=3, noise_shape=(1, None, None, None), noise=noise)
    y = numpy(shared(ones(4, 6, 5, 4), training=True))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:1], y.shape))
    assert (numpy(shared(ones(2, 6, 5, 4)))[0] != numpy(shared(ones(2, 6, 5, 4)))[1]).any()


KERAS_LAYERS = [
    (keras.layers.Dropout(0.2), (0.2, False, None, "dropout")),
    (keras.layers.Dropout(0.2, noise_shape=[None, 1, 5]), (0.2, False, (None, 1, 5), "dropout")),
    (keras.layers.SpatialDropout1D(0.2), (0.2, True, None, "dropout")),
    (keras.layers.SpatialDropout2D(0.2), (0.2, True, None, "dropout")),
    (
        keras.layers.SpatialDropout3D(0.2, data_format="channels_first"),
        (0.2, False, (None, None, 1, 1, 1), "dropout"),
    ),
    (keras.layers.GaussianDropout(0.3), (0.3, False, None, "gaussian")),
    (keras.layers.AlphaDropout(0.3, noise_shape=(None, 1)), (0.3, False, (None, 1), "alpha")),
]


@pytest.mark.parametrize(("layer", "expected"), KERAS_LAYERS)
def test_keras_layers_are_read(layer, expected):
    assert tuple(noise_of(layer).values()) == expected


def test_noise_that_is_not_dropout_is_not_read():
    assert [noise_of(x) for x in (keras.layers.GaussianNoise(0.1), keras.layers.ReLU(), None)] == [
        None
    ] * 3


@pytest.mark.parametrize("noise", ["gaussian", "alpha"])
def test_layers_of_other_noise_are_good_keras_layers(noise, check_layer):
    options = {"noise_shape": (None, 1, 2, None), "noise": noise}
    check_layer(lambda: MonteCarloDropout(num_members=1, seed=3, **options), draw(5, 4, 2, 3))


def test_an_unseeded_layer_keeps_its_draws_when_saved():
    layer = MonteCarloDropout(0.5, 4)
    twin = MonteCarloDropout.from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_array_equal(numpy(twin(ones(4, 40))), numpy(layer(ones(4, 40))))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mlp", "lenet", "resnet20"])
def test_at_rate_zero_every_member_is_the_single_network(backbone, tiny, images):
    single, model = tiny(Single(), backbone), tiny(MCDropout(3, rate=0), backbone)
    model.set_weights(single.get_weights())
    expected = numpy(single.network(images.astype("float32")))
    given = numpy(model.network(images.astype("float32")))
    np.testing.assert_allclose(given, np.repeat(expected, 3, axis=1), atol=1e-4)


def dropouts(model):
    return [layer for layer in model.network.layers if isinstance(layer, MonteCarloDropout)]


def test_dropout_stands_before_every_hidden_layer_and_the_head(tiny):
    model = tiny(MCDropout(3), "lenet")
    names = [layer.name.removesuffix("_dropout") for layer in dropouts(model)]
    assert names == ["conv2", "dense1", "dense2", "head"]
    model = tiny(MCDropout(3, tile_at=3), "resnet20", (8, 8, 3))
    names = [layer.name.removesuffix("_dropout") for layer in dropouts(model)]
    assert len(names) == 3 * 2 + 1 and not any("shortcut" in name for name in names)
    seeds = {layer.seed for layer in dropouts(model)}
    assert len(seeds) == len(names)
    assert seeds.isdisjoint(layer.seed for layer in dropouts(tiny(MCDropout(3, seed=1), "lenet")))


@pytest.mark.slow
def test_filterwise_drops_channels_of_convolutions_and_trains(tiny, images, labels):
    model = tiny(MCDropout(3, rate=0.5, filterwise=True), "lenet")
    assert all(layer.filterwise for layer in dropouts(model))
    twin = tiny(MCDropout(3, rate=0.5), "lenet")
    twin.set_weights(model.get_weights())
    assert np.abs(numpy(twin(images)) - numpy(model(images))).max() > 1e-3
    model.fit(images, labels, batch_size=5, epochs=2, verbose=0)
    assert np.isfinite(model.evaluate(images, labels, verbose=0)).all()


def test_answers_are_one_draw_a_member(tiny, images):
    """A member's logits are the network's with that member's units dropped in every layer."""
    model, single = tiny(MCDropout(3, rate=0.5), "mlp"), tiny(Single(), "mlp")
    single.set_weights(model.get_weights())
    given = numpy(model.network(images.astype("float32")))
    assert np.abs(given[:, 0] - given[:, 1]).min() > 1e-3
    layers = {layer.name: layer for layer in single.network.layers}
    for m in range(3):
        x = layers["flatten"](layers["normalize"](images.astype("float32")))
        for name in ("dense1", "dense2", "head"):
            for dropout in dropouts(model):
                if dropout.name == f"{name}_dropout":
                    x = x * dropout(ones(3, x.shape[-1]))[m]
            x = layers[name](x)
            x = ops.relu(x) if name != "head" else x
        np.testing.assert_allclose(given[:, m], numpy(x), atol=1e-4)


def test_predictions_repeat_or_differ_as_asked(tiny, images):
    for consistent in (True, False):
        model = tiny(MCDropout(3, rate=0.5, consistent=consistent), "mlp")
        first, second = (model.predict(images, verbose=0) for _ in range(2))
        assert (first == second).all() == consistent


def test_a_saved_model_drops_the_same_units(tiny, images, tmp_path):
    model = tiny(MCDropout(3, rate=0.5), "mlp")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(images)), numpy(model(images)), atol=1e-6)
    assert zoo.methods.deserialize(model.spec["method"]) == MCDropout(3, rate=0.5)


BAD = [
    (lambda: MonteCarloDropout(1.0), "rate.*1.0"),
    (lambda: MonteCarloDropout(-0.1), "rate.*-0.1"),
    (lambda: MonteCarloDropout(float("nan")), "rate.*nan"),
    (lambda: MonteCarloDropout(0.1, 0), "num_members.*0"),
    (lambda: MonteCarloDropout(0.1, noise="white"), "noise.*dropout, gaussian, alpha.*white"),
    (lambda: MCDropout(0), "num_members.*0"),
    (lambda: MCDropout(3, rate=None, filterwise=True), "filterwise needs a rate"),
    (lambda: MCDropout(3, rate=1), "rate.*1"),
    (lambda: MCDropout(3, tile_at="tail"), "tile_at.*tail"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
