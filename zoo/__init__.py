"""The ensemble zoo: classifiers that know when they do not know, at the cost of about one network.

    import zoo
    model = zoo.load("packed_resnet20")
    prediction = zoo.predict(model, images)

Everything below loads on first use, so that `zoo.list_models()` and `zoo list` need no TensorFlow.
"""

import importlib

from zoo import _registration
from zoo.registry import list_models

__version__ = "0.1.0"

_HOMES = {
    "Card": "zoo.cards",
    "EnsembleClassifier": "zoo.classifier",
    "Prediction": "zoo.uncertainty",
    "HyperparameterTuning": "zoo.hyper_batch_tuning",
    "build": "zoo.building",
    "calibrate": "zoo.calibration",
    "card": "zoo.cards",
    "convert": "zoo.converting",
    "ensemble": "zoo.joining",
    "export": "zoo.exporting.export",
    "fuse": "zoo.joining",
    "load": "zoo.loading",
    "predict": "zoo.uncertainty",
}
_SUBMODULES = (
    "backbones",
    "conformal",
    "evaluation",
    "layers",
    "losses",
    "methods",
    "metrics",
    "training",
)

__all__ = ["list_models", *_HOMES, *_SUBMODULES]

_registration.register_with_keras()


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
