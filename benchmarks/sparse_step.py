"""What sparse training costs: a training step beside the dense one's, and an update of the topology.

    python benchmarks/sparse_step.py --backbone=resnet20 --steps=30
    python benchmarks/sparse_step.py --update_backbone=wide_resnet28_10 --steps=0

Both networks train in one process, a step of one and a step of the other by turns, so that what else the
machine does slows both.  The update is dropping and growing in all layers, with what the optimizer
keeps; the gradient that RigL grows by is measured by itself, on one batch.

Measured on two quiet cores: with TensorFlow 2.21 a step of a sparse ResNet-20 takes 0.99 of the dense one's time;
with PyTorch an update of the 36.5 million weights of a WRN-28-10 takes 1.1 s at random and 1.4 s by gradients.
"""

import json
import time

import keras
import numpy as np
from absl import app, flags

import zoo
from zoo.layers import dense_gradients, sparse_layers, sparsify, update_topology

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet20", "whose training step is measured")
flags.DEFINE_string("update_backbone", "", "whose topology update is measured; empty measures none")
flags.DEFINE_float("sparsity", 0.8, "share of zeros")
flags.DEFINE_integer("batch_size", 128, "images a step")
flags.DEFINE_integer("steps", 30, "steps of each network")
flags.DEFINE_integer("updates", 5, "topology updates")
flags.DEFINE_bool("gradient", False, "whether to measure a dense gradient, too")


def step_times(backbone, sparsity, batch_size, steps):
    """Seconds of training steps, (steps, 2): of the dense network and of the sparse one."""
    dense = _network(backbone)
    networks = (dense, sparsify(dense, sparsity))
    images, labels = _batch(batch_size)
    times = np.zeros((steps + 3, 2))
    for row in times:
        for column, model in enumerate(networks):
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            row[column] = time.perf_counter() - start
    return times[3:]  # without compilation


def update_times(model, updates):
    """Seconds of topology updates: {"set": [...], "rigl": [...]}, without the gradient."""
    rng, results = np.random.default_rng(0), {"set": [], "rigl": []}
    scores = [rng.normal(size=layer.mask.shape).astype("float32") for layer in sparse_layers(model)]
    for seed in range(updates):
        for growth, given in (("set", None), ("rigl", scores)):
            start = time.perf_counter()
            update_topology(model, 0.5, given, seed=seed)
            _wait(model)
            results[growth].append(time.perf_counter() - start)
    return results


def _wait(model):
    """Until the last assignment has happened: JAX and GPUs return before."""
    keras.ops.convert_to_numpy(sparse_layers(model)[-1].kernel)


def _network(backbone):
    model = zoo.build(zoo.methods.Single(), backbone)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, model.loss, jit_compile=False)
    return model


def _batch(size):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 32, 32, 3), "uint8"), rng.integers(0, 10, size)


def main(_):
    keras.utils.set_random_seed(0)
    report = {"backend": keras.backend.backend(), "sparsity": FLAGS.sparsity}
    if FLAGS.steps:
        times = step_times(FLAGS.backbone, FLAGS.sparsity, FLAGS.batch_size, FLAGS.steps)
        dense, sparse = np.median(times, axis=0)
        report["step"] = {
            "backbone": FLAGS.backbone, "batch_size": FLAGS.batch_size, "steps": FLAGS.steps,
            "dense_s": dense, "sparse_s": sparse,
            "ratio": np.median(times[:, 1] / times[:, 0]),
        }  # fmt: skip
    if FLAGS.update_backbone:
        model = sparsify(_network(FLAGS.update_backbone), FLAGS.sparsity)
        model.optimizer.build(model.trainable_variables)
        times = update_times(model, FLAGS.updates)
        report["update"] = {
            "backbone": FLAGS.update_backbone,
            "weights": sum(int(np.prod(layer.mask.shape)) for layer in sparse_layers(model)),
            **{f"{growth}_s": float(np.median(values)) for growth, values in times.items()},
        }
        if FLAGS.gradient:
            gradients, batch = dense_gradients(model), _batch(FLAGS.batch_size)
            start = time.perf_counter()
            gradients(*batch)
            report["update"]["gradient_s"] = time.perf_counter() - start
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    app.run(main)
