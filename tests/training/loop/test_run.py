"""Runs in this process: stopped and resumed within epochs, at changing image sizes, averaging weights."""

import os
import signal

import keras
import numpy as np
import pytest

from zoo import backbones
from zoo.data import arrays
from zoo.training import recipes
from zoo.training.loop import run
from zoo.training.loop.preemption import Preempted

STEPS = 5  # an epoch
RECIPE = {"batch_size": 8, "epochs": 4, "learning_rate": 0.05, "warm_up": 0.0, "shift": 1}


def pooled(method, images, stem=None):
    """A backbone for images of any size that is compiled in no time."""
    x = method.conv(4, 3, "stem", padding="same", name="conv")(images)
    x = method.per_member(keras.layers.ReLU())(method.norm(name="norm")(x))
    return method.per_member(keras.layers.GlobalAveragePooling2D())(x)


pooled.stages = 0


@pytest.fixture
def splits(monkeypatch):
    """Training images 8x8 of three classes; none held out, and a few to test."""
    monkeypatch.setitem(backbones.BACKBONES, "pooled", pooled)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8 * STEPS + 3, 8, 8, 3), "uint8")
    whole = arrays.Split(images, np.arange(len(images), dtype="int32") % 3)
    return whole, whole.subset(slice(0)), whole.subset(slice(6))


class StopAfter(keras.callbacks.Callback):
    """Sends SIGTERM to this process after a number of steps, and keeps all weights and sizes seen."""

    def __init__(self, steps=None):
        super().__init__()
        self.left, self.kernels, self.sizes = steps, [], []

    def on_epoch_begin(self, epoch, logs=None):
        resize = [layer for layer in self.model.network.layers if layer.name == "resize"]
        self.sizes.append(resize[0].output.shape[1] if resize else self.model.network.input_shape[1])

    def on_train_batch_end(self, batch, logs=None):
        self.kernels.append(
            [keras.ops.convert_to_numpy(v).copy() for v in self.model.trainable_variables]
        )
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)


def trained(fields, splits, folder, stop=None):
    """(weights, callback) after a run of RECIPE with these fields."""
    folder.mkdir(exist_ok=True)
    recipe = recipes.Recipe("cifar10", "single", "pooled", **{**RECIPE, **fields})
    callback = StopAfter(stop)
    model, _ = run.train_model(recipe, splits, 3, folder, [callback])
    return model.network.get_weights(), callback


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"image_sizes": "4:2"},
        {"ema": 0.8},
        {"alternate_flips": True, "cutout": 3, "image_sizes": "6:2", "ema": 0.8, "bias_factor": 4.0},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_a_run_stopped_before_and_after_a_change_ends_as_an_undisturbed_one(
    fields, splits, tmp_path, request
):
    if "ema" in fields:
        request.getfixturevalue("eagerly")
    expected, whole = trained(fields, splits, tmp_path / "whole")
    assert len(whole.kernels) == 4 * STEPS
    if "image_sizes" in fields:
        small = int(fields["image_sizes"][0])
        assert whole.sizes == [small, small, 8, 8]
    for steps in (STEPS + 2, STEPS):  # within the second epoch, then within the third
        with pytest.raises(Preempted, match="saved"):
            trained(fields, splits, tmp_path / "stopped", steps)
    given, _ = trained(fields, splits, tmp_path / "stopped")
    for a, b in zip(given, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_ema_is_the_average_of_the_weights_over_steps(splits, tmp_path):
    weights, callback = trained({"ema": 0.8, "epochs": 2}, splits, tmp_path)
    average = callback.kernels[0]
    for kernels in callback.kernels[1:]:
        average = [0.8 * a + 0.2 * k for a, k in zip(average, kernels, strict=True)]
    given = {w.shape: w for w in weights}
    for mean, last in zip(average, callback.kernels[-1], strict=True):
        if mean.ndim > 1:
            np.testing.assert_allclose(given[mean.shape], mean, atol=1e-5)
            assert np.abs(mean - last).max() > 1e-3
