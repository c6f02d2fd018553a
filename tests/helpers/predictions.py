"""Labels and predictions for the tests of metrics."""

import numpy as np

RNG = np.random.default_rng(4)


def normalised(p):
    return (p / p.sum(-1, keepdims=True)).astype("float32")


# Each: labels (N,) and probabilities (N, K).
CASES = {
    "many": (RNG.integers(0, 10, 3000), normalised(RNG.exponential(size=(3000, 10)) ** 2)),
    "ties": (RNG.integers(0, 4, 500), normalised(RNG.integers(1, 3, (500, 4)).astype(float))),
    "uniform": (RNG.integers(0, 8, 60), np.full((60, 8), 1 / 8, "float32")),
    "sure": (RNG.integers(0, 5, 80), np.eye(5, dtype="float32")[RNG.integers(0, 5, 80)]),
    "sure and right": (np.arange(6) % 3, np.eye(3, dtype="float32")[np.arange(6) % 3]),
    "sure and wrong": (np.arange(6) % 3, np.eye(3, dtype="float32")[(np.arange(6) + 1) % 3]),
    "empty bins": (RNG.integers(0, 2, 40), np.array([[0.97, 0.03], [0.52, 0.48]] * 20, "float32")),
    "on the edges": (np.arange(15) % 2, np.stack([1 - np.arange(1, 16) / 15, np.arange(1, 16) / 15], 1)),
    "one class seen": (np.zeros(50, int), normalised(RNG.exponential(size=(50, 3)))),
    "one class there is": (np.zeros(7, int), np.ones((7, 1), "float32")),
    "one sample": (np.array([1]), np.array([[0.2, 0.5, 0.3]], "float32")),
}


CASES = {name: (y, p.astype("float32")) for name, (y, p) in CASES.items()}


def value(metric, *batch, **options):
    metric.update_state(*batch, **options)
    return float(metric.result())
