"""Forms of grouped convolutions: one answer, one layout of weights, and graphs that run anywhere."""

import keras
import numpy as np
import pytest

import zoo
from helpers.arrays import by_group, convolve, draw, numpy
from zoo.layers import PackedConv1D, PackedConv2D, PackedDense, set_grouped_convolution
from zoo.layers.grouped_convolution import FORMS, separate_members

TENSORFLOW = keras.backend.backend() == "tensorflow"
tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="of TensorFlow's graphs")


@pytest.fixture(autouse=True)
def restore():
    with set_grouped_convolution("auto"):
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "size", "strides", "dilation", "padding"),
    [
        (PackedConv2D, 3, 1, 1, "same"),
        (PackedConv2D, (2, 3), 2, 1, "same"),
        (PackedConv2D, 1, 2, 1, "valid"),
        (PackedConv2D, 3, 1, 2, "valid"),
        (PackedConv1D, 3, 2, 1, "same"),
        (PackedConv1D, 3, 1, 2, "same"),
    ],
)
def test_every_form_is_one_convolution_a_group(
    form, kind, size, strides, dilation, padding, check_formula
):
    layer = kind(
        8, size, 2, 1.0, 2, strides=strides, dilation_rate=dilation, padding=padding, use_bias=False
    )
    layer.minimum_channels = None
    set_grouped_convolution(form)

    def formula(x, weights):
        def one(part, kernel):
            return convolve(part, kernel, strides, dilation, padding)

        return by_group(one, x, weights["kernel"])

    layer.build((None, 7, 6, 8)[: layer.rank + 1] + (8,))
    assert layer.groups == 4
    check_formula(layer, draw(2, *(7, 6)[: layer.rank], 8), formula)


def _network(form):
    """A small packed classifier with groups inside members, all weights drawn."""
    set_grouped_convolution(form)
    method = zoo.methods.Packed(2, 4, 2)
    images = x = keras.Input((8, 8, 3))
    for role, strides in (("stem", 1), ("hidden", 1), ("hidden", 2)):
        x = method.conv(64, 3, role, strides=strides, padding="same")(x)
        x = method.per_member(keras.layers.ReLU())(method.norm()(x))
    x = method.per_member(keras.layers.GlobalAveragePooling2D())(x)
    model = zoo.classifier.EnsembleClassifier(keras.Model(images, method.dense(3, "head")(x)))
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0.1, 0.05, w.shape)) for w in model.get_weights()])
    assert [w.shape[0] for w in model.weights if len(w.shape) == 5] == [1, 4, 4]
    return model


def test_networks_of_every_form_share_weights_and_answers(images):
    images = images[:, ::2, ::2].astype("float32")
    expected = _network("list")
    answers = numpy(expected.network(images))
    assert np.ptp(answers, axis=(0, 1)).min() > 0.1
    for form in FORMS:
        model = _network(form)
        apart = any(isinstance(layer.output, list) for layer in model.network.layers)
        torch = keras.backend.backend() == "torch"
        assert apart == separate_members() == (form == "list" or (form == "auto" and not torch))
        assert [w.shape for w in model.weights] == [w.shape for w in expected.weights]
        np.testing.assert_allclose(numpy(model.network(images)), answers, rtol=1e-4)


@pytest.mark.parametrize("layer", [PackedConv2D, PackedDense])
def test_a_stem_gives_its_separate_members_or_together(layer):
    size = (6, 3) if layer is PackedConv2D else (6,)
    together, apart = (
        layer(*size, 2, 2, role="stem", separate_outputs=a, activation="relu") for a in (False, True)
    )
    x = draw(3, 5, 4, 3)
    expected = numpy(together(x))
    apart.build(x.shape)
    apart.set_weights(together.get_weights())
    given = [numpy(member) for member in apart(x)]
    assert apart.compute_output_shape((None, *x.shape[1:])) == [(None, *given[0].shape[1:])] * 2
    np.testing.assert_allclose(np.concatenate(given, axis=-1), expected, atol=1e-5)
    twin = layer.from_config(apart.get_config())
    assert twin.separate_outputs and twin.get_config() == apart.get_config()


def test_only_a_stem_may_be_asked_to(raises_line):
    with raises_line(ValueError, "separate_outputs=True.*stem.*hidden"):
        PackedDense(4, separate_outputs=True)


