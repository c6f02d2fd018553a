"""Schedules, augmentation, batches and data of training.  Runs on every backend."""

import dataclasses
import io
import math
import sys
import types

import keras
import numpy as np
import pytest
from keras import ops

from zoo.data import arrays
from zoo.data.epoch_shuffle import EpochShuffle
from zoo.training import recipes
from zoo.training.loop import from_recipe, progress, run
from zoo.training.loop.augmentation import RandomShiftFlip
from zoo.training.loop.learning_rates import WarmUpCosine, WarmUpSteps


def values(schedule, steps):
    return [float(schedule(step)) for step in range(steps)]


def test_cosine_rises_linearly_and_falls_to_zero():
    given = values(WarmUpCosine(0.4, 20, warm_up=4), 21)
    expected = [0.4 * (step + 1) / 4 for step in range(4)]
    expected += [0.2 * (1 + math.cos(math.pi * step / 16)) for step in range(17)]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert values(WarmUpCosine(0.4, 20), 1) == pytest.approx([0.4])
    assert float(WarmUpCosine(0.4, 20)(500)) == pytest.approx(0, abs=1e-7)


def test_steps_multiply_at_milestones():
    given = values(WarmUpSteps(1.0, [5, 8], factor=0.1, warm_up=2), 10)
    np.testing.assert_allclose(given, [0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("schedule", [WarmUpCosine(0.3, 9, 2), WarmUpSteps(0.3, [4], 0.5, 2)])
def test_schedules_serialise(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    twin = keras.saving.deserialize_keras_object(config)
    assert values(twin, 9) == values(schedule, 9)


def crops(image, shift, flip):
    """All images that augmentation may make of one."""
    size = image.shape[0]
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)))
    for i in range(2 * shift + 1):
        for j in range(2 * shift + 1):
            crop = padded[i : i + size, j : j + size]
            yield crop
            if flip:
                yield crop[:, ::-1]


@pytest.mark.parametrize(("shift", "flip"), [(2, True), (2, False), (0, True), (0, False)])
def test_augmentation_makes_exactly_the_possible_crops(shift, flip):
    image = np.random.default_rng(7).uniform(1, 255, (6, 6, 3)).astype("float32")
    layer = RandomShiftFlip(shift, flip, seed=1)
    batch = np.repeat(image[None], 400, axis=0)
    possible = {crop.tobytes() for crop in crops(image, shift, flip)}
    given = ops.convert_to_numpy(layer(batch, training=True))
    assert given.shape == batch.shape
    assert {made.tobytes() for made in given} == possible


def test_augmentation_draws_anew_and_repeats_with_its_seed(images):
    x = images.astype("float32")
    layer, twin = (RandomShiftFlip(3, seed=2) for _ in range(2))
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(twin(x, training=True)), first)


def test_augmentation_is_a_good_layer_and_rests_outside_training(images, check_layer):
    x = images.astype("float32")
    layer = RandomShiftFlip(3, seed=2)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    check_layer(lambda: RandomShiftFlip(2, False, seed=3), x / 255)


def split(count):
    images = np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")
    return arrays.Split(images, np.arange(count, dtype="int32"))


def test_shuffle_is_decided_by_seed_and_epoch():
    batches, twin = (
        EpochShuffle(split(23), 5, seed=3),
        EpochShuffle(split(23), 5, seed=3, epoch=1),
    )
    assert len(batches) == 4
    epochs = []
    for _ in range(2):
        seen = [batches[i] for i in range(len(batches))]
        assert all((x[:, 0, 0, 0] == y).all() and len(y) == 5 for x, y in seen)
        epochs.append(np.concatenate([y for _, y in seen]))
        assert len(set(epochs[-1])) == 20
        batches.on_epoch_end()
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(np.concatenate([twin[i][1] for i in range(4)]), epochs[1])
    other = EpochShuffle(split(23), 5, seed=4)
    assert (np.concatenate([other[i][1] for i in range(4)]) != epochs[0]).any()


def test_progress_reaches_a_log_at_once(monkeypatch):
    log, clock = io.BytesIO(), types.SimpleNamespace(now=1e9)
    clock.time = lambda: clock.now
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(log))
    line = progress.ProgressLine()
    line.set_params({"epochs": 2, "steps": 4})
    line.on_train_begin()
    lines = []
    for epoch in range(2):
        line.on_epoch_begin(epoch)
        for batch in range(4):
            clock.now += 25
            line.on_train_batch_end(batch, {"loss": 1.0})
            lines.append(log.getvalue().count(b"\n"))
        line.on_epoch_end(epoch, {"loss": 1.0})
    assert lines == [1, 1, 1, 2, 3, 3, 4, 4]
    assert log.getvalue().endswith(b"epoch 2/2  100%  loss 1.0000  0:00:00 left\n")


