"""A call of the same network in five runtimes: Keras, SavedModel, LiteRT, ONNX Runtime and OpenVINO.

    taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/runtimes_speed.py

All runtimes and networks are called by turns in one process with one thread each, in float32, from NumPy
images to the NumPy dictionary of outputs (Keras: to the averaged prediction), so that what else the machine
does strikes all.  Numbers are medians of CPU time; weights are random.  Prints a Markdown table.
"""

import pathlib
import tempfile

import keras
import numpy as np
import onnxruntime
import openvino
import tensorflow as tf
from absl import app, flags

import zoo
from zoo import latency
from zoo.exporting import litert

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet18", "of all networks")
flags.DEFINE_list("methods", "single,packed", "methods with their default arguments")
flags.DEFINE_list("batch_sizes", "1,32", "images a call")
flags.DEFINE_integer("rounds", 30, "timed calls of each")
flags.DEFINE_float("seconds", 240, "after which no further round begins, for each batch size")


def saved_model(path):
    signature = tf.saved_model.load(path).signatures["serving_default"]
    return lambda x: {name: y.numpy() for name, y in signature(images=tf.constant(x)).items()}


def lite(path):
    runner = litert.interpreter(path.read_bytes(), num_threads=1).get_signature_runner()
    return lambda x: runner(images=x)


def onnx(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"images": x})


def vino(path, precision="f32"):
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda x: compiled({"images": x})


FORMATS = {
    "SavedModel": ("savedmodel", saved_model),
    "LiteRT": ("litert", lite),
    "ONNX Runtime": ("onnx", onnx),
    "OpenVINO": ("openvino", vino),
    "OpenVINO, bfloat16": ("openvino", lambda path: vino(path, "bf16")),
}


def calls(method, folder):
    """Functions of images by (method, runtime)."""
    model = zoo.build(zoo.methods.METHODS[method](), FLAGS.backbone)
    found = {(method, "Keras"): model.predict_on_batch}
    for name, (format, load) in FORMATS.items():
        path = pathlib.Path(folder) / f"{method}_{format}"
        found[method, name] = load(zoo.export(model, path, format))
    return model.input_shape[1:], found


def main(_):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in FLAGS.methods:
            shape, functions = calls(method, folder)
            found |= functions
        print("| method | batch | runtime | CPU ms | / Keras | / single |\n|---|--:|---|--:|--:|--:|")
        for size in map(int, FLAGS.batch_sizes):
            images = np.random.default_rng(2).integers(0, 256, (size, *shape)).astype("float32")
            timed = {key: latency.timed(lambda f=f, x=images: f(x)) for key, f in found.items()}
            for measure in list(timed.values()) * 3:  # compilation, warm-up
                measure()
            times = latency.interleaved(timed, FLAGS.rounds, FLAGS.seconds)
            cpu = {key: values[:, 1] for key, values in times.items()}
            for (method, name), values in cpu.items():
                beside = [np.median(values / cpu[key]) for key in ((method, "Keras"), ("single", name))]
                print(
                    f"| `{method}` | {size} | {name} | {1e3 * np.median(values):.3g} | {beside[0]:.2f} | "
                    f"{beside[1]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    app.run(main)
