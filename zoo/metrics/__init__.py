"""Keras metrics of calibrated classifiers: stateful, weighted, exact over batches of any sizes."""

from zoo.metrics.calibration import Accuracy, ExpectedCalibrationError, NegativeLogLikelihood

__all__ = ["Accuracy", "ExpectedCalibrationError", "NegativeLogLikelihood"]