def test_held_out_examples_are_a_fixed_part():
    rest, held = arrays.hold_out(split(50), 0.2, seed=0)
    assert (len(rest), len(held)) == (40, 10)
    assert sorted([*rest.labels, *held.labels]) == list(range(50))
    np.testing.assert_array_equal(held.labels, arrays.hold_out(split(50), 0.2, seed=0)[1].labels)
    np.testing.assert_array_equal(held.images[:, 0, 0, 0], held.labels)
    assert (arrays.hold_out(split(50), 0.2, seed=1)[1].labels != held.labels).any()
    assert [len(part) for part in arrays.hold_out(split(50), 0.0, seed=0)] == [50, 0]


def test_npz_data(data_dir):
    training, test = (arrays.load("cifar10", part, data_dir) for part in ("train", "test"))
    assert training.images.shape == (96, 32, 32, 3) and training.images.dtype == np.uint8
    assert test.labels.shape == (40,) and test.labels.dtype == np.int32
    assert arrays.load("cifar10", "test", str(data_dir)).labels[3] == 3


def test_npz_data_without_a_channel_axis(tmp_path):
    np.savez(
        tmp_path / "mnist.npz", x_train=np.ones((3, 28, 28), "uint8"), y_train=np.ones((3, 1), "uint8")
    )
    loaded = arrays.load("mnist", "train", tmp_path)
    assert loaded.images.shape == (3, 28, 28, 1) and loaded.labels.shape == (3,)


def test_data_that_is_not_there(tmp_path, data_dir, raises_line):
    np.savez(tmp_path / "cifar100.npz", x_test=np.ones((1, 2, 2, 3), "uint8"), y_test=[1])
    with raises_line(FileNotFoundError, "cifar100.npz.*train"):
        arrays.load("cifar100", "train", tmp_path)
    with raises_line(FileNotFoundError, "no mnist in .*npz"):
        arrays.load("mnist", "train", data_dir)


def test_recipes_are_equal_for_all_methods():
    names = ("single", "packed")
    pair = [dataclasses.asdict(recipes.recipe(f"cifar10_{m}_resnet18")) for m in names]
    assert [r.pop("method") for r in pair] == list(names)
    assert pair[0] == pair[1]
    assert (pair[0]["dataset"], pair[0]["backbone"]) == ("cifar10", "resnet18")


@pytest.mark.parametrize("name", ["", "cifar10", "cifar10_packed_vgg", "svhn_packed_resnet18"])
def test_unknown_recipes_list_those_there_are(name, raises_line):
    with raises_line(ValueError, f"'{name}'.*cifar10_METHOD_resnet20"):
        recipes.recipe(name)


def test_weight_decay_is_on_kernels_alone():
    recipe = recipes.recipe("cifar10_packed_resnet20")
    model = from_recipe.model_of(recipe, (8, 8, 3), 10)
    optimizer = from_recipe.optimizer(recipe, model, from_recipe.learning_rate(recipe, 10))
    optimizer.build(model.trainable_variables)
    decayed = [v for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    assert {id(v) for v in decayed} == {id(v) for v in kernels}


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"batch_size": 1000}, "batch_size=1000.*96"),
        ({"method": "swag"}, "swag.*packed"),
        ({"schedule": "square"}, "schedule.*square"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_recipes_that_cannot_run(options, pattern, data_dir, tmp_path, raises_line):
    recipe = dataclasses.replace(recipes.recipe("cifar10_packed_lenet"), **{"batch_size": 8, **options})
    with raises_line(ValueError, pattern):
        run.train(recipe, data_dir, tmp_path)


def test_training_leaves_keras_as_it_was(data_dir, tmp_path):
    recipe = dataclasses.replace(
        recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=8, precision="mixed_bfloat16"
    )
    run.train(recipe, data_dir, tmp_path)
    assert keras.config.dtype_policy().name == "float32"


def test_a_limited_run_has_all_classes(data_dir, tmp_path):
    recipe = dataclasses.replace(recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=4)
    config = run.train(recipe, data_dir, tmp_path, limit=8)
    assert config["spec"]["num_classes"] == 10
    assert config["steps_per_epoch"] == 2
