"""Keras metrics of ensembles and of calibrated classifiers: stateful, weighted, exact over any batches.

* Of the averaged prediction (B, K), accuracy and proper scores: `Accuracy`, `TopKAccuracy`,
  `NegativeLogLikelihood`, `BrierScore` and its parts; calibration: `ExpectedCalibrationError`, ...
* Of members' predictions (B, M, K), diversity: `MutualInformation`, `Disagreement`, `PairwiseKL`, ...
* Of all scores at the end, so not in compiled code: `AdaptiveCalibrationError`, selective prediction
  (`AreaUnderRiskCoverage`, ...), and detection from a score (B,): `OODAUROC`, `OODAUPR`, `OODFPR95`.
* Functions: `deep_ensemble_equivalent`, of weights `weight_cosine` and `weight_distance`, of features
  `linear_cka` and `member_cka`.
"""

import importlib

from zoo.metrics.brier import BrierReliability, BrierResolution, BrierScore, BrierUncertainty
from zoo.metrics.calibration import (
    Accuracy,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
    TopKAccuracy,
)
from zoo.metrics.detection import OODAUPR, OODAUROC, OODFPR95
from zoo.metrics.diversity import (
    Disagreement,
    JensenGap,
    MemberCosine,
    MutualInformation,
    NormalizedDisagreement,
    PairwiseKL,
)
from zoo.metrics.equivalent import deep_ensemble_equivalent
from zoo.metrics.selective import (
    AdaptiveCalibrationError,
    AreaUnderRiskCoverage,
    CoverageAtRisk,
    ExcessAreaUnderRiskCoverage,
)

__all__ = [
    "OODAUPR",
    "OODAUROC",
    "OODFPR95",
    "Accuracy",
    "AdaptiveCalibrationError",
    "AreaUnderRiskCoverage",
    "BrierReliability",
    "BrierResolution",
    "BrierScore",
    "BrierUncertainty",
    "ClasswiseCalibrationError",
    "CoverageAtRisk",
    "Disagreement",
    "ExcessAreaUnderRiskCoverage",
    "ExpectedCalibrationError",
    "JensenGap",
    "MaximumCalibrationError",
    "MemberCosine",
    "MutualInformation",
    "NegativeLogLikelihood",
    "NormalizedDisagreement",
    "PairwiseKL",
    "TopKAccuracy",
    "deep_ensemble_equivalent",
    "linear_cka",
    "member_cka",
    "member_features",
    "member_weights",
    "weight_cosine",
    "weight_distance",
]

# They need the layers, which may be what is being imported while our metrics are registered with Keras.
_OF_LAYERS = {
    "linear_cka": "feature_space",
    "member_cka": "feature_space",
    "member_features": "feature_space",
    "member_weights": "parameter_space",
    "weight_cosine": "parameter_space",
    "weight_distance": "parameter_space",
}


def __getattr__(name):
    if name in _OF_LAYERS:
        return getattr(importlib.import_module(f"zoo.metrics.{_OF_LAYERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
