"""`zoo.convert`: one trained network as the beginning of an ensemble that shares its weights."""

import numpy as np

from zoo import methods
from zoo.building import build_from_spec
from zoo.checks import check_dense
from zoo.classifier import EnsembleClassifier
from zoo.methods.hyper_batch import HyperBatch
from zoo.methods.tiled import Tiled


def convert(
    model: EnsembleClassifier, method: methods.Single | str, spread: float = 0.05, seed: int = 0
) -> EnsembleClassifier:
    """Start an ensemble that shares its weights from one trained single network.

    Kernels, biases and normalisations are kept; those that each member has of its own become M copies.
    BatchEnsemble's factors r and s are drawn from Normal(1, spread): with `spread=0` every member
    answers as the original does, but then members stay equal in training. MC dropout at rate 0 and
    Masksembles at scale 1 answer as the original, too.

    Args:
        model: a single `EnsembleClassifier` from `zoo.load` or `zoo.build`.
        method: `zoo.methods.BatchEnsemble`, `MCDropout` or `Masksembles`, such as
            `zoo.methods.BatchEnsemble(4)`, or its name for the default arguments.
        spread: float >= 0, the standard deviation of BatchEnsemble's factors around one. Default: 0.05.
        seed: int, the seed of that draw. Default: 0.

    Returns:
        A compiled `EnsembleClassifier`, to be fine-tuned with `fit`.

    Raises:
        ValueError: for a model that is not a single network of this zoo, a method whose members do not
            share one network's weights, or a negative spread.

    Example:
        >>> single = zoo.build(zoo.methods.Single(), "mlp", input_shape=(8, 8, 1))
        >>> model = zoo.convert(single, "batch_ensemble", spread=0)
        >>> images = np.zeros((1, 8, 8, 1), "uint8")
        >>> expected = zoo.predict(single, images).probabilities
        >>> np.allclose(zoo.predict(model, images).probabilities, expected, atol=1e-5)
        True
    """
    if isinstance(method, str) and method in methods.METHODS:
        method = methods.METHODS[method]()
    if not isinstance(method, (Tiled, HyperBatch)):
        raise ValueError(
            f"zoo.convert makes batch_ensemble, mc_dropout, masksembles or hyper_batch, not {method!r}; trained "
            "models are joined by zoo.ensemble or zoo.fuse"
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
        elif weight.name == "e_kernel":  # a hyper-batch ensemble begins without an effect of its numbers
            weight.assign(np.zeros(weight.shape))
        elif weight.name in values:  # one for all, or the same for each member
            weight.assign(np.broadcast_to(values[weight.name], weight.shape))
