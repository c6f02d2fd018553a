"""`zoo.convert`: one trained network as the beginning of an ensemble that shares its weights."""

import numpy as np

from zoo import methods
from zoo.building import build_from_spec
from zoo.checks import check_dense
from zoo.classifier import EnsembleClassifier
from zoo.methods.tiled import Tiled


def convert(model, method, spread=0.05, seed=0):
    """A BatchEnsemble, MC-dropout or Masksembles model with the weights of a trained single network.

    Kernels, biases and normalisations are kept, those that each member has of its own as M copies.
    BatchEnsemble's factors r and s are drawn from Normal(1, spread): with `spread=0` every member
    answers as the original does, but members then stay equal in training.  MC dropout at rate 0 and
    Masksembles at scale 1 answer as the original, too.

    Args:
        model: a single `EnsembleClassifier` from `zoo.load` or `zoo.build`.
        method: such as `zoo.methods.BatchEnsemble(4)`, or its name for the default arguments.
        spread: standard deviation of BatchEnsemble's factors around one.
        seed: of that draw.

    Returns:
        A compiled `EnsembleClassifier`, to be fine-tuned with `fit`.

    Raises:
        ValueError: for a model that is not a single network of ours, a method whose members do not share
            one network's weights, or a negative spread.
    """
    if isinstance(method, str) and method in methods.METHODS:
        method = methods.METHODS[method]()
    if not isinstance(method, Tiled):
        raise ValueError(
            f"zoo.convert makes batch_ensemble, mc_dropout or masksembles, not {method!r}; trained models are "
            "joined by zoo.ensemble or zoo.fuse"
        )
    single = isinstance(model, EnsembleClassifier) and (model.spec or {}).get("method")
    if single != {"name": "single"}:
        raise ValueError("zoo.convert takes a single model from zoo.load or zoo.build")
    check_dense([model], "zoo.convert")
    if not spread >= 0:
        raise ValueError(f"spread must be >= 0; got {spread!r}")
    converted = build_from_spec(model.spec, method=method, activation=model.activation)
    sources = {layer.name: layer for layer in model.network.layers}
    rng = np.random.default_rng(seed)
    for layer in converted.network.layers:
        if layer.weights and layer.name in sources:
            _copy(sources[layer.name], layer, spread, rng)
    return converted


def _copy(source, layer, spread, rng):
    """Weights of a plain layer into the layer that members share."""
    values = dict(zip((weight.name for weight in source.weights), source.get_weights()))
    fast = {id(weight) for weight in getattr(layer, "fast_weights", ())}
    for weight in layer.weights:
        if id(weight) in fast:
            drawn = rng.normal(1.0, spread, weight.shape)
            if weight is layer.s:
                drawn[1:] -= 1  # of a sum of terms only the first is the network's
            weight.assign(drawn)
        elif weight.name in values:  # one for all, or the same for each member
            weight.assign(np.broadcast_to(values[weight.name], weight.shape))
