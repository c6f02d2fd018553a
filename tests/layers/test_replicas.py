"""Layers under a strategy of two replicas: statistics of the whole batch, and draws that are one device's or differ."""

import numpy as np
import pytest

ON_TWO_DEVICES = """
import sys
import keras
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

from zoo import layers
from zoo.training.loop.augmentation import RandomShiftFlip

def per_replica(values):
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )

def calls(make, batches, repeat=1):
    '''What a layer gives for the halves of a batch on two replicas, joined: (calls, rows, ...).'''
    with strategy.scope():
        layer = make()
        layer.build(batches.shape)
    run = tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), args=(x,)))
    halves = per_replica([tf.constant(half) for half in np.split(batches, 2)])
    results = []
    for _ in range(repeat):
        outputs = keras.tree.map_structure(strategy.experimental_local_results, run(halves))
        results.append(outputs)
    return results, layer

def one_device(make, batches, repeat=1):
    layer = make()
    return [layer(tf.constant(batches), training=True) for _ in range(repeat)], layer

rng = np.random.default_rng(0)
found = {}

x = rng.normal(3, 2, (8, 4, 4, 6)).astype("float32")
x[:4] += 5  # the halves differ
for name, make in {
    "norm": lambda: layers.BatchNormalization(momentum=0.5),
    "norm_members": lambda: layers.PerMemberBatchNormalization(1, momentum=0.5),
}.items():
    results, layer = calls(make, x, 2)
    alone, twin = one_device(make, x, 2)
    found[name] = np.concatenate([part.numpy() for part in results[-1]])
    found[name + "_one"] = alone[-1].numpy()
    found[name + "_moved"] = np.concatenate([np.ravel(v) for v in (layer.moving_mean, layer.moving_variance)])
    found[name + "_moved_one"] = np.concatenate([np.ravel(v) for v in (twin.moving_mean, twin.moving_variance)])

images = rng.uniform(0, 255, (8, 6, 6, 1)).astype("float32")
make = lambda: RandomShiftFlip(2, True, seed=4)
found["augmented"] = np.stack([np.concatenate(parts) for parts in calls(make, images, 3)[0]])
found["augmented_one"] = np.stack([part.numpy() for part in one_device(make, images, 3)[0]])

rows = np.arange(24, dtype="float32").reshape(24, 1)
for name, repetition in (("mimo", 0.0), ("mimo_half", 0.5)):
    make = lambda: layers.MIMOExpand(3, input_repetition_probability=repetition, seed=1)
    results, _ = calls(make, rows, 300)
    found[name] = np.array([[part.numpy() for part in seen] for _, seen in results])  # (calls, 2, 12, 3)
    found[name + "_images"] = np.array([[part.numpy() for part in images] for images, _ in results])

ones = np.ones((64, 50), "float32")
results, _ = calls(lambda: layers.MonteCarloDropout(0.3, 2, seed=2), ones, 20)
found["dropout"] = np.array([[part.numpy() for part in parts] for parts in results])  # (calls, 2, 32, 50)
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def found(forked_python, tmp_path_factory):
    path = tmp_path_factory.mktemp("replicas") / "found.npz"
    forked_python("-c", ON_TWO_DEVICES, path, KERAS_BACKEND="tensorflow")
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norm", "norm_members"])
def test_statistics_are_those_of_the_whole_batch(found, name):
    np.testing.assert_allclose(found[name], found[f"{name}_one"], atol=2e-6)
    np.testing.assert_allclose(found[f"{name}_moved"], found[f"{name}_moved_one"], rtol=1e-6)
    assert abs(found[name].mean()) < 1e-5 < abs(found[name][:4].mean())


@pytest.mark.slow
def test_augmentation_is_that_of_one_device(found):
    np.testing.assert_array_equal(found["augmented"], found["augmented_one"])
    assert (found["augmented"][0] != found["augmented"][1]).any()


@pytest.mark.slow
def test_mimo_shuffles_each_replica_s_rows_by_itself(found):
    """What one device does to its batch each replica does to its part; the images are not exchanged."""
    rows, images = found["mimo"], found["mimo_images"]
    assert rows.shape == (300, 2, 12, 3)
    assert (np.sort(rows, axis=2) == np.arange(12)[:, None]).all()  # every image once for every member
    offset = np.array([0, 12])[:, None, None]
    np.testing.assert_array_equal(images, rows + offset)  # of its own part
    same = (rows[:, 0] == rows[:, 1]).all(axis=(1, 2))
    assert not same.any()
    for member in range(3):
        for replica in range(2):
            # Where the first image goes is uniform over 12 rows: chi-square with 11 degrees of freedom.
            places = np.argmax(rows[:, replica, :, member] == 0, axis=1)
            counts = np.bincount(places, minlength=12)
            assert ((counts - 25) ** 2 / 25).sum() < 31.3  # 0.001 of draws are above
    pairs = (rows[..., 0] == rows[..., 1]).mean()
    assert pairs == pytest.approx(1 / 12, abs=0.02)  # members see one image by chance alone


@pytest.mark.slow
def test_mimo_repeats_the_share_of_images_it_is_told_to(found):
    rows = found["mimo_half"]
    together = (rows == rows[..., :1]).all(axis=-1)
    assert together[:, :, 6:].all()  # half of the rows show one image to all members
    assert together[:, :, :6].mean() < 0.2


@pytest.mark.slow
def test_dropout_differs_between_replicas(found):
    kept = found["dropout"] > 0
    assert kept.mean() == pytest.approx(0.7, abs=0.01)
    agree = (kept[:, 0] == kept[:, 1]).mean()
    assert agree == pytest.approx(0.7**2 + 0.3**2, abs=0.02)  # as of independent draws
    assert (kept[0] != kept[1]).any()
