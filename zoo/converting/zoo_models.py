"""Single models of this zoo converted by building them anew with another method."""

from typing import Any

import numpy as np

from zoo.classifier import EnsembleClassifier
from zoo.composing import build_from_spec
from zoo.converting import copying
from zoo.methods import Method


def rebuilt(
    model: EnsembleClassifier, method: Method, spread: float, seed: int, **options: Any
) -> EnsembleClassifier:
    """Build a single model with another method, and give it the weights.

    Args:
        model: a single `EnsembleClassifier` with a spec.
        method: one whose members share kernels.
        spread: float, the standard deviation of BatchEnsemble's factors around one.
        seed: int, the seed of their draw.
        options: further arguments of `zoo.build`.

    Returns:
        A compiled `EnsembleClassifier`.
    """
    converted = build_from_spec(model.spec, method=method, resize=model.resize, **options)
    converted.class_names = model.class_names
    sources = {layer.name: layer for layer in model.network.layers}
    rng = np.random.default_rng(seed)
    for layer in converted.network.layers:
        if layer.weights and layer.name in sources:
            copying.share(sources[layer.name], layer, spread, rng)
    return converted
