"""What export costs and gives: SavedModels beside `predict_on_batch`, and LiteRT files beside the Keras model.

    taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/export_speed.py
    python benchmarks/export_speed.py --part=litert --data_dir=DATA [--images=2000]

Everything is called by turns in one process, one core (TensorFlow with one thread), so that what else the machine
does strikes all; times are medians of CPU time.  Weights of the first part are random (every one of them, moving
statistics too), for speed does not depend on them; those of the second are the shipped ones, and the images the first
`--images` of the test set (0: all), the representative ones the first of the training set.  Prints JSON, then a
Markdown table.
"""

import json
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import zoo
from zoo.evaluation.scores import quick_scores
from zoo.exporting import litert
from zoo.uncertainty import Prediction

FLAGS = flags.FLAGS
flags.DEFINE_enum("part", "saved_model", ["saved_model", "litert"], "what is measured")
flags.DEFINE_string("backbone", "resnet18", "of the SavedModels")
flags.DEFINE_list(
    "methods", "single,packed,batch_ensemble,mimo,masksembles,mc_dropout", "of the SavedModels"
)
flags.DEFINE_list("batch_sizes", "1,32,128", "images a call")
flags.DEFINE_float("seconds", 20, "CPU time for each method and batch size, about")
flags.DEFINE_list(
    "names",
    "packed_lenet/mnist,packed_lenet/fashion_mnist,packed_lenet/cifar10,mimo_lenet/fashion_mnist,"
    "packed_resnet20/cifar10",
    "shipped weights, name/data set",
)
flags.DEFINE_string("data_dir", "", "folder with .npz files of the data sets")
flags.DEFINE_integer("images", 0, "test images; 0: all")
flags.DEFINE_integer("representative", 200, "training images by which int8 measures ranges")
flags.DEFINE_integer("rounds", 200, "timed calls of each file")


def random_weights(model):
    """The model with every weight drawn, variances and scales positive."""
    rng = np.random.default_rng(0)
    for weight in model.network.weights:
        positive = weight.name in ("moving_variance", "gamma")
        if weight.name in ("moving_mean", "beta", "bias") or positive:
            weight.assign(rng.uniform(0.5 if positive else -0.5, 1.5, weight.shape))
    # Logits between about -3 and 3: answers that are certain agree whatever is wrong.
    head, shape = model.network.get_layer("head"), model.input_shape[1:]
    logits = model.network(rng.uniform(0, 255, (2, *shape)).astype("float32"))
    head.kernel.assign(head.kernel * (3 / np.abs(logits).max()))
    return model


def by_turns(calls, seconds=None, rounds=None):
    """Medians of the CPU milliseconds of functions by name, called by turns."""
    rng, times, start = np.random.default_rng(1), {name: [] for name in calls}, time.process_time()
    for call in list(calls.values()) * 2:  # warm-up, compilation
        call()
    while len(times[next(iter(calls))]) < (rounds or 3) or (
        seconds and time.process_time() - start < seconds
    ):
        for name in rng.permutation(list(calls)):
            before = time.process_time()
            calls[name]()
            times[name].append(1000 * (time.process_time() - before))
    return {name: float(np.median(values)) for name, values in times.items()}


def checkpoint_bytes(folder):
    """Bytes of the variables' values in a SavedModel."""
    reader = tf.train.load_checkpoint(str(pathlib.Path(folder) / "variables" / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sum(int(np.prod(shapes[name])) * kinds[name].size for name in shapes if kinds[name].size)


def saved_model(method, backbone, batch_sizes, seconds):
    """Rows of one method: milliseconds of the three ways to answer, by batch size, and bytes."""
    model = random_weights(zoo.build(zoo.methods.METHODS[method](), backbone))
    rows, signatures, sizes, loaded = [], {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, optimize in (("plain", False), ("optimized", True)):
            path = zoo.export(model, pathlib.Path(folder) / name, optimize=optimize)
            loaded.append(tf.saved_model.load(path))
            signatures[name] = loaded[-1].signatures["serving_default"]
            sizes[name] = checkpoint_bytes(path)
    for size in batch_sizes:
        images = (
            np.random.default_rng(2).integers(0, 256, (size, *model.input_shape[1:])).astype("float32")
        )
        calls = {"predict_on_batch": lambda images=images: model.predict_on_batch(images)}
        for name, signature in signatures.items():
            calls[name] = lambda f=signature, x=images: f(images=tf.constant(x))["probabilities"].numpy()
        plain, optimized = (calls[name]() for name in signatures)
        expected = np.exp(model.predict_on_batch(images))
        rows.append({
            "method": method, "batch": size,
            **{f"{name}_ms": round(ms, 2) for name, ms in by_turns(calls, seconds).items()},
            "difference": float(max(np.abs(plain - expected).max(), np.abs(optimized - expected).max())),
            **{f"{name}_bytes": value for name, value in sizes.items()},
            "weights_bytes": 4 * model.network.count_params(),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def litert_files(name, dataset, data_dir, count, representative, rounds):
    """Rows of one set of shipped weights: figures and time of each file, and of the Keras model."""
    model = zoo.load(name, weights=dataset)
    with np.load(pathlib.Path(data_dir) / f"{dataset}.npz") as data:
        images, labels, training = (data[key] for key in ("x_test", "y_test", "x_train"))
    shape = model.input_shape[1:]
    images, training = (array.reshape(-1, *shape) for array in (images, training[:representative]))
    images, labels = images[: count or None], labels.ravel()[: count or None]
    predictions, runs, sizes = {"Keras": zoo.predict(model, images)}, {}, {}
    for kind, options in {
        "float32": {},
        "float32, optimized": {"optimize": True},
        "int8": {"quantize": "int8", "representative": training},
        "int8, optimized": {"quantize": "int8", "representative": training, "optimize": True},
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            content = zoo.export(model, folder, "litert", **options).read_bytes()
        sizes[kind] = len(content)
        predictions[kind] = _answers(content, images)
        runs[kind] = _one_image(content, images[:1])
    one = images[:1].astype("float32")
    times = by_turns({"Keras": lambda: model.predict_on_batch(one), **runs}, rounds=rounds)
    rows = [
        {
            "name": name, "data set": dataset, "images": len(images), "kind": kind, **quick_scores(p, labels),
            "ms": round(times[kind], 3), "bytes": sizes.get(kind),
            "difference": float(np.abs(p.members - predictions["Keras"].members).max()),
        }
        for kind, p in predictions.items()
    ]  # fmt: skip
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def _answers(content, images):
    run = litert.interpreter(content, num_threads=1).get_signature_runner("serving_default")
    parts = (images[i : i + 100].astype("float32") for i in range(0, len(images), 100))
    return Prediction(np.concatenate([run(images=part)["members"] for part in parts]).astype("float64"))


def _one_image(content, image):
    interpreter = litert.interpreter(content, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, image.astype("float32"))
    return interpreter.invoke


def markdown(rows):
    """A table of the rows' entries."""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    for row in rows:
        values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append(" | ".join(values))
    return "\n".join(f"| {line} |" for line in lines)


def main(_):
    logging.set_verbosity(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    rows = []
    if FLAGS.part == "saved_model":
        for method in FLAGS.methods:
            batch_sizes = [int(size) for size in FLAGS.batch_sizes]
            rows += saved_model(method, FLAGS.backbone, batch_sizes, FLAGS.seconds)
    else:
        for pair in FLAGS.names:
            rows += litert_files(
                *pair.split("/"), FLAGS.data_dir, FLAGS.images, FLAGS.representative, FLAGS.rounds
            )
    print(markdown(rows))


if __name__ == "__main__":
    app.run(main)
