"""What the checks of images, labels and losses in `fit` cost: `model.fit` beside `keras.Model.fit`, by turns.

    python benchmarks/checks_speed.py [--backbone=resnet20 --input=tf_data --rounds=15]

Both train the same compiled model on the same batches in one process, in an order drawn for each round; a time is
the CPU time of one epoch. Prints the median of the ratio over rounds, with its quartiles.
"""

import time

import keras
import numpy as np
from absl import app, flags

import zoo

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet20", "of a packed ensemble for images 32x32x3")
flags.DEFINE_enum("input", "tf_data", ["tf_data", "arrays"], "how batches come")
flags.DEFINE_enum("dtype", "uint8", ["uint8", "float32"], "of the images")
flags.DEFINE_integer("batch_size", 128, "images of a step")
flags.DEFINE_integer("steps", 8, "steps of an epoch")
flags.DEFINE_integer("rounds", 15, "epochs of each")


def data():
    """Arguments of `fit`."""
    rng, count = np.random.default_rng(0), FLAGS.batch_size * FLAGS.steps
    images = rng.integers(0, 256, (count, 32, 32, 3)).astype(FLAGS.dtype)
    labels = rng.integers(0, 10, count)
    if FLAGS.input == "arrays":
        return {"x": images, "y": labels, "batch_size": FLAGS.batch_size, "shuffle": False}
    import tensorflow as tf

    return {
        "x": tf.data.Dataset.from_tensor_slices((images, labels)).batch(FLAGS.batch_size),
        "shuffle": False,
    }


def main(_):
    model = zoo.load(f"packed_{FLAGS.backbone}", weights=None, num_classes=10, input_shape=(32, 32, 3))
    fits = {"checked": model.fit, "plain": lambda **given: keras.Model.fit(model, **given)}
    rng, given, ratios = np.random.default_rng(1), data(), []
    for fit in fits.values():
        fit(**given, verbose=0)
    for _ in range(FLAGS.rounds):
        seconds = {}
        for name in rng.permutation(list(fits)):
            start = time.process_time()
            fits[name](**given, verbose=0)
            seconds[name] = time.process_time() - start
        ratios.append(seconds["checked"] / seconds["plain"])
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(f"{FLAGS.backbone}, {FLAGS.input}, {FLAGS.dtype}: {median:.4f} ({low:.4f} to {high:.4f})")


if __name__ == "__main__":
    app.run(main)
