"""MIMO layers against what is published: batches, channels, head, order of the answers.  On every backend."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from helpers.arrays import draw
from zoo.layers import MIMOExpand, MIMOHead
from zoo.methods import MIMO


def numpy(value):
    return ops.convert_to_numpy(value)


def numbered(count, channels=1, size=1):
    """Images whose every value is their number, from 0; channel c adds c / 10."""
    x = np.arange(count, dtype="float32")[:, None, None, None] + np.arange(channels) / 10
    return np.tile(x.astype("float32"), (1, size, size, 1))


def drawn(count, *arguments, **options):
    """The images (L, M) that each member sees, by the images themselves and by the second output."""
    x, rows = MIMOExpand(*arguments, **options)(numbered(count), training=True)
    x, rows = numpy(x)[:, 0, 0], numpy(rows)
    np.testing.assert_array_equal(x, rows)
    return rows


@pytest.mark.parametrize("count", [1, 5])
def test_at_inference_every_member_sees_the_image(count):
    x = draw(count, 2, 3, 4)
    images, rows = MIMOExpand(3, 4, 0.5)(x)
    assert images.shape == (count, 2, 3, 12)
    for m in range(3):
        np.testing.assert_array_equal(numpy(images)[..., m::3], x)  # channel index c * M + m
        np.testing.assert_array_equal(numpy(rows)[:, m], np.arange(count))


def test_channels_are_colour_major_in_training_too():
    images, rows = MIMOExpand(2, seed=1)(numbered(4, channels=3, size=2), training=True)
    for c in range(3):
        for m in range(2):
            expected = numpy(rows)[:, m, None, None] + np.float32(c / 10)
            given = numpy(images)[..., c * 2 + m]
            np.testing.assert_allclose(given, np.broadcast_to(expected, (4, 2, 2)), atol=1e-6)


@pytest.mark.parametrize("repetitions", [1, 3])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_every_member_sees_each_image_r_times(members, repetitions):
    rows = drawn(7, members, repetitions)
    assert rows.shape == (7 * repetitions, members) and rows.dtype == "int32"
    for m in range(members):
        np.testing.assert_array_equal(np.sort(rows[:, m]), np.repeat(np.arange(7), repetitions))


@pytest.mark.parametrize(
    ("probability", "apart"), [(0, 60), (0.1, 54), (0.25, 45), (0.3, 42), (0.6, 24), (0.99, 0), (1, 0)]
)
def test_the_published_share_of_rows_repeats_one_image(probability, apart):
    """The first int(L (1 - p)) rows of a common shuffle are shuffled again, by each member alone."""
    rows = drawn(30, 3, 2, probability, seed=4)
    assert (rows[apart:] == rows[apart:, :1]).all()
    for m in (1, 2):
        np.testing.assert_array_equal(np.sort(rows[:apart, m]), np.sort(rows[:apart, 0]))
        assert apart == 0 or (rows[:apart, m] != rows[:apart, 0]).mean() > 0.7
    if apart:
        assert apart == int(60 * (1 - probability) + 1e-6)


def test_shuffles_are_uniform_and_members_independent():
    rows = drawn(4000, 2, 1, 0.0, seed=2)
    columns = [np.arange(4000), rows[:, 0], rows[:, 1]]
    assert np.abs(np.corrcoef(columns) - np.eye(3)).max() < 0.06
    assert (rows[:, 0] == rows[:, 1]).sum() < 10
    kept = drawn(4000, 2, 1, 1.0, seed=2)[:, 0]
    assert abs(np.corrcoef(kept, np.arange(4000))[0, 1]) < 0.06  # shuffled, though members agree


def test_seed_fixes_the_shuffles():
    one, two, other = (MIMOExpand(3, 2, 0.5, seed=seed) for seed in (1, 1, 2))
    x = numbered(6)
    first = [numpy(layer(x, training=True)[1]) for layer in (one, two, other)]
    second = [numpy(layer(x, training=True)[1]) for layer in (one, two)]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(second[0], second[1])
    assert (first[0] != first[2]).any() and (first[0] != second[0]).any()
    keras.utils.set_random_seed(5)
    unseeded = numpy(MIMOExpand(3)(x, training=True)[1])
    assert (unseeded != numpy(MIMOExpand(3)(x, training=True)[1])).any()
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(numpy(MIMOExpand(3)(x, training=True)[1]), unseeded)


def test_expand_keeps_its_arguments():
    layer = MIMOExpand(3, 2, 0.25, seed=6)
    twin = MIMOExpand.from_config(json.loads(json.dumps(layer.get_config())))
    assert twin.get_config() == layer.get_config()
    np.testing.assert_array_equal(*(numpy(one(numbered(5), training=True)[1]) for one in (layer, twin)))
    assert layer.compute_output_shape((None, 4, 4, 3)) == ((None, 4, 4, 9), (None, 3))


def test_head_is_one_dense_layer_in_blocks(check_formula):
    def formula(x, weights):
        blocks = [weights["kernel"][:, 2 * m : 2 * m + 2] for m in range(3)]
        return np.stack(
            [x @ k + weights["bias"][2 * m : 2 * m + 2] for m, k in enumerate(blocks)], axis=1
        )

    check_formula(MIMOHead(2, 3, bias_initializer="normal"), draw(4, 5), formula)


@pytest.mark.parametrize("options", [{}, {"use_bias": False, "kernel_regularizer": "l2"}])
def test_head_is_a_good_keras_layer(options, check_layer):
    check_layer(lambda: MIMOHead(3, 2, **options), draw(5, 4))


@pytest.mark.fast("3-1-7-0.4", "2-3-5-1.0", "3-2-1-0.0")
@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    ("members", "repetitions", "count"), [(3, 1, 7), (2, 3, 5), (3, 2, 1), (1, 2, 4)]
)
def test_identity_members_give_the_labels_back_row_by_row(members, repetitions, count, probability):
    """Members that answer with the value of their image answer in the order of the labels."""
    expand, head = MIMOExpand(members, repetitions, probability), MIMOHead(2, members, repetitions)
    images = keras.Input((1, 1, 2))
    x, rows = expand(images)
    network = keras.Model(images, head([keras.layers.Flatten()(x), rows]))
    identity = np.zeros((2 * members, members * 2))
    for m in range(members):
        for c in range(2):
            identity[c * members + m, m * 2 + c] = 1
    head.set_weights([identity, np.arange(members * 2) * 100.0])
    labels = numbered(count, channels=2)
    for _ in range(3):
        answers = numpy(network(labels, training=True))
        assert answers.shape == (count, members * repetitions, 2)
        for b in range(count):
            for j in range(members * repetitions):
                bias = 200 * (j // repetitions) + 100 * np.arange(2)  # member-major
                np.testing.assert_allclose(answers[b, j], b + np.arange(2) / 10 + bias, rtol=1e-5)
    expected = labels[:, 0, 0][:, None] + 100 * np.arange(2 * members).reshape(members, 2)
    np.testing.assert_allclose(numpy(network(labels)), expected, rtol=1e-5)


class Restoring(MIMOHead):
    """A head in training, of rows that are always the same."""

    rows = np.array([[1, 0], [2, 2], [0, 1], [2, 0], [0, 2], [1, 1]], "int32")

    def call(self, inputs, training=None):
        return super().call([inputs, ops.array(self.rows)], training=True)


def test_restored_answers_have_the_gradients_of_their_rows(check_formula):
    def formula(x, weights):
        logits = (x @ weights["kernel"] + weights["bias"]).reshape(6, 2, 3)
        # A gradient by x tells which row answered: any of an image's two may come first.
        return np.stack(
            [np.concatenate([np.sort(logits[Restoring.rows[:, m] == b, m], 0) for m in range(2)])
             for b in range(3)]
        )  # fmt: skip

    class Sorted(Restoring):
        def call(self, inputs, training=None):
            answers = ops.reshape(super().call(inputs), (3, 2, 2, 3))
            return ops.reshape(ops.sort(answers, axis=2), (3, 4, 3))

    check_formula(Sorted(3, 2, 2), draw(6, 4), formula)


def test_loss_is_the_mean_over_rows_of_the_sum_over_members():
    """As published, of each row's logits and its own labels; ours is of the restored order.

    Its value is shown as the mean over members.
    """
    keras.utils.set_random_seed(1)
    members, repetitions, classes, count = 3, 2, 4, 5
    expand, head = MIMOExpand(members, repetitions, 0.3, seed=1), MIMOHead(classes, members, repetitions)
    x, rows = expand(draw(count, 2, 2, 1), training=True)
    features = ops.reshape(x, (count * repetitions, -1))
    labels = np.array([0, 3, 1, 1, 2])
    raw = numpy(head(features)).astype("float64")
    published = 0
    for logits, seen in zip(raw, numpy(rows)):
        for m in range(members):
            published += np.log(np.exp(logits[m]).sum()) - logits[m, labels[seen[m]]]
    published /= count * repetitions
    model = zoo.build(MIMO(members, repetitions), "mlp", classes, (2, 2, 1))
    restored = head([features, rows], training=True)
    loss = numpy(model.compute_loss(y=ops.array(labels), y_pred=restored))
    assert loss * members == pytest.approx(published, rel=1e-5)


@pytest.mark.slow
def test_seeded_training_repeats_exactly(images, labels):
    def trained(seed):
        keras.utils.set_random_seed(0)
        model = zoo.build(MIMO(2, 2, 0.5, seed=seed), "mlp", 3, (16, 16, 3))
        model.compile("adam", model.loss, run_eagerly=True)
        model.fit(images, labels, batch_size=4, shuffle=False, verbose=0)  # of 4 and of 1
        return model.get_weights()

    one, two, other = trained(1), trained(1), trained(2)
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other))


def test_only_stem_and_head_are_wider(tiny):
    """The kernels of a member are those of a single network."""
    single, model = tiny(zoo.methods.Single(), "lenet"), tiny(MIMO(3), "lenet")
    for layer, wide in zip(single.network.layers[2:], model.network.layers[3:]):
        for a, b in zip(layer.weights, wide.weights):
            factor = np.prod(b.shape) / np.prod(a.shape)
            stem = layer.name == "conv1" and a.name == "kernel"
            assert factor == (3 if stem or layer.name == "head" else 1), b.path


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no XLA")
def test_a_training_step_compiles_with_xla(images, labels):
    model = zoo.build(MIMO(2, 2, 0.5, seed=1), "mlp", 3, (16, 16, 3))
    model.compile("sgd", model.loss, jit_compile=True)
    assert np.isfinite(model.train_on_batch(images, labels)).all()


BAD = [
    (lambda: MIMOExpand(0), "num_members.*0"),
    (lambda: MIMOExpand(2.0), "num_members.*2.0"),
    (lambda: MIMOExpand(2, 0), "batch_repetitions.*0"),
    (lambda: MIMOExpand(2, 1.5), "batch_repetitions.*1.5"),
    (lambda: MIMOExpand(2, 1, -0.1), "input_repetition_probability.*-0.1"),
    (lambda: MIMOExpand(2, 1, 1.1), "input_repetition_probability.*1.1"),
    (lambda: MIMOExpand(2, 1, np.nan), "input_repetition_probability.*nan"),
    (lambda: MIMOHead(2, 0), "num_members.*0"),
    (lambda: MIMOHead(2, 2, -1), "batch_repetitions.*-1"),
    (lambda: MIMOHead(0, 2), "units.*0"),
    (lambda: MIMO(0), "num_members.*0"),
    (lambda: MIMO(2, 0), "batch_repetitions.*0"),
    (lambda: MIMO(2, 1, 2), "input_repetition_probability.*2"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_bad_arguments_are_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()
