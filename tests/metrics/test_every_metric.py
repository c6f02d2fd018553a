"""What holds for every metric: any cuts, weights, compiled code, configs, bad input.  Any backend."""

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.predictions import value
from zoo import metrics
from zoo.metrics.collected import CollectedMetric

METRICS = {
    name: kind
    for name, kind in ((name, getattr(metrics, name)) for name in metrics.__all__)
    if isinstance(kind, type)
}
COLLECTED = [name for name, kind in METRICS.items() if issubclass(kind, CollectedMetric)]
STREAMING = [name for name in METRICS if name not in COLLECTED]
RNG = np.random.default_rng(8)
LABELS = RNG.integers(0, 3, 30)
MEMBERS = (2 * RNG.normal(size=(30, 4, 3)) + 2 * np.eye(3)[LABELS][:, None]).astype("float32")
MEMBERS[5:9] = MEMBERS[3]  # ties
WEIGHTS = RNG.integers(0, 4, 30)
# What is not the default.
OPTIONS = {
    "TopKAccuracy": {"k": 2},
    "CoverageAtRisk": {"risk": 0.3},
    "OODFPR95": {"recall": 0.7},
    "AdaptiveCalibrationError": {"num_bins": 4},
    "BrierReliability": {"num_bins": 4, "num_classes": 3},
}


def make(name):
    return METRICS[name](**OPTIONS.get(name, {}))


def batch(name):
    """Labels and predictions for this metric."""
    if name.startswith("OOD"):
        return (LABELS == 0).astype(int), MEMBERS[:, 0, 0]
    return LABELS, MEMBERS if METRICS[name].__module__.endswith("diversity") else MEMBERS[:, 0]


def test_all_metrics_are_here():
    assert len(COLLECTED) == 7 and len(STREAMING) == 16


