"""The ensemble zoo: classifiers that know when they do not know, at the cost of about one network.

    import zoo
    model = zoo.load("packed_resnet20")
    prediction = zoo.predict(model, images)

Everything below loads on first use, so that `zoo.list_models()` and `zoo list` need no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo import _registration
from zoo.registry import list_models, register_backbone, register_method
from zoo.version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` loads these names
    import zoo.training as training  # noqa: F401
    from zoo import backbones as backbones
    from zoo import conformal as conformal
    from zoo import counts as counts
    from zoo import evaluation as evaluation
    from zoo import layers as layers
    from zoo import losses as losses
    from zoo import methods as methods
    from zoo import metrics as metrics
    from zoo.building import build as build
    from zoo.calibration import calibrate as calibrate
    from zoo.cards import Card as Card
    from zoo.cards import card as card
    from zoo.classifier import EnsembleClassifier as EnsembleClassifier
    from zoo.converting.convert import convert as convert
    from zoo.deciding import Threshold as Threshold
    from zoo.deciding import threshold as threshold
    from zoo.decoding import decode_predictions as decode_predictions
    from zoo.errors import WeightsError as WeightsError
    from zoo.exporting.export import export as export
    from zoo.hub import save_to_hub as save_to_hub
    from zoo.hyper_batch_tuning import HyperparameterTuning as HyperparameterTuning
    from zoo.joining import ensemble as ensemble
    from zoo.joining import fuse as fuse
    from zoo.loading import load as load
    from zoo.uncertainty import Prediction as Prediction
    from zoo.uncertainty import predict as predict

_HOMES = {
    "Card": "zoo.cards",
    "EnsembleClassifier": "zoo.classifier",
    "Prediction": "zoo.uncertainty",
    "HyperparameterTuning": "zoo.hyper_batch_tuning",
    "WeightsError": "zoo.errors",
    "build": "zoo.building",
    "calibrate": "zoo.calibration",
    "card": "zoo.cards",
    "convert": "zoo.converting",
    "decode_predictions": "zoo.decoding",
    "ensemble": "zoo.joining",
    "export": "zoo.exporting.export",
    "fuse": "zoo.joining",
    "load": "zoo.loading",
    "predict": "zoo.uncertainty",
    "save_to_hub": "zoo.hub",
    "Threshold": "zoo.deciding",
    "threshold": "zoo.deciding",
}
_SUBMODULES = (
    "backbones",
    "conformal",
    "counts",
    "evaluation",
    "layers",
    "losses",
    "methods",
    "metrics",
    "training",
)

__all__ = ["list_models", "register_backbone", "register_method", *_HOMES, *_SUBMODULES]

_registration.register_with_keras()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
