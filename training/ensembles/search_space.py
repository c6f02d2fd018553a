"""The hyperparameters of hyper-deep ensembles: their ranges, samples, and use in a network."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np

from zoo.classifier import EnsembleClassifier
from zoo.composing import HEAD
from zoo.training.recipes import Recipe

TUNABLE = ("l2", "label_smoothing", "learning_rate", "dropout")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Ranges of hyperparameters, all sampled log-uniformly.

    Args:
        ranges: dict from name to (low, high) with 0 < low <= high. Names are `l2_GROUP`, the coefficient
            c of c * w in the gradient, like the recipe's weight decay; `label_smoothing`;
            `learning_rate`, the peak rate; and `dropout`, the rate before the head.
        seed: int, the seed of the samples. Default: 0.

    Raises:
        ValueError: if a range is invalid.
    """

    ranges: dict
    seed: int = 0

    def __post_init__(self):
        for name, (low, high) in self.ranges.items():
            if not 0 < low <= high < math.inf:
                raise ValueError(f"the range of {name} must be 0 < low <= high; got {low:g} to {high:g}")
            if name in ("label_smoothing", "dropout") and high >= 1:
                raise ValueError(f"the range of {name} must end below 1; got {high:g}")

    def sample(self, index: int) -> dict[str, float]:
        """Draw a configuration; the same index always gives the same one.

        Args:
            index: int >= 1, the configuration.

        Returns:
            dict from name to value.
        """
        draws = np.random.default_rng([self.seed, index]).random(len(self.ranges))
        return {
            # exp(log(high)) may be a little above high.
            name: float(np.clip(low * (high / low) ** draw, low, high))
            for draw, (name, (low, high)) in zip(draws, sorted(self.ranges.items()))
        }


def search_space(
    recipe: Recipe,
    network: keras.Model,
    num_images: int,
    tune: Sequence[str],
    l2: tuple,
    label_smoothing: tuple,
    learning_rate: tuple,
    dropout: tuple,
) -> SearchSpace:
    """Build the search space of a recipe and a single network.

    Args:
        recipe: `zoo.training.recipes.Recipe`, for its seed and learning rate.
        network: `keras.Model` whose layers fall into groups for L2 (see `l2_groups`).
        num_images: int, training images.
        tune: sequence of names from `TUNABLE`.
        l2: (low, high), divided by `num_images`.
        label_smoothing: (low, high).
        learning_rate: (low, high), times the recipe's.
        dropout: (low, high).

    Returns:
        `SearchSpace`.

    Raises:
        ValueError: if `tune` is empty or has an unknown name, or a range is invalid.
    """
    if not tune or not set(tune) <= set(TUNABLE):
        raise ValueError(
            f"tune takes one or more of {', '.join(TUNABLE)}; got {', '.join(tune) or 'none'}"
        )
    ranges = {}
    if "l2" in tune:
        for group in l2_groups(network):
            ranges[f"l2_{group}"] = tuple(end / num_images for end in l2)
    if "label_smoothing" in tune:
        ranges["label_smoothing"] = tuple(label_smoothing)
    if "learning_rate" in tune:
        ranges["learning_rate"] = tuple(end * recipe.learning_rate for end in learning_rate)
    if "dropout" in tune:
        ranges["dropout"] = tuple(dropout)
    return SearchSpace(ranges, recipe.seed)


def l2_groups(network: keras.Model) -> dict[str, list]:
    """Divide the kernels of a single network into groups that share a coefficient of L2.

    The groups are the stem, each stage (or else "hidden"), the head's kernel and its bias.  With the
    stages of a residual network these are the six groups of the paper's Wide ResNet.  Normalisation and
    other biases get no L2, as in the recipes.

    Args:
        network: `keras.Model` of a single network.

    Returns:
        dict from group to list of variables.
    """
    layers = [
        layer
        for layer in network.layers
        if getattr(layer, "kernel", None) is not None and layer.trainable_weights
    ]
    groups = {}
    for index, layer in enumerate(layers):
        if layer.name == HEAD:
            groups["head_kernel"], groups["head_bias"] = [layer.kernel], [layer.bias]
            continue
        hidden = layer.name.split("_")[0] if layer.name.startswith("stage") else "hidden"
        groups.setdefault(hidden if index else "stem", []).append(layer.kernel)
    return groups


def configured_recipe(recipe: Recipe, configuration: dict) -> Recipe:
    """Put a configuration's label smoothing and learning rate into a recipe.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        configuration: dict from hyperparameter to value.

    Returns:
        `Recipe`.
    """
    fields = ("label_smoothing", "learning_rate")
    return dataclasses.replace(recipe, **{k: v for k, v in configuration.items() if k in fields})


def without_decay(recipe: Recipe) -> Recipe:
    """Remove the weight decay from a recipe, because `configure` puts L2 into the loss.

    Args:
        recipe: `zoo.training.recipes.Recipe`.

    Returns:
        `Recipe`.
    """
    return dataclasses.replace(recipe, weight_decay=0.0)


def configure(model: EnsembleClassifier, recipe: Recipe, configuration: dict) -> keras.Model:
    """Put a configuration's L2 and dropout into a model before training.

    L2 is a regulariser on variables, which adds c / 2 * |w|^2 to the loss on every backend. A group that
    the configuration leaves out gets the recipe's weight decay, the head's bias none.

    Args:
        model: `zoo.classifier.EnsembleClassifier` of a single network.
        recipe: `zoo.training.recipes.Recipe`, for its weight decay and seed.
        configuration: dict from hyperparameter to value.

    Returns:
        `keras.Model` to train, which shares the weights of `model.network`.
    """
    for group, variables in l2_groups(model.network).items():
        default = 0.0 if group == "head_bias" else recipe.weight_decay
        coefficient = configuration.get(f"l2_{group}", default)
        for variable in variables:
            variable.regularizer = keras.regularizers.L2(coefficient / 2) if coefficient else None
    rate = configuration.get("dropout", 0.0)
    return _with_dropout(model.network, rate, recipe.seed) if rate else model.network


def _with_dropout(network, rate, seed):
    head = network.get_layer(HEAD)
    x = keras.Model(network.input, head.input)(network.input)
    x = head(keras.layers.Dropout(rate, seed=seed, name="dropout")(x))
    return keras.Model(network.input, network.layers[-1](x))
