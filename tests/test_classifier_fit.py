"""fit, evaluate and predict against losses and answers computed by hand.  Runs on every backend."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.layers import PackedDense
from zoo.losses import CrossEntropy
from zoo.methods import Packed, Single


def log_softmax(x):
    x = np.asarray(x, "float64")
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def member_logits(model, images):
    return ops.convert_to_numpy(model(images, training=True))


def cross_entropies(model, images, labels):
    """(M, N): of each member and image, for integer labels."""
    log_p = log_softmax(member_logits(model, images))
    return -log_p[np.arange(len(labels)), :, labels].T


def answers(model, images):
    """(N, K): mean of the members' probabilities."""
    return np.exp(log_softmax(member_logits(model, images))).mean(axis=1)


def frozen(model, **options):
    """Compiled so that training changes nothing: its losses can be computed by hand."""
    options = {"metrics": ["accuracy"], **options}
    options["loss"] = CrossEntropy(from_probabilities=model.activation == "softmax")
    model.compile(keras.optimizers.SGD(0.0), **options)
    return model


def once(model, images, labels, **options):
    """Logs of one epoch of one batch."""
    history = model.fit(images, labels, batch_size=len(labels), verbose=0, **options).history
    return {name: values[0] for name, values in history.items()}


@pytest.mark.parametrize("method", [Single(), Packed(2, 1)])
def test_training_gives_member_logits_and_inference_their_mean(method, tiny, images):
    model = tiny(method)
    logits = member_logits(model, images)
    assert logits.shape == (5, method.num_members, 3) and logits.dtype == np.float32
    given = ops.convert_to_numpy(model(images))
    expected = np.log(np.exp(log_softmax(logits)).mean(axis=1))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(given).sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(model.predict(images, verbose=0), given, atol=1e-5)
    assert (model.num_members, model.num_classes) == (method.num_members, 3)
    assert model.input_shape == (None, 16, 16, 3)


def test_softmax_activation_gives_probabilities(tiny, images):
    model = tiny(activation="softmax")
    given = model.predict(images, verbose=0)
    np.testing.assert_allclose(given, answers(model, images), atol=1e-5)


@pytest.mark.fast("None")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_loss_that_is_shown_is_the_mean_over_members(activation, tiny, images, labels):
    model = frozen(tiny(activation=activation))
    losses = cross_entropies(model, images, labels)
    logs = once(model, images, labels)
    assert logs["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert logs["accuracy"] == pytest.approx((answers(model, images).argmax(-1) == labels).mean())


def test_loss_can_be_the_mean_of_members(tiny, images, labels):
    model = tiny()
    model = frozen(zoo.EnsembleClassifier(model.network, member_loss="mean"))
    losses = cross_entropies(model, images, labels)
    assert once(model, images, labels)["loss"] == pytest.approx(losses.mean(), rel=1e-4)


def test_members_train_as_they_would_alone(images, labels):
    singles = [zoo.build(Single(), "mlp", 3, (16, 16, 3)) for _ in range(2)]
    fused = zoo.fuse(singles)
    for model in (fused, *singles):
        model.compile(keras.optimizers.SGD(0.01), CrossEntropy())
        model.train_on_batch(images, labels)
    together = member_logits(fused, images)
    for i, single in enumerate(singles):
        np.testing.assert_allclose(together[:, i], member_logits(single, images)[:, 0], atol=1e-4)


@pytest.mark.parametrize("member_loss", ["sum", "mean"])
def test_what_is_minimised_is_what_member_loss_says(member_loss, tiny, images, labels):
    """A step of SGD moves the biases of the heads by the gradient of the sum or of the mean."""
    model = zoo.EnsembleClassifier(tiny().network, member_loss=member_loss)
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy())
    p = np.exp(log_softmax(member_logits(model, images)))
    gradient = (p - np.eye(3)[labels][:, None]).mean(axis=0) / (2 if member_loss == "mean" else 1)
    before = ops.convert_to_numpy(model.network.get_layer("head").bias)
    model.train_on_batch(images, labels)
    moved = ops.convert_to_numpy(model.network.get_layer("head").bias) - before
    np.testing.assert_allclose(moved.reshape(2, 3), -0.1 * gradient, atol=1e-5)


