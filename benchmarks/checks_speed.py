"""What the checks of images, labels and losses in `fit` cost: `model.fit` beside `keras.Model.fit`, by turns.

    python benchmarks/checks_speed.py [--input=tf_data --dtype=uint8 --rounds=15]

Both train the same compiled network, which is small so that the checks are not lost in its noise, on the same batches
in one process, in an order drawn for each round. A time is the CPU time of a call of `fit`; from the medians of short
and long calls follows what a step costs, and what a call costs once.
"""

import time

import keras
import numpy as np
from absl import app, flags

import zoo

FLAGS = flags.FLAGS
flags.DEFINE_enum("input", "tf_data", ["tf_data", "arrays"], "how batches come")
flags.DEFINE_enum("dtype", "uint8", ["uint8", "float32"], "of the images")
flags.DEFINE_integer("size", 8, "height and width of the images")
flags.DEFINE_integer("batch_size", 128, "images of a step")
flags.DEFINE_integer("rounds", 15, "calls of each")

SHORT, LONG = 4, 404  # steps of a call


def data(steps):
    """Arguments of `fit`."""
    rng, count = np.random.default_rng(0), FLAGS.batch_size * steps
    images = rng.integers(0, 256, (count, FLAGS.size, FLAGS.size, 3)).astype(FLAGS.dtype)
    labels = rng.integers(0, 10, count)
    if FLAGS.input == "arrays":
        return {"x": images, "y": labels, "batch_size": FLAGS.batch_size, "shuffle": False}
    import tensorflow as tf

    return {
        "x": tf.data.Dataset.from_tensor_slices((images, labels)).batch(FLAGS.batch_size),
        "shuffle": False,
    }


def milliseconds(fits, steps):
    """The median CPU time of a call of each function, after one that compiles."""
    rng, given, times = np.random.default_rng(1), data(steps), {name: [] for name in fits}
    for fit in fits.values():
        fit(**given, verbose=0)
    for _ in range(FLAGS.rounds):
        for name in rng.permutation(list(fits)):
            start = time.process_time()
            fits[name](**given, verbose=0)
            times[name].append(1000 * (time.process_time() - start))
    return {name: np.median(values) for name, values in times.items()}


def main(_):
    size = (FLAGS.size, FLAGS.size, 3)
    model = zoo.load("single_mlp", weights=None, num_classes=10, input_shape=size)
    fits = {"checked": model.fit, "plain": lambda **given: keras.Model.fit(model, **given)}
    short, long = milliseconds(fits, SHORT), milliseconds(fits, LONG)
    for name in fits:
        step = (long[name] - short[name]) / (LONG - SHORT)
        print(f"{name}: {step:.2f} ms a step, {short[name] - SHORT * step:.0f} ms a call of fit")


if __name__ == "__main__":
    app.run(main)