@pytest.mark.fast("OODAUROC", "ExpectedCalibrationError")
@settings(deadline=None, max_examples=6, derandomize=True)
@given(sizes=st.lists(st.sampled_from([1, 2, 7]), min_size=5, max_size=20), weighted=st.booleans())
@pytest.mark.parametrize("name", METRICS)
def test_a_stream_may_be_cut_anywhere(name, sizes, weighted):
    y, predictions = batch(name)
    cuts = [cut for cut in np.cumsum(sizes) if cut < 28] + [28]
    pieces = [slice(a, b) for a, b in zip([0, *cuts], cuts)]
    weights = WEIGHTS if weighted else None
    metric = make(name)
    for rows in pieces:
        metric.update_state(y[rows], predictions[rows], None if weights is None else weights[rows])
    whole = make(name)
    whole.update_state(y[:28], predictions[:28], None if weights is None else weights[:28])
    assert float(metric.result()) == pytest.approx(float(whole.result()), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repetition(name):
    y, predictions = batch(name)
    repeated = np.repeat(np.arange(30), WEIGHTS)
    expected = value(make(name), y[repeated], predictions[repeated])
    for weights in (WEIGHTS, WEIGHTS[:, None], WEIGHTS.astype("float32")):
        if name == "Accuracy" and weights.ndim == 2:
            continue  # Keras's own wrapper takes (B,)
        given = value(make(name), y, predictions, sample_weight=weights)
        assert given == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert value(make(name), y, predictions, sample_weight=None) != pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_rows_without_weight_may_hold_anything(name):
    if name == "Accuracy":
        return
    y, predictions = (x.copy() for x in batch(name))
    expected = value(make(name), y[:20], predictions[:20])
    y[20:], predictions[20:] = -1, np.nan
    weights = np.arange(30) < 20
    given = value(make(name), y, predictions, sample_weight=weights.astype("float32"))
    assert given == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_config_and_reset(name):
    metric = make(name)
    assert METRICS[name]().name == metric.name
    first = value(metric, *batch(name))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    assert OPTIONS.get(name, {}).items() <= metric.get_config().items()
    assert value(again, *batch(name)) == first
    metric.reset_state()
    assert value(metric, *batch(name)) == first
    assert value(metric, *batch(name)) == pytest.approx(
        first, rel=1e-6, abs=1e-7 + 0.1 * ("Excess" in name)
    )


def stateless(name):
    """A metric whose variables are there before the first batch."""
    classwise = hasattr(METRICS[name](), "num_classes")
    return METRICS[name](num_classes=3) if classwise else make(name)


def compiled(metric, y, predictions):
    """Three batches of ten through compiled code; the result."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        step, state = jax.jit(metric.stateless_update_state), [v.value for v in metric.variables]
        for i in (0, 10, 20):
            state = step(state, y[i : i + 10], predictions[i : i + 10])
        return float(metric.stateless_result(state))
    import tensorflow as tf

    step = tf.function(metric.update_state, jit_compile=True, autograph=False)  # as Keras does
    for i in (0, 10, 20):
        step(tf.constant(y[i : i + 10]), tf.constant(predictions[i : i + 10]))
    return float(metric.result())


needs_compiler = pytest.mark.skipif(keras.backend.backend() == "torch", reason="compiled code")


@pytest.mark.fast("ExpectedCalibrationError", "NegativeLogLikelihood", "PairwiseKL")
@needs_compiler
@pytest.mark.parametrize("name", STREAMING)
def test_compiled_code_gives_the_same(name):
    metric = stateless(name)
    y, predictions = batch(name)
    expected = value(stateless(name), y, predictions)
    assert compiled(metric, y, predictions) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.fast("NegativeLogLikelihood", "TopKAccuracy")
@needs_compiler
@pytest.mark.parametrize("name", [n for n in STREAMING if getattr(METRICS[n], "takes_labels", False)])
def test_labels_out_of_range_make_compiled_metrics_nan(name):
    metric = stateless(name)
    y, predictions = batch(name)
    y = np.where(np.arange(30) == 17, 3, y)
    assert np.isnan(compiled(metric, y, predictions))


@needs_compiler
def test_compiled_sums_are_compensated():
    """Compilers may not simplify what finds the lost digits."""
    metric = metrics.BrierScore(from_logits=False)
    p = np.tile(np.array([[0.9, 0.1]], "float32"), (30, 1))
    metric.total.total.assign(2.0**24)
    metric.count.total.assign(2.0**24)
    compiled(metric, np.zeros(30, int), p)  # 0.2 a batch is below the total's last digit
    state = [float(v) for v in metric.variables]
    if keras.backend.backend() == "tensorflow":
        assert state[:2] == [2.0**24, pytest.approx(0.6, rel=1e-5)]


@needs_compiler
@pytest.mark.parametrize("name", COLLECTED)
def test_metrics_of_all_scores_refuse_compiled_code(name, raises_line):
    with raises_line(ValueError, f"{name}.*compiled.*predict first"):
        compiled(make(name), *batch(name))


@pytest.mark.slow
def test_in_fit_and_evaluate(tiny, images, labels):
    kinds = [k for n, k in METRICS.items() if n in STREAMING and getattr(k, "rank", 2) == 2]
    options = {"TopKAccuracy": {"k": 2}}
    mine = [kind(**options.get(kind.__name__, {})) for kind in kinds]
    model = tiny()
    model.compile("sgd", model.loss, metrics=mine)
    model.fit(images, labels, batch_size=2, verbose=0)
    logs = model.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
    answers = keras.ops.convert_to_numpy(model(images))
    for kind in kinds:
        metric = kind(**options.get(kind.__name__, {}))
        assert logs[metric.name] == pytest.approx(value(metric, labels, answers), rel=1e-4, abs=1e-6)
    assert logs["brier_reliability"] - logs["brier_resolution"] + logs["brier_uncertainty"] == (
        pytest.approx(logs["brier"], abs=1e-5)
    )


P = np.array([[0.5, 0.5], [0.9, 0.1]], "float32")
BAD = {
    "label": ([0, 2], P, None, "run from 0 to 2.*2 classes"),
    "negative label": ([0, -1], P, None, "run from -1 to 0"),
    "fraction": ([0, 0.5], P, None, "fractions"),
    "no distribution": ([0, 1], P * 2, None, "2 of 2.*sum 2"),
    "negative": ([0, 1], [[1.2, -0.2], [0.5, 0.5]], None, r"1 of 2.*least -0\.2.*row 0"),
    "nan": ([0, 1], [[0.5, 0.5], [np.nan, 1]], None, "1 of 2.*NaN.*row 1"),
    "empty": ([], np.zeros((0, 2)), None, r"no predictions.*\(0, 2\)"),
    "lengths": ([0, 1, 1], P, None, "3 labels for 2"),
    "weights": ([0, 1], P, [1.0, 1.0, 1.0], "3 weights for 2"),
    "negative weight": ([0, 1], P, [1.0, -1.0], "1 of 2 weights.*-1"),
    "shape": ([0, 1], P[0], None, r"\(B, K\).*\(2,\)"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize(
    "name",
    ["NegativeLogLikelihood", "ExpectedCalibrationError", "AreaUnderRiskCoverage", "BrierResolution"],
)
def test_bad_input_is_refused_in_one_line(name, case, raises_line):
    y, p, weights, match = BAD[case]
    metric = METRICS[name](from_logits=False)
    with raises_line(ValueError, match):
        metric.update_state(y, np.asarray(p), weights)
    with raises_line(ValueError, match):
        tensors = [
            None if v is None else keras.ops.convert_to_tensor(np.asarray(v)) for v in (y, p, weights)
        ]
        metric.update_state(*tensors)


def test_other_bad_input_is_refused_in_one_line(raises_line):
    ood = metrics.OODAUROC()
    for arguments, match in [
        (([0, 2], [0.1, 0.2]), "1 .out of distribution.*got 2"),
        (([0, 1], [0.1, np.inf]), "1 of 2 scores.*row 1"),
        (([0, 1, 1], [0.1, 0.2]), "3 labels for 2"),
        (([], []), "no predictions"),
    ]:
        with raises_line(ValueError, match):
            ood.update_state(*map(np.asarray, arguments))
    with raises_line(ValueError, "1 of 1.*NaN or infinite logits"):
        metrics.BrierScore().update_state([0], [[np.inf, 0.0]])
    with raises_line(ValueError, r"\(B, M, K\).*\(2, 2\)"):
        metrics.PairwiseKL().update_state([0, 1], P)
    with raises_line(ValueError, "k=5.*2 classes"):
        metrics.TopKAccuracy().update_state([0, 1], P)
    for y, p, match in (
        ([0, 2], P, "0 to 2.*2 classes"),
        ([0, -1], P, "-1 to 0"),
        ([0], P, "1 labels for 2"),
        ([0, 1], [[0.5, 0.5], [math.nan, 0.5]], "1 of 2.*NaN"),
        ([], np.zeros((0, 2)), "no predictions"),
        ([0, 1], None, "no predictions.*None"),
    ):
        with raises_line(ValueError, match):
            metrics.Accuracy().update_state(y, p)
    seen = metrics.ClasswiseCalibrationError(num_classes=3)
    with raises_line(ValueError, "3 classes.*has 2"):
        seen.update_state([0, 1], P)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: metrics.ExpectedCalibrationError(0), "num_bins.*0"),
        (lambda: metrics.AdaptiveCalibrationError(1.5), "num_bins.*1.5"),
        (lambda: metrics.ClasswiseCalibrationError(-1), "num_bins.*-1"),
        (lambda: metrics.TopKAccuracy(0), "k must.*0"),
        (lambda: metrics.CoverageAtRisk(5), "risk.*5"),
        (lambda: metrics.OODFPR95(95), "recall.*95"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(make, match, raises_line):
    with raises_line(ValueError, match):
        make()