def test_the_former_choice_comes_back():
    start = separate_members()
    with set_grouped_convolution("list"):
        assert separate_members()
        with pytest.raises(RuntimeError), set_grouped_convolution("native"):
            assert not separate_members()
            raise RuntimeError
        assert separate_members()
    assert separate_members() == start
    set_grouped_convolution("split")
    assert not separate_members()


@pytest.mark.parametrize("form", ["grouped", "", None, "LIST"])
def test_an_unknown_form_is_refused_with_those_there_are(form, raises_line):
    with set_grouped_convolution("list"):
        with raises_line(ValueError, "auto, list, split, native; got " + repr(form)):
            set_grouped_convolution(form)
        assert separate_members()


def _graphs(folder):
    """The main graph of a SavedModel and every function in it."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    return graph.node, graph.library.function


def _native_has_a_gradient():
    """Whether this machine's kernels differentiate a grouped convolution: oneDNN's do, others may not."""
    import tensorflow as tf

    kernel = tf.Variable(tf.ones((3, 3, 2, 4)))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.nn.conv2d(tf.ones((1, 5, 5, 4)), kernel, 1, "SAME"))
    try:
        tape.gradient(total, kernel)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


COMPILED = ("_XlaMustCompile", "_XlaCompile", "_XlaCompiledKernel", "jit_compile")
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


@pytest.mark.slow
@tensorflow
@pytest.mark.parametrize("form", FORMS)
def test_exported_graphs_hold_ordinary_operations(form, tmp_path, images):
    """Nothing that is compiled by XLA, which other runtimes do not read."""
    import tensorflow as tf

    model = _network(form)
    zoo.export(model, tmp_path)
    nodes, functions = _graphs(tmp_path)
    for function in functions:
        assert not any(function.attr[key].b for key in COMPILED if key in function.attr)
    inner = [node for function in functions for node in function.node_def]
    for node in [*nodes, *inner]:
        assert not any(node.attr[key].b for key in COMPILED if key in node.attr), node.name
        assert "Xla" not in node.op and node.op not in ("Split", "SplitV"), node.name
    ops = {node.op for node in inner}
    convolutions = max(sum(node.op == "Conv2D" for node in f.node_def) for f in functions)
    native = 3 if _native_has_a_gradient() else 9
    assert convolutions == {"auto": 10, "list": 10, "split": 9, "native": native}[form]
    assert "Conv2D" in ops and "FusedBatchNormV3" in ops
    known = {"Conv2D", "FusedBatchNormV3", "Relu", "AddV2", "BiasAdd", "MatMul", "Mean", "ReadVariableOp",
             "Cast", "Mul", "Sub", "Div", "RealDiv", "Exp", "Log", "LogSoftmax", "Max", "Maximum", "Neg", "Sum",
             "Softmax", "StridedSlice", "Reshape", "Shape", "Pack", "Unpack", "Concat", "ConcatV2", "Const",
             "Identity", "NoOp", "Transpose", "GreaterEqual", "Greater", "Select", "SelectV2", "IsFinite",
             "StopGradient", "Squeeze", "ExpandDims", "ZerosLike", "Placeholder", "BroadcastTo"}  # fmt: skip
    save = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StaticRegexFullMatch",
            "StringJoin", "AssignVariableOp", "VarHandleOp", "DisableCopyOnRead"}  # fmt: skip
    # What looks at shapes and pixels.
    guards = {"Abs", "All", "Assert", "EnsureShape", "Equal", "Less", "LessEqual", "LogicalAnd", "LogicalOr",
              "Min", "PlaceholderWithDefault", "Range"}  # fmt: skip
    assert sorted(ops - known - save - CALLS - guards) == []
    loaded = tf.saved_model.load(tmp_path)
    given = loaded.serve(tf.constant(images[:, ::2, ::2]))["members"]
    np.testing.assert_allclose(given, zoo.predict(model, images[:, ::2, ::2]).members, atol=1e-5)


WITHOUT_ONEDNN = """
import numpy as np, tensorflow as tf, zoo
layer = zoo.layers.PackedConv2D(4, 3, 2, alpha=1)
x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype("float32"))
layer(x)
def gradient():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    return tape.gradient(loss, layer.kernel).numpy()
expected = gradient()
zoo.layers.set_grouped_convolution("native")
np.testing.assert_allclose(gradient(), expected, rtol=1e-4)
"""


@pytest.mark.slow
@tensorflow
def test_native_has_a_gradient_without_onednn(python):
    """Where TensorFlow's grouped convolution has no gradient, "native" is "split"."""
    python("-c", WITHOUT_ONEDNN, TF_ENABLE_ONEDNN_OPTS="0")
