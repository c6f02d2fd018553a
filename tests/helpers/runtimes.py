"""Exported files in their own runtimes: `run(path)` gives a function of images that returns the outputs."""

import numpy as np


def run(path):
    """A function from images to a dictionary of NumPy arrays, by the kind of file; a folder is a SavedModel."""
    return _RUNTIMES[path.suffix if path.is_file() else ""](path)


def _saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)

    def call(images):
        given = loaded.signatures["serving_default"](images=tf.constant(images, tf.float32))
        return {name: value.numpy() for name, value in given.items()}

    call.loaded = loaded  # else its variables are gone
    return call


def _litert(path):
    from zoo.exporting import litert

    content = path.read_bytes()
    runner = litert.interpreter(content, num_threads=1).get_signature_runner("serving_default")
    return lambda images: runner(images=np.asarray(images, "float32"))


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": np.asarray(images, "float32")})))


def _openvino(path):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def call(images):
        given = compiled({"images": np.asarray(images, "float32")})
        return {output.any_name: np.array(given[output]) for output in compiled.outputs}

    return call


_RUNTIMES = {"": _saved_model, ".tflite": _litert, ".onnx": _onnx, ".xml": _openvino}
