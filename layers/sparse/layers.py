"""Layers with sparse kernels: a mask of the connections that exist, kept as a weight."""

import contextvars
import math
import random

import keras
import numpy as np
from keras import ops

from zoo.layers.packed import PackedConv1D, PackedConv2D, PackedDense
from zoo.layers.sparse import block_masks
from zoo.layers.sparse.densities import check_sparsity
from zoo.layers.tiling import SavesAllVariables

# The layer that is computing just now in this thread, and so sees its kernel masked.
_computing = contextvars.ContextVar("computing", default=None)


def random_mask(shape, nonzeros, seed=0):
    """A boolean mask with exactly `nonzeros` ones at random places, the same for the same arguments."""
    if nonzeros == math.prod(shape):
        return np.ones(shape, bool)
    mask = np.zeros(math.prod(shape), bool)
    chosen = np.random.default_rng(seed).choice(mask.size, nonzeros, replace=False, shuffle=False)
    mask[chosen] = True
    return mask.reshape(shape)


def all_layers(model):
    """A model (or layer) and all layers inside it, each once, in the order of the model."""
    found, waiting = {}, [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            waiting.extend(reversed(layer._layers))
    return list(found.values())


def sparse_layers(model):
    """The sparse layers of a model, each once, in its order."""
    return [layer for layer in all_layers(model) if isinstance(layer, Sparse)]


class _OfExisting(keras.regularizers.Regularizer):
    """A regulariser of a sparse layer's kernel under its mask: |w| pulls at a zero, too, on JAX."""

    def __init__(self, regularizer, layer):
        self.regularizer, self.layer = regularizer, layer

    def __call__(self, kernel):
        kernel = ops.convert_to_tensor(kernel)
        return self.regularizer(ops.multiply(kernel, ops.cast(self.layer.mask, kernel.dtype)))

    def get_config(self):
        return self.regularizer.get_config()


class Sparse(SavesAllVariables):
    """What sparse layers share: `mask`, boolean and not trained.  A mix-in before a layer with a kernel.

    The layer computes with kernel * mask, so that connections that do not exist get a gradient of
    exactly zero; they begin as zeros and stay so under any optimiser whose slots begin as zeros.

    Args:
        sparsity: S in [0, 1): round(S * size of the kernel) weights are masked, at random places.
        seed: of those places; None draws one.
    """

    block_shape = None

    def __init__(self, *args, sparsity=0.0, seed=None, **kwargs):
        super().__init__(*args, **kwargs)
        check_sparsity(sparsity)
        self.sparsity = sparsity
        self.seed = random.randrange(2**31) if seed is None else seed  # as Keras's own initialisers

    def add_weight(self, *args, name=None, initializer=None, regularizer=None, **kwargs):
        if name == "kernel":
            initializer = self._masked(keras.initializers.get(initializer or "glorot_uniform"))
            regularizer = regularizer and _OfExisting(keras.regularizers.get(regularizer), self)
        return super().add_weight(
            *args, name=name, initializer=initializer, regularizer=regularizer, **kwargs
        )

    def build(self, input_shape):
        super().build(input_shape)
        self.mask = self.add_weight(
            name="mask", shape=self._kernel.shape, dtype="bool", trainable=False, autocast=False,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(self._draw(shape)),
        )  # fmt: skip

    def _draw(self, shape):
        grid = block_masks.grid(shape, self.block_shape, self.name)
        size = math.prod(grid)
        drawn = random_mask(grid, max(1, size - round(self.sparsity * size)), self.seed)
        return block_masks.spread(drawn, self.block_shape)

    def _masked(self, initializer):
        def masked(shape, dtype=None):
            values = initializer(shape, dtype=dtype)
            return values * ops.cast(ops.convert_to_tensor(self._draw(shape)), values.dtype)

        return masked

    @property
    def kernel(self):
        """The variable that is trained; while the layer computes, what is left of it under the mask."""
        if _computing.get() is self:
            return ops.multiply(self._kernel, ops.cast(self.mask, self._kernel.dtype))
        return self._kernel

    @kernel.setter
    def kernel(self, value):
        self._kernel = value

    def call(self, inputs):
        token = _computing.set(self)
        try:
            return super().call(inputs)
        finally:
            _computing.reset(token)

    def get_config(self):
        return {**super().get_config(), "sparsity": self.sparsity, "seed": self.seed}


@keras.saving.register_keras_serializable(package="zoo")
class SparseDense(Sparse, keras.layers.Dense):
    """Dense layer of which a share of the connections exists: y = activation(x @ (kernel * mask) + bias).

    Args:
        units: F.
        sparsity: S in [0, 1), by name: the share of connections that do not exist.  Which ones is drawn
            at random, with the exact count; those that exist are initialised as in a dense layer.
        seed: of the draw; None takes a new one.
        block_shape: (outputs, inputs) of blocks of weights that exist together or not at all; None masks
            each weight by itself.  LiteRT computes blocks of (1, 4) faster than a dense kernel
            (`zoo.export`), everything else at the dense one's speed.
        kwargs: as in `keras.layers.Dense`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer; assign to it to
            change the connections (see `zoo.layers.TopologyUpdates`).

    Input shape: (B, ..., C).
    Output shape: (B, ..., F).

    Raises:
        ValueError: for a sparsity outside [0, 1), or blocks that do not divide the kernel.

    Reference: Mocanu et al., Scalable Training of ANNs with Adaptive Sparse Connectivity, 2018, arXiv
        1707.04780; masked in the forward pass as Evci et al., Rigging the Lottery, ICML 2020, arXiv
        1911.11134.
    """

    def __init__(self, *args, block_shape=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.block_shape = block_masks.checked(block_shape)

    def build(self, input_shape):
        block_masks.grid((input_shape[-1], self.units), self.block_shape, self.name)
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "block_shape": self.block_shape}


@keras.saving.register_keras_serializable(package="zoo")
class SparseConv2D(Sparse, keras.layers.Conv2D):
    """2-D convolution of which a share of the kernel's weights exists: `SparseDense` over positions.

    Args:
        filters, kernel_size: as in `keras.layers.Conv2D`.
        sparsity, seed: as in `SparseDense`.
        kwargs: as in `keras.layers.Conv2D`.

    Attributes, errors and references are `SparseDense`'s.

    Input shape: (B, H, W, C).
    Output shape: (B, H', W', filters).
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparseDepthwiseConv2D(Sparse, keras.layers.DepthwiseConv2D):
    """Depthwise 2-D convolution of which a share of the kernel's weights exists.

    Args:
        kernel_size: as in `keras.layers.DepthwiseConv2D`.
        sparsity, seed: as in `SparseDense`.
        kwargs: as in `keras.layers.DepthwiseConv2D`.

    Attributes, errors and references are `SparseDense`'s.

    Input shape: (B, H, W, C).
    Output shape: (B, H', W', C * depth_multiplier).
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedDense(Sparse, PackedDense):
    """`PackedDense` of which a share of the kernel's weights exists.

    Args:
        sparsity, seed: as in `SparseDense`.
        args, kwargs: as in `PackedDense`, which also has the shapes.

    Attributes and errors are those of `SparseDense` and `PackedDense`.
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedConv2D(Sparse, PackedConv2D):
    """`PackedConv2D` of which a share of the kernel's weights exists; arguments as `SparsePackedDense`."""


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedConv1D(Sparse, PackedConv1D):
    """`PackedConv1D` of which a share of the kernel's weights exists; arguments as `SparsePackedDense`."""
