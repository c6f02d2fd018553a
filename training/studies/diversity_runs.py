"""The runs of the BatchEnsemble study: their configurations, training and evaluation."""

import dataclasses
import difflib
import json
import math
import os
import pathlib
import random
import time
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from zoo import methods, metrics
from zoo.backbones import mlp
from zoo.classifier import EnsembleClassifier
from zoo.data import arrays as datasets
from zoo.data.epoch_shuffle import EpochShuffle
from zoo.evaluation.scores import SCORES, measure
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

    Args:
        members: int M, members of every ensemble. Default: 4.
        hidden_units: tuple of ints, units of the MLP's hidden layers. Default: (64, 32, 16).
        epochs: int, the same for all methods, and so the number of updates. Default: 4.
        batch_size: int, images of an update. Default: 128.
        learning_rate: float, the peak rate of Adam, which falls to 0 along a cosine. Default: 2e-3.
        limit: int, images of each split, or 0 for all. Default: 0.
    """

    members: int = 4
    hidden_units: tuple = (64, 32, 16)
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 2e-3
    limit: int = 0


def batch_ensemble_name(mode: str, initialiser: str, rank: int) -> str:
    """Name a configuration of BatchEnsemble.

    Args:
        mode: str, one of `MODES`.
        initialiser: str, one of `INITIALISERS`.
        rank: int, the rank of a member's factors.

    Returns:
        str.
    """
    return f"batch_ensemble-{mode}-{initialiser}-rank{rank}"


def configurations(members: int = 4) -> dict[str, Callable]:
    """List all configurations, in the order of the report.

    Args:
        members: int M. Default: 4.

    Returns:
        dict from name to a function from a seed to the method.
    """
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


def chosen(names: Collection[str], members: int = 4) -> dict[str, Callable]:
    """Look up configurations by their names.

    Args:
        names: collection of str; all configurations if it is empty.
        members: int M. Default: 4.

    Returns:
        dict from name to a function from a seed to the method.

    Raises:
        ValueError: if a name is unknown.
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
    """The images of a study: MNIST to train and test on, and Fashion-MNIST's test images as OOD images.

    Args:
        data_dir: str or path of the folder of the data sets.
        settings: `Settings`.

    Raises:
        FileNotFoundError: if a data set is not in `data_dir`.
        ValueError: if there are fewer training images than a batch has.
    """

    def __init__(self, data_dir: str | os.PathLike, settings: Settings):
        end = settings.limit or None
        self.training, self.test, self.ood = (
            datasets.load(name, split, data_dir).subset(slice(end))
            for name, split in ((IN, "train"), (IN, "test"), (OUT, "test"))
        )
        if len(self.training) < settings.batch_size:
            raise ValueError(
                f"batch_size={settings.batch_size} is more than the {len(self.training)} training images"
            )


def make(method: methods.Method, settings: Settings) -> EnsembleClassifier:
    """Build the untrained MLP of a method for MNIST.

    Args:
        method: a method of `zoo.methods`.
        settings: `Settings`.

    Returns:
        `zoo.classifier.EnsembleClassifier`.
    """
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


def train_mlp(
    method: methods.Method, settings: Settings, training: Any, seed: int
) -> tuple[EnsembleClassifier, float | None]:
    """Train the MLP of a method.

    Args:
        method: a method of `zoo.methods`.
        settings: `Settings`.
        training: split of training images.
        seed: int, the seed of the initial weights and the order of images.

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


def figures_of(model: EnsembleClassifier, test: Any, ood: Any) -> dict[str, float | None]:
    """Evaluate a trained model.

    Args:
        model: `zoo.classifier.EnsembleClassifier`.
        test: split of MNIST's test images.
        ood: split of OOD images.

    Returns:
        dict from figure to value; None for figures that need more than one member.
    """
    inside, outside = (predict(model, split.images, 1000, False) for split in (test, ood))
    found = {
        key: measure(SCORES[key].metric, test.labels, inside.probabilities)
        for key in ("accuracy", "nll", "ece")
    }
    own = (inside.members.argmax(axis=-1) == test.labels[:, None]).mean()
    found |= {"member_accuracy": float(own), "ood_auroc_entropy": _auroc(inside, outside, "entropy")}
    several = {
        "mutual_information": lambda: float(inside.mutual_information.mean()),
        "disagreement": lambda: float(inside.disagreement.mean()),
        **{
            key: lambda key=key: measure(SCORES[key].metric, test.labels, inside.members)
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
    """Measure how well a `Prediction`'s score tells OOD images, the positive ones, from others."""
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


def path_of(folder: str | os.PathLike, task: str) -> pathlib.Path:
    """Return the path of a run's file.

    Args:
        folder: str or path of the study's folder.
        task: str, the run.

    Returns:
        `pathlib.Path`.
    """
    return pathlib.Path(folder) / "runs" / f"{task}.json"


def read(folder: str | os.PathLike, task: str) -> dict:
    """Read a run's file.

    Args:
        folder: str or path of the study's folder.
        task: str, the run.

    Returns:
        dict that `perform` wrote.
    """
    return json.loads(path_of(folder, task).read_text())


def perform(
    folder: str | os.PathLike,
    task: str,
    method: methods.Method,
    seed: int,
    settings: Settings,
    data: Data,
) -> dict:
    """Train and evaluate one run unless its file exists, and write the file in one step.

    Args:
        folder: str or path of the study's folder.
        task: str, the run.
        method: a method of `zoo.methods`.
        seed: int, the seed of the initial weights and the order of images.
        settings: `Settings`.
        data: `Data`.

    Returns:
        dict in the file.
    """
    path = path_of(folder, task)
    if path.is_file():
        return read(folder, task)
    began, cpu = time.time(), time.process_time()
    model, start = train_mlp(method, settings, data.training, seed)
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
