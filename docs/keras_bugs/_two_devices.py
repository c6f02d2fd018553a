"""A small model under MirroredStrategy on two logical CPU devices."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def strategy():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def model(scope, steps_per_execution=1, **options):
    keras.utils.set_random_seed(0)
    with scope:
        inputs = keras.Input((4,))
        network = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        optimizer = keras.optimizers.SGD(0.1, **options)
        network.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    return network


def report(work):
    """Exit with 1 and the error where `work` fails, with 0 where it does not."""
    try:
        work()
    except Exception as error:
        print(f"fails: {type(error).__name__}: {str(error).strip()}")
        raise SystemExit(1) from None
    print("works")