@pytest.mark.jax
@pytest.mark.slow
def test_regularisers_count_once(images, labels):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(inputs)
    x = PackedDense(4, 2, 2, role="stem", kernel_regularizer=keras.regularizers.L2(0.1))(x)
    logits = PackedDense(3, 2, role="head", activity_regularizer="l2")(x)
    model = frozen(zoo.EnsembleClassifier(keras.Model(inputs, logits)))
    small = images / np.float32(255)
    kernel = 0.1 * (model.network.get_weights()[0] ** 2).sum()
    activity = 0.01 * (member_logits(model, small) ** 2).sum() / len(small)
    expected = cross_entropies(model, small, labels).mean() + kernel + activity
    assert once(model, small, labels)["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.fast("None")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_evaluation_measures_the_averaged_prediction(activation, tiny, images, labels):
    nll = zoo.metrics.NegativeLogLikelihood(from_logits=activation is None)
    model = frozen(tiny(activation=activation), metrics=["accuracy", nll])
    p = answers(model, images)
    expected = -np.log(p[np.arange(5), labels]).mean()
    for batch_size in (5, 2):
        logs = model.evaluate(images, labels, batch_size=batch_size, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, rel=1e-4)
        assert logs["nll"] == pytest.approx(expected, rel=1e-4)
        assert logs["accuracy"] == pytest.approx((p.argmax(-1) == labels).mean())
    assert once(model, images, labels)["nll"] == pytest.approx(expected, rel=1e-4)


KINDS = {
    "column": lambda y: y[:, None],
    "one-hot": lambda y: np.eye(3, dtype="float32")[y],
    "list": list,
    "uint8": lambda y: y.astype("uint8"),
    "float": lambda y: y.astype("float32"),
}


@pytest.mark.fast("one-hot")
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind_mean_the_same(kind, tiny, images, labels):
    model = tiny()
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy(), metrics=["accuracy"])
    other = KINDS[kind](labels)
    other_array = np.asarray(other)
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)
    again = tiny()
    again.set_weights(model.get_weights())
    frozen(again)
    given = again.evaluate(images, other_array, verbose=0, return_dict=True)
    assert given == pytest.approx(expected, rel=1e-5)
    assert once(again, images, other_array) == pytest.approx(once(model, images, labels), rel=1e-5)
    loss, accuracy = again.train_on_batch(images, other_array)
    assert loss == pytest.approx(cross_entropies(model, images, labels).mean(), rel=1e-4)
    assert accuracy == pytest.approx(expected["accuracy"])


@pytest.mark.jax
@pytest.mark.slow
def test_one_model_takes_integer_and_one_hot_labels_in_turn(tiny, images, labels):
    model = tiny()
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)
    given = model.evaluate(images, np.eye(3, dtype="float32")[labels], verbose=0, return_dict=True)
    assert given == pytest.approx(expected, rel=1e-5)


@pytest.mark.jax
@pytest.mark.slow
def test_soft_labels_train_and_measure(tiny, images):
    soft = np.random.default_rng(4).dirichlet([1, 1, 1], 5).astype("float32")
    model = frozen(tiny())
    log_p = log_softmax(member_logits(model, images))
    expected = -(soft[:, None] * log_p).sum(axis=-1).mean()
    assert once(model, images, soft)["loss"] == pytest.approx(expected, rel=1e-4)
    evaluated = model.evaluate(images, soft, verbose=0)[0]
    assert evaluated == pytest.approx(-(soft * np.log(answers(model, images))).sum(-1).mean(), rel=1e-4)


def test_label_smoothing_by_hand(tiny, images, labels):
    model = tiny()
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy(label_smoothing=0.3))
    smooth = 0.7 * np.eye(3)[labels] + 0.1
    expected = -(smooth[:, None] * log_softmax(member_logits(model, images))).sum(-1).mean()
    assert once(model, images, labels)["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.jax
@pytest.mark.slow
def test_keras_own_losses_and_metrics_do(tiny, images, labels):
    model = tiny()
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        "sgd", own, metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="ce")]
    )
    expected = cross_entropies(model, images, labels).mean()
    nll = -np.log(answers(model, images)[np.arange(5), labels]).mean()
    logs = once(model, images, labels)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["ce"] == pytest.approx(nll, rel=1e-4)
    softmax = tiny(activation="softmax")
    softmax.compile("sgd", "sparse_categorical_crossentropy")
    expected = cross_entropies(softmax, images, labels).mean()
    assert once(softmax, images, labels)["loss"] == pytest.approx(expected, rel=1e-4)


def test_class_and_sample_weights(tiny, images, labels):
    model = frozen(tiny(), weighted_metrics=["accuracy"])
    losses = cross_entropies(model, images, labels).mean(axis=0)
    by_class, by_image = {0: 3.0, 1: 0.5, 2: 0.0}, np.array([0.0, 1.0, 2.0, 3.0, 4.0], "float32")
    weights = np.array([by_class[y] for y in labels])
    assert once(model, images, labels, class_weight=by_class)["loss"] == pytest.approx(
        (losses * weights).mean(), rel=1e-4
    )
    logs = once(model, images, labels, sample_weight=by_image)
    assert logs["loss"] == pytest.approx((losses * by_image).mean(), rel=1e-4)
    p = answers(model, images)
    right = p.argmax(-1) == labels
    assert logs["weighted_accuracy"] == pytest.approx((right * by_image).sum() / by_image.sum())
    evaluated = model.evaluate(images, labels, sample_weight=by_image, verbose=0)[0]
    expected = (-np.log(p[np.arange(5), labels]) * by_image).mean()
    assert evaluated == pytest.approx(expected, rel=1e-4)
    batch = model.train_on_batch(images, labels, class_weight=by_class)[0]
    assert batch == pytest.approx((losses * weights).mean(), rel=1e-4)


