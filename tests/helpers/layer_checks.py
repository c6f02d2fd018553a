"""Checks that every layer goes through."""

import json

import keras
import numpy as np
import pytest


def _shapes(value):
    """Shapes of one array or a list of them, with a free batch."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [(None, *v.shape[1:]) for v in values]


def _arrays(value):
    values = value if isinstance(value, (list, tuple)) else [value]
    return [keras.ops.convert_to_numpy(v).astype("float32") for v in values]


def check_layer(make, inputs, tmp_path):
    """Put a layer through everything that a Keras layer must stand.

    `make()` gives the layer; `inputs` is its input for a batch of five.
    """
    shapes = keras.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs)
    symbols = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:]), inputs)

    layer = make()
    symbolic = layer(symbols)
    model = keras.Model(symbols, symbolic)
    outputs = _arrays(layer(inputs))

    promised = make().compute_output_shape(shapes)
    promised = promised if isinstance(promised, list) else [promised]
    assert [tuple(shape) for shape in promised] == _shapes(outputs) == _shapes(symbolic)
    for part in (1, 5):
        few = layer(keras.tree.map_structure(lambda x, part=part: x[:part], inputs))
        for y, whole in zip(_arrays(few), outputs, strict=True):
            np.testing.assert_allclose(y, whole[:part], atol=1e-5)

    config = json.loads(json.dumps(layer.get_config()))
    twin = type(layer).from_config(config)
    assert json.loads(json.dumps(twin.get_config())) == json.loads(json.dumps(layer.get_config()))

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for y, expected in zip(_arrays(loaded(inputs)), outputs, strict=True):
        np.testing.assert_array_equal(y, expected)

    keras.config.set_dtype_policy("mixed_float16")
    half = make()
    given = half(inputs)
    kinds = {keras.backend.standardize_dtype(y.dtype) for y in keras.tree.flatten(given)}
    assert kinds == {"float16"}
    half.set_weights(layer.get_weights())
    for y, expected in zip(_arrays(half(inputs)), outputs, strict=True):
        np.testing.assert_allclose(y, expected, atol=0.03, rtol=0.03)


def _gradients(layer, x, share, options):
    """Gradients of sum(layer(x) * share) by x and by each trainable variable, on any backend."""
    variables = layer.trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        def total(x, values):
            fixed = [v.value for v in layer.non_trainable_variables]
            y, _ = layer.stateless_call(values, fixed, x, **options)
            return keras.ops.sum(y * share)

        by_x, by_variables = jax.grad(total, argnums=(0, 1))(
            keras.ops.array(x), [v.value for v in variables]
        )
        return [by_x, *by_variables]
    if keras.backend.backend() == "torch":
        import torch

        x = torch.tensor(x, requires_grad=True)
        total = keras.ops.sum(layer(x, **options) * keras.ops.array(share))
        return torch.autograd.grad(total, [x, *(v.value for v in variables)])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        x = tf.Variable(x)
        total = keras.ops.sum(layer(x, **options) * share)
    return [tf.convert_to_tensor(g) for g in tape.gradient(total, [x, *(v.value for v in variables)])]


def check_formula(layer, x, formula, **options):
    """Compare a layer with `formula(x, weights)`, plain NumPy of weights by name, and its gradients.

    Gradients, by the inputs and by every trainable variable, are compared along random directions with
    the formula's central differences.
    """
    rng = np.random.default_rng(9)
    if not layer.built:
        layer.build(x.shape)
    weights = {w.name: keras.ops.convert_to_numpy(w).astype("float64") for w in layer.weights}
    arrays = [x.astype("float64"), *(weights[v.name] for v in layer.trainable_variables)]
    expected = formula(arrays[0], weights)
    share = rng.normal(size=expected.shape).astype("float32")
    gradients = _gradients(layer, x, share, options)
    for array, gradient in zip(arrays, gradients, strict=True):
        for _ in range(4):
            direction = rng.normal(size=array.shape)
            change = 0
            for step in (1e-5, -1e-5):
                array += step * direction
                change += (formula(arrays[0], weights) * share).sum() / (2 * step)
                array -= step * direction
            assert (_arrays(gradient)[0] * direction).sum() == pytest.approx(change, 1e-3, 1e-3)
    given = _arrays(layer(x, **options))[0]
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
