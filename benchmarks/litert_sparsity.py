"""What sparsity gives in LiteRT: four Dense(1024) with ReLU between, dense and sparse, on one thread.

    python benchmarks/litert_sparsity.py

All models are in one process and take turns, some calls each, so that what else the machine does slows all.
The first call of a turn finds other models' weights in the caches, further ones find their own.

Measured with TensorFlow 2.21 on two quiet cores of an AMD EPYC with AVX-512 and 32 MB of L3 cache, one image a
call, S = 0.8: medians of the last of three runs; in brackets how many times faster than dense in each run.

                  file      first call                      further calls
    dense         16.8 MB   0.717 ms                        0.329 ms
    unstructured   5.1 MB   0.625 ms (1.01, 1.09, 1.15)     0.297 ms (1.00, 1.05, 1.11)
    blocks of 1x4  3.6 MB   0.320 ms (2.25, 2.12, 2.24)     0.194 ms (2.00, 1.56, 1.69)
    dense, int8    4.2 MB   0.181 ms (3.94, 3.76, 3.97)     0.065 ms (6.41, 4.64, 5.07)

The dense network's time depends on how much of the L3 cache others leave it, that of blocks does not: beside two
trainings the first call of blocks was 1.9 to 2.6 times faster.  At S = 0.9 blocks were 4.0 and 3.8 times faster;
with eight images a call, S = 0.8, 1.3 and 1.4 times.
"""

import json
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from zoo.exporting import litert
from zoo.layers import densify, sparsify

FLAGS = flags.FLAGS
flags.DEFINE_float("sparsity", 0.8, "share of zeros")
flags.DEFINE_integer("width", 1024, "inputs and outputs of each layer")
flags.DEFINE_integer("images", 1, "images a call")
flags.DEFINE_integer("rounds", 200, "turns of each model")
flags.DEFINE_integer("calls", 5, "calls in a turn")


def models(width, sparsity):
    """Keras models by name."""
    inputs = [keras.Input((width,))]
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
    dense = keras.Sequential([*inputs, *layers, keras.layers.Dense(width)])
    return {
        "dense": dense,
        "unstructured": densify(sparsify(dense, sparsity, "uniform")),
        "blocks of 1x4": densify(sparsify(dense, sparsity, "uniform", block_shape=(1, 4))),
    }


def files(width, sparsity):
    """LiteRT files by name: of all models in float32, and of the dense one in int8."""
    found = models(width, sparsity)
    images = np.random.default_rng(0).normal(size=(64, width)).astype("float32")
    contents = {name: _file(model, width) for name, model in found.items()}
    return contents | {"dense, int8": _file(found["dense"], width, "int8", images)}


def _file(model, width, quantize=None, images=None):
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = tf.function(lambda images: {"outputs": model(images)})
    spec = tf.TensorSpec((None, width), tf.float32, name="images")
    return litert.converted(module, module.serve.get_concrete_function(spec), quantize, images, ())


def seconds(contents, images, rounds, calls):
    """Seconds of calls by name, (rounds, calls)."""
    rng = np.random.default_rng(2)
    interpreters = {name: _ready(content, images) for name, content in contents.items()}
    times = {name: np.zeros((rounds, calls)) for name in contents}
    for row in range(rounds):
        # In another order each time, or the system's scheduler would interrupt the same one always.
        for name in rng.permutation(list(contents)):
            for column in range(calls):
                start = time.perf_counter()
                interpreters[name].invoke()
                times[name][row, column] = time.perf_counter() - start
    return times


def _ready(content, images):
    interpreter = litert.interpreter(content, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images)
    return interpreter


def main(_):
    logging.set_verbosity(logging.ERROR)
    keras.utils.set_random_seed(0)
    contents = files(FLAGS.width, FLAGS.sparsity)
    images = np.random.default_rng(1).normal(size=(FLAGS.images, FLAGS.width)).astype("float32")
    times = seconds(contents, images, FLAGS.rounds, FLAGS.calls)
    first = {name: np.median(values[:, 0]) for name, values in times.items()}
    again = {name: np.median(values[:, 1:]) for name, values in times.items()}
    report = {
        name: {
            "bytes": len(contents[name]),
            "first_call_ms": round(1000 * first[name], 3),
            "times_faster": round(first["dense"] / first[name], 2),
            "further_calls_ms": round(1000 * again[name], 3),
            "times_faster_then": round(again["dense"] / again[name], 2),
        }
        for name in contents
    }
    print(json.dumps({"sparsity": FLAGS.sparsity, "width": FLAGS.width, "models": report}, indent=2))


if __name__ == "__main__":
    app.run(main)
