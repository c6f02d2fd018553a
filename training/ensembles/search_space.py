"""The hyperparameters of hyper-deep ensembles: what is searched, sampled, and put into a network."""

import dataclasses
import math

import keras
import numpy as np

from zoo.building import HEAD

TUNABLE = ("l2", "label_smoothing", "learning_rate", "dropout")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Ranges of hyperparameters, all sampled log-uniformly.

    Args:
        ranges: {name: (low, high)} with 0 < low <= high.  `l2_GROUP` are coefficients c of c * w in the
            gradient, as the recipe's weight decay is; `label_smoothing`; `learning_rate`, the peak;
            `dropout`, of what enters the head.
        seed: of the samples.

    Raises:
        ValueError: for a range that is none.
    """

    ranges: dict
    seed: int = 0

    def __post_init__(self):
        for name, (low, high) in self.ranges.items():
            if not 0 < low <= high < math.inf:
                raise ValueError(f"the range of {name} must be 0 < low <= high; got {low:g} to {high:g}")
            if name in ("label_smoothing", "dropout") and high >= 1:
                raise ValueError(f"the range of {name} must end below 1; got {high:g}")

    def sample(self, index):
        """Configuration `index` >= 1, {name: value}: the same whoever asks, and in whatever order."""
        draws = np.random.default_rng([self.seed, index]).random(len(self.ranges))
        return {
            # exp(log(high)) may be a little above high.
            name: float(np.clip(low * (high / low) ** draw, low, high))
            for draw, (name, (low, high)) in zip(draws, sorted(self.ranges.items()))
        }


def search_space(recipe, network, num_images, tune, l2, label_smoothing, learning_rate, dropout):
    """The space of a recipe and a single network.

    Args:
        recipe: gives the seed and the default learning rate.
        network: whose layers fall into groups for L2 (see `l2_groups`).
        num_images: of the training part.
        tune: names from `TUNABLE`.
        l2: (low, high) range, divided by `num_images`.
        label_smoothing, dropout: ranges.
        learning_rate: range, times the recipe's.

    Raises:
        ValueError: for nothing to tune, something unknown, or a range that is none.
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


def l2_groups(network):
    """{group: [variables]} of a single network: stem, each stage or else hidden, head kernel and bias.

    With the stages of a residual network these are the six groups of the paper's Wide ResNet.
    Normalisation and other biases are left alone, as the recipes do.
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


def configured_recipe(recipe, configuration):
    """A recipe with a configuration's label smoothing and learning rate in place of its own."""
    fields = ("label_smoothing", "learning_rate")
    return dataclasses.replace(recipe, **{k: v for k, v in configuration.items() if k in fields})


def without_decay(recipe):
    """The recipe for networks whose L2 is in the loss (`configure`) and not in the optimiser."""
    return dataclasses.replace(recipe, weight_decay=0.0)


def configure(model, recipe, configuration):
    """Put L2 and dropout into a single model that is going to be trained.

    L2 is a regulariser on variables, which adds c / 2 * |w|^2 to the loss on every backend; what the
    configuration does not say is the recipe's: its weight decay on kernels, nothing on the bias.

    Returns:
        The network to train: it shares the weights of `model.network`.
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
