"""Gradient checkpointing under TensorFlow's strategies and XLA, in processes of their own."""

import json

import pytest

SAME = """
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo.backbones import BACKBONES, resnet
from zoo.training.memory.rematerialize import rematerialize

strategy, jit, methods = json.loads(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def blocks(method, images, stem=None):
    return resnet._resnet(method, images, "cifar", resnet._basic, (4, 8), (1, 1))


blocks.stages, BACKBONES["blocks"] = 2, blocks
# One for all: a second one in a process reuses the keys of the first one's collective operations.
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if strategy else tf.distribute.get_strategy()
rng = np.random.default_rng(3)
images, labels = rng.integers(0, 256, (24, 8, 8, 3), "uint8"), np.arange(24) % 3


def trained(method, again):
    keras.utils.set_random_seed(5)
    with scope.scope():
        model = zoo.build(getattr(zoo.methods, method)(2), "blocks", 3, (8, 8, 3))
        network = rematerialize(model.network) if again else model.network
        student = zoo.EnsembleClassifier(network, member_loss=model.member_loss)
        student.compile(keras.optimizers.SGD(0.02, 0.9), model.loss, jit_compile=jit)
    student.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    return [np.asarray(variable.value) for variable in model.network.variables]


for method in methods:
    for plain, remat in zip(trained(method, False), trained(method, True), strict=True):
        np.testing.assert_allclose(remat, plain, atol=1e-6, rtol=1e-6, err_msg=method)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "jit", "methods"),
    [(True, False, ["BatchEnsemble", "MCDropout"]), (False, True, ["Packed"])],
    ids=["mirrored", "xla"],
)
def test_training_is_the_same(strategy, jit, methods, forked_python):
    forked_python("-c", SAME, json.dumps([strategy, jit, methods]), KERAS_BACKEND="tensorflow")
