"""A small sparse network, its data, and its training under a pruning schedule."""

import keras
import numpy as np
from keras import layers

from helpers.arrays import draw, numpy
from zoo.layers import sparse_layers, sparsify
from zoo.layers.sparse.pruning import MagnitudePruning


def small(sparsity=0.6, optimizer=None):
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(3),
        ]
    )
    model.compile(optimizer or "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return sparsify(model, sparsity, seed=4)


X, Y = draw(48, 5, 5, 2), np.arange(48) % 3


def zeros_of(model):
    return [int((~numpy(layer.mask)).sum()) for layer in sparse_layers(model)]


class Recorded(MagnitudePruning):
    """Also remembers after which steps it pruned, and how many zeros there were."""

    def act(self, step):
        super().act(step)
        self.zeros = {**getattr(self, "zeros", {}), self.step: sum(zeros_of(self.model))}


SIZE = sum(int(np.prod(shape)) for shape in ((3, 3, 2, 4), (36, 12), (12, 3)))  # of `small`


def fit(schedule, scope="global", model=None, steps_per_execution=1, **options):
    """Train a small dense model, 3 steps an epoch; returns (model, callback)."""
    if model is None:
        model = small(0.0, keras.optimizers.SGD(0.05, momentum=0.9))
        model.compile(model.optimizer, model.loss, steps_per_execution=steps_per_execution)
    pruning = Recorded(schedule, scope)
    options = {"epochs": 4, "batch_size": 16, "shuffle": False, "verbose": 0, **options}
    model.fit(X, Y, callbacks=[pruning], **options)
    return model, pruning
