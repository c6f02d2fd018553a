"""Clipping by norm under two replicas: other weights than on one device."""

import contextlib

import numpy as np
from _two_devices import X, Y, model, report, strategy

scope = strategy().scope()


def compare():
    weights = []
    for place in (contextlib.nullcontext(), scope):
        trained = model(place, global_clipnorm=0.5)
        trained.fit(X, Y, batch_size=16, verbose=0, shuffle=False)
        weights.append(trained.get_weights()[0])
    difference = np.abs(weights[0] - weights[1]).max()
    assert difference < 1e-5, f"weights differ by {difference:.2g}"


report(compare)
