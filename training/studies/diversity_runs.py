"""Runs of the BatchEnsemble study: what configurations there are, how one is trained and measured."""

import dataclasses
import difflib
import json
import math
import os
import pathlib
import random
import time

import keras
import numpy as np

from zoo import methods, metrics
from zoo.backbones import mlp
from zoo.classifier import EnsembleClassifier
from zoo.data import arrays as datasets
from zoo.data.epoch_shuffle import EpochShuffle
from zoo.evaluation.scores import FIGURES, measure
from zoo.losses import CrossEntropy
from zoo.training.loop.learning_rates import WarmUpCosine
from zoo.uncertainty import predict

IN, OUT = "mnist", "fashion_mnist"
RANKS = tuple(range(1, 8))
MODES = ("tile", "split")
# Value of `random_sign_init`.  "ones" starts all members alike: edward2's default for its layers, which
# under tiled training gives them equal gradients for ever.
INITIALISERS = {"normal": -0.5, "signs": 0.5, "ones": 1.0}
# Mutual information below this is what rounding leaves of members that are equal.
ROUNDING = 9


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a study have in common.

    Fields: `members` M of every ensemble; `hidden_units` of the MLP; `epochs` and `batch_size`, so equal
    updates for all; Adam's peak `learning_rate`, which falls to 0 along a cosine; `limit`, images of
    each split, 0 for all.
    """

    members: int = 4
    hidden_units: tuple = (64, 32, 16)
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 2e-3
    limit: int = 0


def batch_ensemble_name(mode, initialiser, rank):
    """The name of a BatchEnsemble configuration."""
    return f"batch_ensemble-{mode}-{initialiser}-rank{rank}"


def configurations(members=4):
    """{name: function from a seed to the method}, in the order of the report."""
    found = {"single": lambda seed: methods.Single()}
    cells = [(m, i, r) for i in ("normal", "signs") for m in MODES for r in RANKS]
    for mode, initialiser, rank in cells + [(mode, "ones", 1) for mode in MODES]:
        method = methods.BatchEnsemble(
            members, rank, random_sign_init=INITIALISERS[initialiser], training_mode=mode,
            # Scaling gradients, as the reference code does, has no effect under Adam.
            fast_weight_lr_multiplier=1.0,
        )  # fmt: skip
        found[batch_ensemble_name(mode, initialiser, rank)] = lambda seed, method=method: method
    found["packed"] = lambda seed: methods.Packed(members, alpha=2)
    found["mimo"] = lambda seed: methods.MIMO(members, seed=seed)
    found["deep_ensemble"] = lambda seed: methods.DeepEnsemble(members)
    return found


def chosen(names, members=4):
    """The configurations of such names, all for none.

    Raises:
        ValueError: for an unknown name.
    """
    known = configurations(members)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0) if name else list(known)[:3]
            raise ValueError(
                f"unknown configuration {name!r}; the nearest of {len(known)} are {', '.join(near)}"
            )
    return {name: method for name, method in known.items() if not names or name in names}


class Data:
    """The images of a study: MNIST to train and test on, Fashion-MNIST's test images as foreign ones.

    Raises:
        FileNotFoundError: where one of them is not in `data_dir`.
        ValueError: for fewer training images than a batch has.
    """

    def __init__(self, data_dir, settings):
        end = settings.limit or None
        self.training, self.test, self.ood = (
            datasets.load(name, split, data_dir).subset(slice(end))
            for name, split in ((IN, "train"), (IN, "test"), (OUT, "test"))
        )
        if len(self.training) < settings.batch_size:
            raise ValueError(
                f"batch_size={settings.batch_size} is more than the {len(self.training)} training images"
            )


def make(method, settings):
    """An untrained MLP of a method for MNIST."""
    (mean,), (std,) = datasets.STATISTICS[IN]
    images = keras.Input((28, 28, 1), name="images")
    factory = method.layer_factory(len(settings.hidden_units) - 1)
    x = factory.expand(keras.layers.Rescaling(1 / std, -mean / std, name="normalize")(images))
    x = factory.begin_stage("head", mlp(factory, x, hidden_units=settings.hidden_units))
    logits = factory.dense(10, "head", name="head")(x)
    network = method.finish(keras.Model(images, factory.members(logits), name="network"))
    for layer in network.layers:
        if getattr(method, "random_sign_init", 0) > 0 and hasattr(layer, "fast_weights"):
            # The sum of R products of signs has variance R, and ranks are to start at one scale.
            layer.s.assign(layer.s / math.sqrt(layer.fast_rank))
    return EnsembleClassifier(network, member_loss=method.member_loss)


def train(method, settings, training, seed):
    """Train a model of a method; the seed decides its initial weights and the order of images.

    Returns:
        (model, mean cosine of its members' weights before training, or None for one member).
    """
    random.seed(seed)  # where Keras's initialisers take their seeds from
    model = make(method, settings)
    start = None if model.num_members == 1 else _between(metrics.weight_cosine(model))
    batches = EpochShuffle(training, settings.batch_size, seed)
    rate = WarmUpCosine(settings.learning_rate, len(batches) * settings.epochs, 0)
    model.compile(keras.optimizers.Adam(rate), CrossEntropy())
    model.fit(batches, epochs=settings.epochs, verbose=0, shuffle=False)
    return model, start


def figures_of(model, test, foreign):
    """{figure: value} of a trained model; None for what takes more than one member."""
    inside, outside = (predict(model, split.images, 1000, False) for split in (test, foreign))
    found = {
        key: measure(FIGURES[key].metric, test.labels, inside.probabilities)
        for key in ("accuracy", "nll", "ece")
    }
    own = (inside.members.argmax(axis=-1) == test.labels[:, None]).mean()
    found |= {"member_accuracy": float(own), "ood_auroc_entropy": _auroc(inside, outside, "entropy")}
    several = {
        "mutual_information": lambda: float(inside.mutual_information.mean()),
        "disagreement": lambda: float(inside.disagreement.mean()),
        **{
            key: lambda key=key: measure(FIGURES[key].metric, test.labels, inside.members)
            for key in ("normalized_disagreement", "pairwise_kl", "jensen_gap")
        },
        "ood_mutual_information": lambda: float(outside.mutual_information.mean()),
        "ood_disagreement": lambda: float(outside.disagreement.mean()),
        "ood_auroc_mutual_information": lambda: _auroc(inside, outside, "mutual_information"),
        "weight_cosine": lambda: _between(metrics.weight_cosine(model)),
        "weight_distance": lambda: _between(metrics.weight_distance(model)) / _norm(model),
    }
    alone = model.num_members == 1
    return found | {key: None if alone else value() for key, value in several.items()}


def _auroc(inside, outside, score):
    """How well a `Prediction`'s score tells foreign images, the positive ones, from others."""
    scores = [np.round(getattr(part, score), ROUNDING) for part in (inside, outside)]
    metric = metrics.OODAUROC()
    metric.update_state(np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate(scores))
    return float(metric.result())


def _between(matrix):
    """Mean over pairs of members."""
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())


def _norm(model):
    """Mean norm of a member's weights, all in one vector."""
    parts = metrics.member_weights(model).values()
    squares = sum(np.square(v.reshape(len(v), -1).astype("float64")).sum(axis=1) for v in parts)
    return float(np.sqrt(squares).mean())


def path_of(folder, task):
    """Where a run's figures are."""
    return pathlib.Path(folder) / "runs" / f"{task}.json"


def read(folder, task):
    """The dictionary in a run's file."""
    return json.loads(path_of(folder, task).read_text())


def perform(folder, task, method, seed, settings, data):
    """Train and measure one run, unless it is there; writes its file in one step.

    Returns:
        The dictionary in the file.
    """
    path = path_of(folder, task)
    if path.is_file():
        return read(folder, task)
    began, cpu = time.time(), time.process_time()
    model, start = train(method, settings, data.training, seed)
    result = {
        "task": task,
        "seed": seed,
        "parameters": sum(math.prod(v.shape) for v in model.network.trainable_variables),
        "figures": {**figures_of(model, data.test, data.ood), "initial_weight_cosine": start},
        "seconds": round(time.time() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(result, indent=1) + "\n")
    draft.replace(path)
    return result
