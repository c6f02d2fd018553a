"""One training run: data, model, optimiser, fit with resume, and what is left beside the weights."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import random
import subprocess
import time

import keras
import numpy as np

from zoo import cost, methods
from zoo import weights as weight_files
from zoo.building import build, build_from_spec
from zoo.checks import check_batch
from zoo.classifier import EnsembleClassifier
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy, ExpectedCalibrationError, NegativeLogLikelihood
from zoo.training import data as datasets
from zoo.training import recipes
from zoo.training.augmentation import RandomShiftFlip
from zoo.training.progress import ProgressLine
from zoo.training.schedules import WarmUpCosine, WarmUpSteps
from zoo.uncertainty import predict


class EpochShuffle(keras.utils.PyDataset):
    """Batches of a split, whole ones only, in an order that seed and epoch decide: resume is exact."""

    def __init__(self, split, batch_size, seed, epoch=0):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.start(epoch)

    def start(self, epoch):
        """Shuffle for an epoch."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split))

    def on_epoch_end(self):
        self.start(self.epoch + 1)

    def __len__(self):
        return len(self.split) // self.batch_size

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


def train(recipe, data_dir, output_dir, *, command="", steps_per_execution=1, jit_compile="auto",
          tensorboard=False, limit=None):  # fmt: skip
    """Train by a recipe, going on where an earlier run into the same folder stopped.

    Returns:
        The dictionary written to `config.json`.

    Raises:
        ValueError: for a recipe that cannot be run, or a folder that holds a run of another one.
        FileNotFoundError: where the data set is not in `data_dir`.
    """
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    splits, classes = load_splits(recipe, data_dir, limit)
    options = {"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}
    callbacks = [ProgressLine(), *(_tensorboard(output_dir) if tensorboard else [])]
    with precision(recipe.precision):
        model, seconds = train_model(recipe, splits, classes, output_dir, callbacks, options)
        return write_run(model, recipe, splits, output_dir, command, seconds)


@contextlib.contextmanager
def precision(name):
    """Keras's dtype policy for as long as the context lasts."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def train_model(recipe, splits, classes, folder, callbacks=(), options=None, *, student_of=None,
                make=None, rate=None):  # fmt: skip
    """The model of a recipe, trained on (training, held out, test) from the folder's checkpoint on.

    Args:
        recipe: whose seed decides initial weights, order of images and augmentation.
        splits, classes: from `load_splits`.
        folder: of the checkpoint and `log.csv`.
        callbacks: more of Keras's callbacks; checkpoints keep what one names in `variables`.
        options: more of `compile`'s.
        student_of: None, or a function from the model to the network that is trained in place of
            `model.network`, with the same weights.
        make: what makes the model, `model_of` by default, from recipe, input shape and classes.
        rate: learning rate schedule in place of the recipe's.

    Returns:
        (model, seconds that all of it took).
    """
    _seed(recipe.seed)
    model = (make or model_of)(recipe, splits[0].images.shape[1:], classes)
    network = student_of(model) if student_of else model.network
    return model, _fit(model, network, recipe, splits, folder, callbacks, options or {}, rate)


def _fit(model, network, recipe, splits, folder, callbacks, options, rate):
    """Train a model through `network`; returns the seconds that all of it took."""
    training, held_out, _ = splits
    batches = EpochShuffle(training, recipe.batch_size, recipe.seed)
    check_batch(model.spec, recipe.batch_size)
    student = _augmented(model, network, recipe)
    optimizer = _optimizer(recipe, model, rate or learning_rate(recipe, len(batches)))
    loss = CrossEntropy(recipe.label_smoothing)
    student.compile(optimizer, loss, metrics=[Accuracy()], **options)
    own = methods.deserialize(model.spec["method"]).callbacks(held_out.images, held_out.labels)
    callbacks = [*callbacks, *own]
    for callback in callbacks:
        callback.set_model(student)  # so that its variables are there to be restored
    kept = [v for callback in callbacks for v in getattr(callback, "variables", ())]
    checkpoint = _Checkpoint(folder, recipe, kept)
    epoch = checkpoint.restore(student)
    batches.start(epoch)
    log = keras.callbacks.CSVLogger(folder / "log.csv", append=epoch > 0)
    started = time.time()
    student.fit(
        batches, epochs=recipe.epochs, initial_epoch=epoch, callbacks=[*callbacks, log, checkpoint],
        verbose=0, shuffle=False,
        validation_data=(held_out.images, held_out.labels) if len(held_out) else None,
    )  # fmt: skip
    return checkpoint.seconds + time.time() - started


def _seed(seed):
    if keras.backend.backend() == "jax":  # Keras's function imports TensorFlow wherever it is installed
        random.seed(seed)
        np.random.seed(seed)
    else:
        keras.utils.set_random_seed(seed)


def model_of(recipe, input_shape, num_classes):
    """The untrained model of a recipe."""
    method = methods.METHODS.get(recipe.method)
    if method is None:
        raise ValueError(f"unknown method {recipe.method!r}; there are {', '.join(methods.METHODS)}")
    arguments = {
        name: value
        for name, value in dataclasses.asdict(recipe).items()
        if name in methods.arguments(method) and (name, value) != ("num_members", 0)
    }
    arguments |= recipes.method_arguments(recipe.arguments)
    unknown = sorted(set(arguments) - set(methods.arguments(method)))
    if unknown:
        raise ValueError(f"{recipe.method} takes no argument {', '.join(unknown)}")
    mean, std = datasets.STATISTICS.get(recipe.dataset, (127.5, 127.5))
    return build(method(**arguments), recipe.backbone, num_classes, input_shape, mean=mean, std=std)


def load_splits(recipe, data_dir, limit=None):
    """((training, held out, test), number of classes).

    Raises:
        ValueError: where fewer training images are left than a batch has.
        FileNotFoundError: where the data set is not in `data_dir`.
    """
    training = datasets.load(recipe.dataset, "train", data_dir)
    test = datasets.load(recipe.dataset, "test", data_dir)
    classes = int(training.labels.max()) + 1
    if limit:
        training, test = (
            datasets.Split(*(part[:limit] for part in split)) for split in (training, test)
        )
    training, held_out = datasets.hold_out(training, recipe.held_out, seed=0)
    if len(training) < recipe.batch_size:
        raise ValueError(
            f"batch_size={recipe.batch_size} is more than the {len(training)} training images"
        )
    return (training, held_out, test), classes


def _augmented(model, network, recipe):
    """A network behind augmentation: trained instead of `model`, whose weights it shares."""
    augmentation = RandomShiftFlip(recipe.shift, recipe.flip, seed=recipe.seed, name="augmentation")
    images = keras.Input(model.input_shape[1:], name="images")
    network = keras.Model(images, network(augmentation(images)))
    return EnsembleClassifier(network, member_loss=model.member_loss)


def learning_rate(recipe, steps_per_epoch):
    """A recipe's schedule.

    Raises:
        ValueError: for an unknown one.
    """
    steps = steps_per_epoch * recipe.epochs
    warm_up = round(recipe.warm_up * steps)
    if recipe.schedule == "cosine":
        return WarmUpCosine(recipe.learning_rate, steps, warm_up)
    if recipe.schedule == "step":
        milestones = [round(share * steps) for share in recipe.milestones]
        return WarmUpSteps(recipe.learning_rate, milestones, recipe.factor, warm_up)
    raise ValueError(f'schedule must be "cosine" or "step"; got {recipe.schedule!r}')


def _optimizer(recipe, model, rate):
    kernels = {
        id(layer.kernel)
        for layer in model.network.layers
        if getattr(layer, "kernel", None) is not None
        and getattr(layer, "l2_index", None) is None  # others have their L2 in the loss
    }
    # Keras decays weights beside the momentum; the factor gives L2's decay in the long run.
    decay = recipe.weight_decay / (1 - recipe.momentum) if kernels else 0
    optimizer = keras.optimizers.SGD(rate, recipe.momentum, nesterov=True, weight_decay=decay or None)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if id(v) not in kernels])
    return optimizer


def _random_state(model):
    """States of random generators (augmentation, dropout), which Keras keeps out of weights files."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


class _Checkpoint(keras.callbacks.Callback):
    """All weights and optimiser slots after every epoch, replaced in one step; restored on request."""

    def __init__(self, folder, recipe, variables=()):
        super().__init__()
        self.others = list(variables)  # beside those of the model and its optimiser
        self.weights, self.state = folder / "checkpoint.weights.h5", folder / "checkpoint.json"
        self.recipe = json.loads(json.dumps(dataclasses.asdict(recipe)))
        self.seconds, self.started = 0.0, time.time()

    def restore(self, model):
        """Load the last checkpoint into a compiled model; returns how many epochs it has seen."""
        if not self.state.is_file():
            return 0
        state = json.loads(self.state.read_text())
        if state["recipe"] != self.recipe:
            raise ValueError(
                f"{self.state.parent} holds a run of another recipe; choose another --output_dir"
            )
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.weights.with_name(state["weights"]))
        for variable, value in zip([*_random_state(model), *self.others], state.get("random", [])):
            variable.assign(np.array(value, variable.dtype))
        self.seconds = state["seconds"]
        return state["epochs"]

    def on_epoch_end(self, epoch, logs=None):
        # Two files in turn: the state names the whole one, whenever the process dies.
        weights = self.weights.with_name(f"checkpoint-{epoch % 2}.weights.h5")
        self.model.save_weights(weights)
        state = {
            "epochs": epoch + 1,
            "weights": weights.name,
            "random": [
                np.asarray(keras.ops.convert_to_numpy(variable)).tolist()
                for variable in [*_random_state(self.model), *self.others]
            ],
            "seconds": self.seconds + time.time() - self.started,
            "recipe": self.recipe,
        }
        temporary = self.state.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.state)


