"""Deep-ensemble equivalents of a report's models, where it has the networks to compare with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.evaluation.scores import calibrated_scores
from zoo.metrics import deep_ensemble_equivalent
from zoo.uncertainty import Prediction


def equivalents(
    models: Sequence[Any], predictions: dict, calibrated: dict, labels: np.ndarray
) -> tuple[dict, dict]:
    """Compute how many independent networks each model is worth.

    Ashukha et al., ICLR 2020, arXiv 2002.06470.

    This needs a deep ensemble and a single network of the model's own backbone among the models. NLLs
    are after temperature scaling: of single networks (their mean, if there are several), of the first 2,
    3, ... members of a deep ensemble, and of whole ones.

    Args:
        models: `CachedModel`s.
        predictions: {label: `Prediction` of the test images}.
        calibrated: {label: what `calibrated_scores` gives}.
        labels: int array (N,), the labels of the test images.

    Returns:
        ({label: {"networks": a number, or None where the model is better than the whole deep ensemble,
        "of": the largest deep ensemble's size}, or None}, {backbone: why there are none}).
    """
    results, missing = dict.fromkeys(predictions), {}
    for backbone in dict.fromkeys(map(_backbone, models)):
        group = [model for model in models if _backbone(model) == backbone]
        kinds = {
            kind: [model.label for model in group if _method(model) == kind]
            for kind in ("single", "deep_ensemble")
        }
        absent = [f"{kind}_{backbone}" for kind, found in kinds.items() if not found]
        curve = {} if absent else _curve(kinds, predictions, calibrated, labels)
        if absent:
            missing[backbone] = f"{' and '.join(absent)} not among the models"
        elif not curve:
            missing[backbone] = "too few test images to scale temperatures"
        for model in group if curve else ():
            networks = deep_ensemble_equivalent(calibrated[model.label]["nll"], curve)
            known = float(networks) if np.isfinite(networks) else None
            results[model.label] = {"networks": known, "of": max(curve)}
    return results, missing


def _curve(kinds, predictions, calibrated, labels):
    """{size: mean NLL of deep ensembles of that size}; {} of fewer images than calibration needs."""
    if any(calibrated[label]["nll"] is None for found in kinds.values() for label in found):
        return {}
    nlls = {1: [calibrated[label]["nll"] for label in kinds["single"]]}
    for label in kinds["deep_ensemble"]:
        members = predictions[label].members
        for size in range(2, members.shape[1]):
            part = Prediction(members[:, :size])
            nlls.setdefault(size, []).append(calibrated_scores(part, labels)["nll"])
        nlls.setdefault(members.shape[1], []).append(calibrated[label]["nll"])
    return {size: float(np.mean(values)) for size, values in nlls.items()}


def _backbone(model):
    return model.config["spec"]["backbone"]


def _method(model):
    return model.config["spec"]["method"]["name"]
