"""OpenVINO files of classifiers: `zoo.export(..., format="openvino")`."""

import json
import pathlib
import tempfile
from typing import Any

from zoo.exporting import litert


def write(model: Any, path: pathlib.Path) -> None:
    """Write an OpenVINO file of a classifier with ordinary layers, in float32.

    It takes float32 `images` of any batch size and returns the outputs of `zoo.exporting.outputs.answers`
    by name. Its `rt_info` holds `class_names`, a JSON list, where the model has names.

    Args:
        model: an `EnsembleClassifier`, on the TensorFlow backend.
        path: path of the `.xml` file; the weights go to a `.bin` file beside it.

    Raises:
        ValueError: without the package openvino; for MC dropout that draws anew at every call.
    """
    try:
        import openvino
    except ImportError as error:
        raise ValueError(
            f"format=\"openvino\" needs {error.name}; run: pip install 'ensemble-zoo[openvino]'"
        ) from None
    import tensorflow as tf

    module, function = litert.portable(model)
    with tempfile.TemporaryDirectory() as folder:  # `openvino.convert_model` would report its use
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converted = openvino.Core().read_model(folder)
        if model.class_names is not None:
            converted.set_rt_info(json.dumps(list(model.class_names)), ["class_names"])
        openvino.save_model(converted, path, compress_to_fp16=False)
