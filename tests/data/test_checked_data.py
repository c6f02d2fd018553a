"""Inputs that do not fit stop `fit`, `evaluate` and `predict` with one line, from arrays and data sets alike."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo.checked_training import NotFiniteError, StopAtTrouble
from zoo.data.checked_data import BatchCheck, checked

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1)).astype("float32")
LABELS = np.arange(8) % 3
SOFT = np.eye(3, dtype="float32")[LABELS]


class Batches(keras.utils.PyDataset):
    """Two batches of four."""

    def __init__(self, images, labels, **options):
        super().__init__(**options)
        self.images, self.labels = images, labels

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.images[4 * index : 4 * index + 4], self.labels[4 * index : 4 * index + 4]


def _generated(images, labels, raised=None):
    for batch in Batches(images, labels)[0], Batches(images, labels)[1]:
        yield batch
        if raised:
            raise raised


def _tf_data(images, labels, static=True):
    import tensorflow as tf

    if static:
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    signature = (
        tf.TensorSpec((None, None, None, None), images.dtype),
        tf.TensorSpec((None,) * labels.ndim, labels.dtype),
    )
    return tf.data.Dataset.from_generator(lambda: _generated(images, labels), output_signature=signature)


SOURCES = {
    "arrays": lambda images, labels: {"x": images, "y": labels, "batch_size": 4},
    "generator": lambda images, labels: {"x": _generated(images, labels)},
    "pydataset": lambda images, labels: {"x": Batches(images, labels)},
    "threads": lambda images, labels: {"x": Batches(images, labels, workers=2)},
    "tf_data": lambda images, labels: {"x": _tf_data(images, labels)},
    "unknown_shapes": lambda images, labels: {"x": _tf_data(images, labels, static=False)},
}


def _changed(array, row, value):
    array = array.astype("float32")
    array[row] = value
    return array


BAD = {
    "nan": (_changed(IMAGES, (5, 2, 2), np.nan), LABELS, "1 of . images hold NaN"),
    "infinite": (_changed(IMAGES, (5, 2, 2), -np.inf), LABELS, "1 of . images hold NaN"),
    "too_high": (IMAGES, _changed(LABELS, 5, 3).astype(int), "run from 0 to 3, .* 3 classes"),
    "negative": (IMAGES, _changed(LABELS, 5, -1).astype(int), "run from -1 to"),
    "fraction": (IMAGES, _changed(LABELS, 5, 0.5), "integer labels expected, got fractions"),
    "width": (IMAGES, np.eye(4)[LABELS], r"\(., 4\) do not fit a model of 3 classes"),
    "sum": (IMAGES, _changed(SOFT, 5, 0.5), "1 of . soft labels do not sum to 1 .* 1.5"),
    "negative_share": (IMAGES, _changed(SOFT, 5, [1.5, -0.5, 0]), "finite and not negative"),
    "shape": (IMAGES[:, :5], LABELS, r"\(N, 6, 6, 1\); got|images are 5x6"),
    "channels": (IMAGES.repeat(3, axis=3), LABELS, r"\(N, 6, 6, 1\); got \(., 6, 6, 3\)"),
}


@pytest.fixture
def model(tiny):
    return tiny(input_shape=(6, 6, 1))


def _same(weights, others):
    return all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


# Each way of checking with every kind; the other data sets go one of these ways.
CASES = [(kind, source) for kind in BAD for source in ("arrays", "generator", "tf_data")]
CASES += [
    (kind, source)
    for kind in ("nan", "too_high", "shape")
    for source in ("pydataset", "threads", "unknown_shapes")
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "source"), CASES)
def test_bad_batches_stop_fit_and_evaluate(kind, source, model, raises_line):
    images, labels, line = BAD[kind]
    for function in (model.fit, model.evaluate):
        with raises_line(ValueError, line):
            function(**SOURCES[source](images, labels), verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    if kind in ("nan", "shape"):  # found in a later batch, and in the first
        model.fit(**SOURCES["arrays"](IMAGES, LABELS), verbose=0)  # as usable as before


@pytest.mark.fast("tf_data")
@pytest.mark.parametrize("source", SOURCES)
def test_fractional_labels_stop_fit(source, model, raises_line):
    images, labels, line = BAD["fraction"]
    with raises_line(ValueError, line):
        model.fit(**SOURCES[source](images, labels), verbose=0)


def test_weights_of_another_shape_stop_fit(model, raises_line):
    weights = np.ones((len(IMAGES), 3), "float32")
    with raises_line(ValueError, r"sample weights must be \(N,\), one for each image"):
        model.fit(**SOURCES["arrays"](IMAGES, LABELS), sample_weight=weights, verbose=0)
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, weights)).batch(2)
    with raises_line(ValueError, r"x: sample weights must be \(N,\), one for each image"):
        model.fit(data, verbose=0)


def test_a_split_that_is_not_a_number_is_refused(model, raises_line):
    with raises_line(ValueError, "validation_split must be a number >= 0 and < 1; got '0.5'"):
        model.fit(IMAGES, LABELS, validation_split="0.5", verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("labels", [LABELS, SOFT])
def test_good_batches_pass(labels, source, model):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", r".*\[0, 1\].*")
        model.fit(**SOURCES[source](IMAGES, labels), verbose=0)
        model.evaluate(**SOURCES[source](IMAGES, labels), verbose=0)


@pytest.mark.fast("tf_data")
@pytest.mark.parametrize("source", ["arrays", "generator", "tf_data"])
def test_scaled_images_are_noticed(source, model):
    for function in (model.fit, model.evaluate):
        with pytest.warns(UserWarning, match=r"scaled to \[0, 1\]"):
            function(**SOURCES[source](IMAGES / 255, LABELS), verbose=0)
        for images in (IMAGES / 64.0 - 2, IMAGES - 100.0, IMAGES.astype("uint16") * 100):
            with pytest.warns(UserWarning, match=r"values in \[.*takes \[0, 255\]"):
                function(**SOURCES[source](images, LABELS), verbose=0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_batches_are_counted_in_any_order(order):
    """Keras counts in several threads, and a busy processor may run the last one first."""
    stop = StopAtTrouble(steps=3, test_steps=3)
    stop.set_model(keras.Sequential())
    stop.on_epoch_begin(0)
    stop.on_test_begin()
    for batch in order:
        stop.on_train_batch_end(batch, {"loss": 1.0})
        stop.on_test_batch_end(batch, {"loss": 1.0})
    stop.on_epoch_end(0)
    stop.on_test_end()
    with pytest.raises(ValueError, match="nan at step 2 of epoch 1"):
        stop.on_train_batch_end(1, {"loss": float("nan")})


def test_data_that_raise_or_end_early(model, raises_line):
    with raises_line(ValueError, "x: the data set raised KeyError: 'a photo' at batch 1"):
        model.fit(_generated(IMAGES, LABELS, KeyError("a photo")), verbose=0)
    with raises_line(ValueError, "x ended after 2 batches in epoch 1, and steps_per_epoch=3"):
        model.fit(_generated(IMAGES, LABELS), steps_per_epoch=3, verbose=0)
    with raises_line(ValueError, "cannot begin again for a second epoch; pass steps_per_epoch"):
        model.fit(_generated(IMAGES, LABELS), epochs=2, verbose=0)
    with raises_line(ValueError, r"each batch must be \(images, labels\)"):
        model.fit((batch for batch in [IMAGES, IMAGES]), verbose=0)


@pytest.mark.slow
def test_pipeline_that_raises(model, raises_line):
    import tensorflow as tf

    def parse(images, labels):
        def fail(labels):
            raise OSError("photo 7 is damaged")

        return images, tf.ensure_shape(tf.py_function(fail, [labels], labels.dtype), (None,))

    with raises_line(ValueError, "x: the data set raised OSError: photo 7 is damaged"):
        model.fit(_tf_data(IMAGES, LABELS).map(parse), verbose=0)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "images are empty"),
        ({"x": IMAGES, "y": LABELS[:0]}, "labels are empty"),
        ({"x": IMAGES, "y": LABELS[:3]}, "8 images and 3 labels"),
        ({"x": IMAGES, "y": LABELS, "sample_weight": np.ones(3)}, "8 images and 3 sample weights"),
        ({"x": IMAGES, "y": LABELS, "sample_weight": np.eye(8)}, r"must be \(N,\).* got \(8, 8\)"),
        ({"x": IMAGES, "y": LABELS, "sample_weight": LABELS * np.nan}, "sample weights must be finite"),
        ({"x": IMAGES}, "no labels: pass y"),
        ({}, "x must hold images as an array .* got NoneType"),
        ({"x": {"images": IMAGES}, "y": LABELS}, "x must hold images as an array .* got dict"),
        ({"x": IMAGES, "y": {0, 1, 2}}, "y must be an array .* got set"),
        ({"x": IMAGES, "y": {"y": LABELS}}, "y must be an array .* got dict"),
        ({"x": IMAGES, "y": iter(LABELS)}, "y must be an array .* got iterator"),
        ({"x": IMAGES, "y": LABELS, "validation_split": 1.5}, "validation_split must .* got 1.5"),
        ({"x": IMAGES, "y": LABELS, "validation_split": np.nan}, "validation_split must .* got nan"),
        ({"x": IMAGES, "y": LABELS, "validation_data": ({0: IMAGES}, LABELS)}, "validation.* dict"),
        ({"x": IMAGES, "y": LABELS, "validation_data": (IMAGES, LABELS, LABELS * np.nan)}, "be finite"),
        ({"x": IMAGES[0], "y": LABELS}, r"add a batch axis: images\[None\]"),
        ({"x": IMAGES > 9, "y": LABELS}, "uint8 or float in .* got dtype bool"),
        *(({"x": IMAGES, "y": LABELS, "batch_size": size}, f">= 1; got {size}") for size in (0, -1, 0.5)),
        ({"x": IMAGES, "y": LABELS, "validation_data": (IMAGES, LABELS + 5)}, "validation_data: .* 5 to 7"),
        ({"x": IMAGES, "y": LABELS, "validation_data": Batches(IMAGES, LABELS + 5)}, "validation_data, batch"),
        ({"x": IMAGES, "y": LABELS, "validation_data": (IMAGES[:0], LABELS[:0])}, "validation_data: .* empty"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(options, line, model, raises_line):
    with raises_line(ValueError, line):
        model.fit(**options, verbose=0)
    if not {"validation_data", "validation_split"} & set(options):
        with raises_line(ValueError, line):
            model.evaluate(**options, verbose=0)


@pytest.mark.slow
def test_lists_are_taken_as_arrays(model):
    history = model.fit(IMAGES, LABELS.tolist(), validation_data=(IMAGES, LABELS.tolist()), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    expected = model.evaluate(IMAGES, LABELS, verbose=0)
    assert model.evaluate(IMAGES.tolist(), LABELS.tolist(), verbose=0) == pytest.approx(expected)
    assert model.predict(IMAGES.tolist(), verbose=0).shape == (8, 3)
    assert model.predict(IMAGES[:0], verbose=0).shape == (0, 3)
    expected = model.evaluate(IMAGES[:3], [0, 1, 2], verbose=0)
    assert model.evaluate(IMAGES[:3], range(3), verbose=0) == pytest.approx(expected)


STRUCTURES = {
    "nested": (lambda x, y: ((x,), y), "x: images must be one dense tensor; got tuple"),
    "images": (lambda x, y: ({"images": x}, y), "x: images must be one dense tensor; got dict"),
    "labels": (lambda x, y: (x, {"y": y}), "x: labels must be one dense tensor; got dict"),
    "element": (lambda x, y: {"x": x, "y": y}, r"each batch must be \(images, labels\) .* got dict"),
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_structured_data_sets_are_refused(kind, model, raises_line):
    structure, line = STRUCTURES[kind]
    data = _tf_data(IMAGES, LABELS).map(structure)
    for function in (model.fit, model.evaluate):
        with raises_line(ValueError, line):
            function(data, verbose=0)


def test_sparse_labels_are_refused(model, raises_line):
    import tensorflow as tf

    data = _tf_data(IMAGES, LABELS).map(lambda x, y: (x, tf.sparse.from_dense(y)))
    with raises_line(ValueError, "x: labels must be one dense tensor; got SparseTensorSpec"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ((IMAGES, LABELS, np.ones(8)), "batch 1: .* the first, 2 parts .* got 3 parts"),
        ((IMAGES, SOFT), "batch 1: .* labels of rank 1; got .* rank 2"),
        ((IMAGES, {"y": LABELS}), "batch 1: labels must be an array, .* got dict"),
        ((IMAGES, LABELS, np.full(8, np.inf)), "batch 1: sample weights must be finite"),
    ],
)
def test_batches_are_like_the_first(second, line, raises_line):
    with raises_line(ValueError, line):
        list(checked(iter([(IMAGES, LABELS), second]), BatchCheck((6, 6, 1), 3)))


def test_weights_of_tf_data_are_finite(raises_line):
    import tensorflow as tf

    weights = np.array([1, 1, 1, 1, 1, np.nan, 1, 1], "float32")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, weights)).batch(4)
    check = BatchCheck((6, 6, 1), 3)
    with pytest.raises(tf.errors.OpError):
        list(checked(data, check))
    assert "batch 1: sample weights must be finite" in str(check.error)


class Counted(Batches):
    """As many batches as it is told; None is without an end."""

    def __init__(self, count):
        super().__init__(IMAGES, LABELS)
        self.count = count

    @property
    def num_batches(self):
        return self.count


def _counted(kind, count):
    if kind == "pydataset":
        return Counted(count)
    data = _tf_data(IMAGES, LABELS)
    return data.repeat() if count is None else data.take(count)


@pytest.mark.parametrize("kind", ["pydataset", "tf_data"])
def test_data_without_an_end_or_a_batch(kind, model, raises_line):
    endless, empty = _counted(kind, None), _counted(kind, 0)
    with raises_line(ValueError, "x is a data set without an end; pass steps_per_epoch"):
        model.fit(endless, verbose=0)
    with raises_line(ValueError, "validation_data is a data set without an end; pass validation_steps"):
        model.fit(IMAGES, LABELS, validation_data=endless, verbose=0)
    for function in (model.evaluate, model.predict):
        with raises_line(ValueError, "x is a data set without an end; pass steps,"):
            function(endless, verbose=0)
    for function in (model.fit, model.evaluate):
        with raises_line(ValueError, "x is a data set without a batch"):
            function(empty, verbose=0)
    assert model.predict(empty, verbose=0).shape == (0, 3)


def test_nothing_is_not_predicted(model, raises_line):
    for images in (None, {"images": IMAGES}):
        with raises_line(ValueError, "x must hold images as an array"):
            model.predict(images, verbose=0)


def test_loss_that_diverges_stops_before_anything_is_kept(model, tmp_path, raises_line):
    model.compile(keras.optimizers.SGD(1e12), zoo.losses.CrossEntropy())
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    with raises_line(NotFiniteError, "became (nan|inf).* training is lost"):
        model.fit(IMAGES, LABELS, batch_size=4, epochs=9, verbose=0, callbacks=[keep])
    for path in tmp_path.iterdir():  # what an earlier epoch kept is finite
        model.load_weights(path)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_loss_is_nan_for_labels_that_teach_nothing():
    logits = ops.zeros((1, 3))
    for labels in ([0.5], [-1], [3], [[0.5, 0.6, 0.2]], [[0.0, 0.0, 0.0]], [float("nan")]):
        assert np.isnan(float(zoo.losses.CrossEntropy()(np.array(labels), logits)))
    for labels in ([1.0], [2], [[2]], [[0.5, 0.25, 0.25]]):
        assert float(zoo.losses.CrossEntropy()(np.array(labels), logits)) == pytest.approx(np.log(3))


def test_signatures_are_those_of_keras(model):
    for name in ("fit", "evaluate", "predict"):
        assert "x" in inspect.signature(getattr(keras.Model, name)).parameters  # what is bound by name
    before = model.get_weights()
    model.fit(IMAGES, LABELS, 4, 0, 0)  # all by position: no epoch
    assert _same(before, model.get_weights())
