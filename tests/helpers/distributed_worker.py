"""One process of distributed trainings, for training/devices/test_placement.py: 20 steps each, then weights in a file.

    python distributed_worker.py DATA OUT STRATEGY DEVICES '{"NAME": {"method": "packed"}}'

A LeNet with batch normalisation, which is not among the zoo's backbones.
"""

import dataclasses
import json
import pathlib
import sys

import keras
import numpy as np
from keras import layers

import zoo
from zoo.backbones import BACKBONES
from zoo.precision import precision
from zoo.training import recipes
from zoo.training.devices import choose
from zoo.training.devices.placement import TENSORFLOW
from zoo.training.loop import from_recipe, run


def lenet_norm(method, images, stem=None):
    """LeNet with a normalisation after each convolution and dense layer."""
    x = images
    for index, filters in enumerate((6, 16)):
        x = method.begin_stage(index, x) if index else x
        role, name = "hidden" if index else "stem", f"conv{index + 1}"
        x = method.conv(filters, 5, role, use_bias=False, kernel_initializer="he_normal", name=name)(x)
        x = method.norm(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
        x = method.per_member(layers.ReLU(name=f"{name}_relu"))(x)
        x = method.per_member(layers.MaxPooling2D(name=f"{name}_pool"))(x)
    x = method.begin_stage(2, method.per_member(layers.Flatten(name="flatten"))(x))
    x = method.dense(32, "hidden", name="dense")(x)
    x = method.norm(momentum=0.9, epsilon=1e-3, name="dense_norm")(x)
    return method.per_member(layers.ReLU(name="dense_relu"))(x)


lenet_norm.stages = 2
BACKBONES["lenet_norm"] = lenet_norm


def tickets(recipe, input_shape, classes):
    """A sparse network; which ones it keeps, RigL decides as it trains."""
    return zoo.layers.sparsify(from_recipe.model_of(recipe, input_shape, classes), 0.7, seed=0)


def main(data_dir, out, strategy, devices, jobs):
    """Train by each of `jobs`, {name: fields}, on one placement, into folders OUT/NAME-WORKER."""
    placement = choose.place(strategy, int(devices) or None)
    for name, fields in json.loads(jobs).items():
        folder = pathlib.Path(out) / f"{name}-{placement.worker}"
        folder.mkdir(parents=True)
        train(data_dir, folder, placement, **fields)


def train(data_dir, folder, placement, method, steps_per_execution=1, **fields):
    """Twenty steps, then weights, answers of the saved model, and answers of each replica."""
    sparse = method == "tickets"
    recipe = recipes.Recipe(
        "mnist", "single" if sparse else method, "lenet_norm", num_members=2, batch_size=16, epochs=2,
        learning_rate=0.02, warm_up=0.0, shift=2, flip=True,
    )  # fmt: skip
    recipe = dataclasses.replace(recipe, **fields)
    splits, classes = from_recipe.load_splits(recipe, data_dir)
    updates = (
        zoo.layers.TopologyUpdates("rigl", tuple(splits[0]), every=5, batch_size=16) if sparse else None
    )
    with precision(recipe.precision), placement.active():
        model, _ = run.train_model(
            recipe, splits, classes, folder, [updates] if sparse else [],
            {"steps_per_execution": steps_per_execution}, make=tickets if sparse else None,
            placement=placement,
        )  # fmt: skip
        variables = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(model.weights)}
        np.savez(folder / "weights.npz", **variables)
        model.save(folder / "model.keras")
        images = splits[2].images[:8]
        with placement.one_device():
            saved = keras.saving.load_model(folder / "model.keras", compile=False)
            np.save(folder / "answers.npy", saved.predict(images, verbose=0))
        _each_replica_predicts(model, placement, images, folder)
        placement.any(False)


def _each_replica_predicts(model, placement, images, folder):
    """What the model in memory answers on each of this worker's replicas, (replicas, N, K)."""
    images = images.astype("float32")
    if placement.name in TENSORFLOW:
        answers = placement.strategy.run(lambda: model(images, training=False))
        answers = placement.strategy.experimental_local_results(answers)
    else:
        answers = [model(images, training=False)]
    np.save(folder / "replicas.npy", np.stack([keras.ops.convert_to_numpy(a) for a in answers]))


if __name__ == "__main__":
    main(*sys.argv[1:])