@pytest.mark.jax
@pytest.mark.slow
def test_batches_one_at_a_time(tiny, images, labels):
    model = frozen(tiny())
    p = answers(model, images)
    logs = model.test_on_batch(images, labels, return_dict=True)
    assert logs["loss"] == pytest.approx(-np.log(p[np.arange(5), labels]).mean(), rel=1e-4)
    np.testing.assert_allclose(model.predict_on_batch(images), np.log(p), atol=1e-5)
    assert model.train_on_batch(images[:1], labels[:1])[0] > 0


def test_fit_learns(tiny, images, labels):
    model = tiny(Packed(3, 3))
    losses = model.fit(images, labels, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 5
    assert model.evaluate(images, labels, verbose=0)[1] == 1.0


def test_a_model_that_failed_can_be_trained(tiny, images, labels):
    model, broken = tiny(Single()), [True]

    class Loss(CrossEntropy):
        def call(self, y_true, y_pred):
            if broken:
                raise ValueError("no loss yet")
            return super().call(y_true, y_pred)

    model.compile("adam", Loss())
    with pytest.raises(ValueError, match="no loss yet"):
        model.fit(images, labels, verbose=0)
    broken.clear()
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        return self.images[rows], self.labels[rows]


@pytest.mark.jax
@pytest.mark.slow
def test_generators_and_pydatasets(tiny, images, labels):
    model = frozen(tiny())
    expected = model.evaluate(images, labels, batch_size=2, verbose=0)
    batches = Batches(images, labels)
    assert model.evaluate(batches, verbose=0) == pytest.approx(expected, rel=1e-5)
    generator = (batches[i] for i in range(3))
    assert model.evaluate(generator, verbose=0) == pytest.approx(expected, rel=1e-5)
    log_p = model.predict(batches, verbose=0)
    np.testing.assert_allclose(np.exp(log_p), answers(model, images), atol=1e-5)
    endless = (batches[i % 3] for i in itertools.count())
    for data, options in ((batches, {"shuffle": False}), (endless, {"steps_per_epoch": 3})):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*shuffle=True")  # generators are not told to shuffle
            history = model.fit(data, epochs=2, verbose=0, **options).history
        expected_loss = cross_entropies(model, images, labels).mean()
        assert history["loss"][0] == pytest.approx(expected_loss, rel=1e-4)
        assert len(history["loss"]) == 2


def test_callbacks_and_validation(tiny, images, labels, tmp_path):
    model = tiny()
    seen = []
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(sorted(logs))),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_accuracy", save_best_only=True),
        keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1),
    ]
    model.fit(images, labels, epochs=9, validation_data=(images, labels), callbacks=callbacks, verbose=0)
    assert seen == [["accuracy", "loss", "val_accuracy", "val_loss"]] * 2
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.predict(images, verbose=0).shape == (5, 3)


@pytest.mark.slow
def test_several_steps_an_execution(tiny, images, labels):
    model = tiny()
    expected = cross_entropies(model, images, labels).mean()
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy(), metrics=["accuracy"], steps_per_execution=2)
    logs = model.fit(images, labels, batch_size=1, verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert len(model.predict(images, batch_size=2, verbose=0)) == 5


def test_bad_labels_from_a_generator_are_refused(tiny, images, raises_line):
    # Keras shuffles the batches, so either of the two bad ones may come first.
    with raises_line(ValueError, "batch [02]: labels run from (0 to 7|-1 to -1), .* 3 classes"):
        tiny().fit(Batches(images, np.array([0, 7, 1, 1, -1])), verbose=0)


def test_a_batch_that_cannot_be_shared_out_is_refused(tiny, images, labels, raises_line):
    shared = tiny(zoo.methods.Masksembles(4))
    with raises_line(ValueError, "batch_size=3 leaves some of 4 members without images"):
        shared.fit(images, labels, batch_size=3, verbose=0)
    with raises_line(ValueError, "batch_size=2"):
        tiny(zoo.methods.BatchEnsemble(3, training_mode="split")).fit(images, labels, 2)
    tiny(zoo.methods.MCDropout(4)).fit(images, labels, batch_size=3, verbose=0)
