"""Gradients of a loss by all weights of sparse kernels, masked ones too, on any backend."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from zoo.layers.sparse.layers import sparse_layers


def dense_gradients(model: keras.Model) -> Callable[[Any, Any], list]:
    """Return a function for the gradients by which RigL grows connections: dL/dW without masks.

    For W = kernel * mask of each sparse layer it computes the gradient of the model's training loss with
    respect to all of W. Nothing in the model changes: no weights, moving statistics or random states.

    Args:
        model: compiled, built `keras.Model` with sparse layers.

    Returns:
        A function of a batch (x, y) that returns a list of NumPy arrays, one per sparse layer, in the
        order of `sparse_layers(model)`. It is compiled once and may be called again after weights or
        masks change.

    Raises:
        ValueError: for a model without sparse layers, or a backend without gradients.

    References:
        Evci et al., Rigging the Lottery, ICML 2020, arXiv 1911.11134, section 3.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), zoo.layers.SparseDense(3, sparsity=0.5)])
        >>> model.compile("sgd", "mse")
        >>> gradients = zoo.layers.dense_gradients(model)
        >>> [gradient.shape for gradient in gradients(np.ones((4, 8)), np.zeros((4, 3)))]
        [(8, 3)]
    """
    layers = sparse_layers(model)
    backend = keras.backend.backend()
    if not layers:
        raise ValueError(f"{model.name} has no sparse layers; make some by zoo.layers.sparsify")
    if backend not in _COMPILED:
        raise ValueError(f"the {backend} backend has no gradients to grow connections by")

    def loss(kernels, others, x, y):
        present = [(layer.kernel, kernel) for layer, kernel in zip(layers, kernels)]
        present += [(layer.mask, ops.ones(layer.mask.shape, "bool")) for layer in layers]
        with keras.StatelessScope([*others, *present]):
            answer = model(x, training=True)
            value = model.compute_loss(x=x, y=y, y_pred=answer, sample_weight=None, training=True)
            optimizer = model.optimizer  # scales the loss where half precision would lose it
            return value if optimizer is None else optimizer.scale_loss(value)

    gradients = _COMPILED[backend](loss, model)

    def of_batch(x, y):
        tensors = keras.tree.map_structure(ops.convert_to_tensor, (x, y))
        kernels = [ops.multiply(x.kernel, ops.cast(x.mask, x.kernel.dtype)) for x in layers]
        return [ops.convert_to_numpy(g) for g in gradients(kernels, *tensors)]

    return of_batch


def _tensorflow(loss, model):
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def gradients(kernels, x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            value = loss(kernels, [], x, y)
        return tape.gradient(value, kernels)

    return gradients


def _jax(loss, model):
    import jax

    variables = model.variables  # their values are arguments, or they would be constants once traced

    @jax.jit
    def gradients(kernels, values, x, y):
        return jax.grad(loss)(kernels, list(zip(variables, values)), x, y)

    return lambda kernels, x, y: gradients(kernels, [v.value for v in variables], x, y)


def _torch(loss, model):
    import torch

    def gradients(kernels, x, y):
        with torch.enable_grad():
            kernels = [kernel.detach().requires_grad_() for kernel in kernels]
            return torch.autograd.grad(loss(kernels, [], x, y), kernels)

    return gradients


_COMPILED = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
