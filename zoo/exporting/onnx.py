"""ONNX files of classifiers: `zoo.export(..., format="onnx")`."""

import json
from typing import Any

from zoo.exporting import litert
from zoo.layers import keras_internals

OPSET = 17


def contents(model: Any) -> bytes:
    """Return an ONNX file of a classifier with ordinary layers.

    It takes float32 `images` of any batch size and returns the outputs of `zoo.exporting.outputs.answers`
    by name. Its metadata hold `class_names`, a JSON list, where the model has names.

    Args:
        model: an `EnsembleClassifier`, on the TensorFlow backend.

    Returns:
        Bytes.

    Raises:
        ValueError: without the packages tf2onnx and onnx; for MC dropout that draws anew at every call.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ValueError(
            f"format=\"onnx\" needs {error.name}; run: pip install 'ensemble-zoo[onnx]'"
        ) from None
    _, function = litert.portable(model)
    frozen = keras_internals.frozen(function)  # `from_function` would take captured constants for inputs
    names = sorted(function.structured_outputs)
    renamed = {
        "images:0": "images",
        **{tensor.name: name for tensor, name in zip(frozen.outputs, names)},
    }
    proto, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=["images:0"],
        output_names=[tensor.name for tensor in frozen.outputs],
        tensors_to_rename=renamed,
        opset=OPSET,
    )
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    if model.class_names is not None:
        onnx.helper.set_model_props(proto, {"class_names": json.dumps(list(model.class_names))})
    return proto.SerializeToString()