def _tensorboard(folder):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return []
    if keras.backend.backend() != "tensorflow":  # Keras's callback writes through TensorFlow
        return []
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]


def measure(model, split):
    """Accuracy, NLL and 15-bin ECE of a model on a split."""
    metrics = [
        Accuracy(),
        NegativeLogLikelihood(),
        ExpectedCalibrationError(),
    ]
    answers = model.predict(split.images, batch_size=250, verbose=0)
    for metric in metrics:
        metric.update_state(split.labels, answers)
    return {metric.name: round(float(metric.result()), 5) for metric in metrics} | {"images": len(split)}


def probe_images(shape):
    """Two fixed images, whose answers stand in a config to show that its weights still mean the same."""
    return np.random.default_rng(0).integers(0, 256, (2, *shape), "uint8")


def write_run(model, recipe, splits, folder, command, seconds, **more):
    """Write the weights as they will be shipped, load them back, measure those, and record all of it.

    Returns:
        The dictionary written to `config.json`, with the entries `more`.
    """
    training, held_out, test = splits
    files = weight_files.write(model, folder)
    shipped = build_from_spec(model.spec)
    weight_files.load_folder(shipped, folder, {"files": files})
    metrics = {recipe.dataset: measure(shipped, test)}
    config = {
        "name": model.name,
        "dataset": recipe.dataset,
        "spec": model.spec,
        "num_members": model.num_members,
        "parameters": cost.parameters(model.network)[0],
        "macs": cost.macs(model.network),
        "metrics": metrics,
        "probe": predict(shipped, probe_images(model.input_shape[1:])).probabilities.round(5).tolist(),
        "held_out": measure(shipped, held_out) if len(held_out) else None,
        "recipe": dataclasses.asdict(recipe),
        "steps_per_epoch": len(training) // recipe.batch_size,
        "command": f"KERAS_BACKEND={keras.backend.backend()} {command}",
        "seconds": round(seconds),
        "hardware": hardware(),
        "software": {"keras": keras.__version__, **_backend_version()},
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "licence": "Apache-2.0",
        "files": files,
        **more,
    }
    temporary = folder / "config.json.tmp"
    temporary.write_text(json.dumps(config, indent=1) + "\n")
    temporary.replace(folder / "config.json")
    return config


def hardware():
    """What the run had to compute with, in words."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        devices = jax.devices()
        if devices[0].platform != "cpu":
            return f"{len(devices)} x {devices[0].device_kind}"
    elif backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        if devices:
            name = tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU")
            return f"{len(devices)} x {name}"
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU core{'s' if cores > 1 else ''}"


def _backend_version():
    backend = keras.backend.backend()
    return {backend: importlib.metadata.version(backend)}


def _commit():
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=pathlib.Path(__file__).parent, capture_output=True,
            text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
