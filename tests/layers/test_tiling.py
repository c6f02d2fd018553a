"""Members as rows of the batch: tiling, sharing out, and normalisation.  Runs on every backend."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import zoo
from helpers.arrays import draw
from zoo import counts
from zoo.layers import BatchNormalization, MemberLogits, PerMemberBatchNormalization, TileMembers
from zoo.layers.tiling import members_of_rows
from zoo.methods import BatchEnsemble, Masksembles, MCDropout


def numpy(value):
    return ops.convert_to_numpy(value)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 600), st.integers(1, 40))
def test_rows_are_shared_out_in_equal_blocks_in_order(rows, members):
    assigned = numpy(members_of_rows(rows, members))
    np.testing.assert_array_equal(assigned, [i * members // rows for i in range(rows)])
    assert assigned[0] == 0 and (np.diff(assigned) >= 0).all() and assigned[-1] < members
    counts = np.bincount(assigned, minlength=members)
    assert counts.max() - counts.min() <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5))
def test_tiled_rows_are_member_major_and_come_back_by_image(count, members):
    x = draw(count, 3)
    rows = numpy(TileMembers(members)(x))
    for m in range(members):
        np.testing.assert_array_equal(rows[m * count : (m + 1) * count], x)
    np.testing.assert_array_equal(
        numpy(members_of_rows(members * count, members)), np.repeat(np.arange(members), count)
    )
    answers = rows + 10 * np.repeat(np.arange(members), count)[:, None].astype("float32")
    logits = numpy(MemberLogits(members)(answers))
    assert logits.shape == (count, members, 3)
    for m in range(members):
        np.testing.assert_allclose(logits[:, m], x + 10 * m, atol=1e-5)


@pytest.mark.parametrize("training", [False, True, None])
@pytest.mark.parametrize("mode", ["tile", "split"])
def test_modes_differ_in_training_alone(mode, training):
    x = draw(5, 4, 2)
    rows = numpy(TileMembers(3, mode)(x, training=training))
    split = training and mode == "split"
    np.testing.assert_array_equal(rows, x if split else np.tile(x, (3, 1, 1)))
    logits = MemberLogits(3, mode)(rows[:, 0], training=training)
    assert logits.shape == ((5, 1, 2) if split else (5, 3, 2))
    np.testing.assert_array_equal(numpy(logits)[:, 0], x[:, 0])


@pytest.mark.parametrize("mode", ["tile", "split"])
def test_tiling_layers_keep_their_arguments(mode):
    for kind in (TileMembers, MemberLogits):
        layer = kind(3, mode)
        assert kind.from_config(layer.get_config()).get_config() == layer.get_config()
    inputs = keras.Input((4,))
    network = keras.Model(inputs, MemberLogits(3, mode)(TileMembers(3, mode)(inputs)))
    assert network.output_shape == (None, 3, 4)
    for count in (1, 5):
        assert network(draw(count, 4)).shape == (count, 3, 4)


def normalised(training, epsilon):
    def formula(x, weights):
        members = len(weights["gamma"])
        assigned = np.arange(len(x)) * members // len(x)
        y = np.empty(x.shape)
        for m in range(members):
            rows = x[assigned == m]
            if not len(rows):
                continue
            axes = tuple(range(rows.ndim - 1))
            mean = rows.mean(axes) if training else weights["moving_mean"][m]
            variance = rows.var(axes) if training else weights["moving_variance"][m]
            scaled = (rows - mean) / np.sqrt(variance + epsilon)
            y[assigned == m] = scaled * weights["gamma"][m] + weights["beta"][m]
        return y

    return formula


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(7, 3), (6, 2, 2, 3), (2, 4, 3), (1, 4, 3)])
def test_normalisation_is_its_formula(shape, training, check_formula):
    """Batches of equal and unequal shares, and where members have one row or none."""
    layer = PerMemberBatchNormalization(3, momentum=1.0, epsilon=0.1)
    layer.build(shape)
    layer.set_weights([np.linspace(0.5, 2, 9).reshape(3, 3) + i for i in range(4)])
    check_formula(layer, draw(*shape), normalised(training, 0.1), training=training)


@pytest.mark.parametrize("shape", [(8, 3), (8, 2, 3, 3)])
@pytest.mark.parametrize("options", [{}, {"scale": False, "momentum": 0.5}, {"center": False}])
def test_normalisation_of_a_member_is_keras_own(shape, options):
    x = 3 * draw(*shape) + np.arange(8, dtype="float32").reshape(8, *(1,) * (len(shape) - 1))
    layer = PerMemberBatchNormalization(2, **options)
    alone = [keras.layers.BatchNormalization(**options) for _ in range(2)]
    for training in (True, True, False):
        y = numpy(layer(x, training=training))
        for m, norm in enumerate(alone):
            expected = numpy(norm(x[4 * m : 4 * m + 4], training=training))
            np.testing.assert_allclose(y[4 * m : 4 * m + 4], expected, atol=1e-4)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        ours, theirs = getattr(layer, name), [getattr(norm, name) for norm in alone]
        if ours is None:
            assert theirs == [None, None]
        else:
            np.testing.assert_allclose(numpy(ours), [numpy(v) for v in theirs], atol=1e-4)


def test_a_member_without_rows_keeps_its_averages():
    layer = PerMemberBatchNormalization(4, momentum=0.5)
    layer(draw(2, 3), training=True)  # rows of members 0 and 2
    mean, variance = numpy(layer.moving_mean), numpy(layer.moving_variance)
    np.testing.assert_array_equal(mean[[1, 3]], 0)
    np.testing.assert_array_equal(variance[[1, 3]], 1)
    assert (mean[[0, 2]] != 0).all() and (variance[[0, 2]] == 0.5).all()


def test_frozen_normalisation_uses_and_keeps_its_averages():
    layer = PerMemberBatchNormalization(2)
    layer.build((None, 3))
    layer.trainable = False
    x = draw(4, 3) + 5
    np.testing.assert_allclose(numpy(layer(x, training=True)), x / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(numpy(layer.moving_mean), 0)


@pytest.mark.parametrize("options", [{}, {"scale": False, "momentum": 0.8}, {"center": False}])
def test_normalisation_is_a_good_keras_layer(options, check_layer):
    check_layer(lambda: PerMemberBatchNormalization(2, **options), draw(5, 4, 4, 3))


def test_one_member_is_plain_normalisation(check_layer):
    x = 2 * draw(6, 4, 4, 3) + 1
    ours, plain = PerMemberBatchNormalization(1), BatchNormalization()
    for training in (True, False):
        given, expected = (numpy(layer(x, training=training)) for layer in (ours, plain))
        np.testing.assert_allclose(given, expected, atol=1e-4)


STAGES = {"mlp": 1, "lenet": 2, "resnet20": 3}


@pytest.mark.parametrize("method", [BatchEnsemble, Masksembles, MCDropout])
@pytest.mark.parametrize("backbone", ["mlp", "lenet"])
def test_tiling_later_costs_less(backbone, method, tiny):
    """What lies before the stage where every image becomes M rows is computed once."""
    single = counts.macs(tiny(zoo.methods.Single(), backbone).network)
    costs = []
    for stage in [*range(STAGES[backbone] + 1), "head"]:
        network = tiny(method(4, tile_at=stage), backbone).network
        assert network.output_shape == (None, 4, 3)
        costs.append(counts.macs(network))
    assert costs == sorted(set(costs), reverse=True)
    assert costs[0] == 4 * single
    assert costs[-1] == single + 3 * 3 * network.get_layer("head").kernel.shape[0]


def test_only_what_follows_the_tiling_is_the_methods(tiny):
    model = tiny(BatchEnsemble(4, tile_at=2), "resnet20", (8, 8, 3))
    kinds = {
        layer.name: hasattr(layer, "fast_weights")
        for layer in model.network.layers
        if hasattr(layer, "kernel")
    }
    for name, fast in kinds.items():
        assert fast == (name == "head" or name.startswith(("stage2", "stage3"))), name


@pytest.mark.parametrize("method", [BatchEnsemble, Masksembles, MCDropout])
@pytest.mark.parametrize("backbone", STAGES)
def test_a_stage_that_is_not_there_is_refused(backbone, method, tiny, raises_line):
    last = STAGES[backbone]
    with raises_line(ValueError, f'tile_at={last + 1}.* 0 to {last} and "head"'):
        tiny(method(4, tile_at=last + 1), backbone)


BAD = [
    (lambda: TileMembers(0), "num_members.*0"),
    (lambda: TileMembers(4, "tiles"), "training_mode.*tiles"),
    (lambda: MemberLogits(-1), "num_members.*-1"),
    (lambda: MemberLogits(2, None), "training_mode.*None"),
    (lambda: PerMemberBatchNormalization(0), "num_members.*0"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
