"""Layers with sparse kernels: a mask of the connections that exist, kept as a weight."""

import contextvars
import math
import random
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.nested_layers import all_layers
from zoo.layers.packed import PackedDense
from zoo.layers.packed_convolutions import PackedConv1D, PackedConv2D
from zoo.layers.sparse import block_masks
from zoo.layers.sparse.densities import check_sparsity
from zoo.layers.tiling import SavesAllVariables

# The layer that is computing just now in this thread, and so sees its kernel masked.
_computing: contextvars.ContextVar[Any] = contextvars.ContextVar("computing", default=None)


def random_mask(shape: tuple[int, ...], nonzeros: int, seed: int = 0) -> np.ndarray:
    """A random boolean mask with an exact number of ones, the same for the same arguments.

    Args:
        shape: tuple of int.
        nonzeros: int, the number of ones.
        seed: int. Default: 0.

    Returns:
        Boolean array of that shape.
    """
    if nonzeros == math.prod(shape):
        return np.ones(shape, bool)
    mask = np.zeros(math.prod(shape), bool)
    chosen = np.random.default_rng(seed).choice(mask.size, nonzeros, replace=False, shuffle=False)
    mask[chosen] = True
    return mask.reshape(shape)


def sparse_layers(model: keras.layers.Layer) -> list:
    """The sparse layers of a model, each once, in the order of the model.

    Args:
        model: `keras.Model`.

    Returns:
        List of sparse layers, which have a `kernel` and a `mask`.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(4), zoo.layers.SparseDense(3)])
        >>> [layer.units for layer in zoo.layers.sparse_layers(model)]
        [3]
    """
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
    """What sparse layers share: `mask`, boolean and not trained. A mix-in before a layer with a kernel.

    The layer computes with kernel * mask, so that connections that do not exist have a gradient of
    exactly zero. They begin as zeros and stay zeros under every optimiser whose slots begin as zeros.

    Args:
        args: arguments of the layer class that is mixed in, by position.
        sparsity: float S in [0, 1); round(S * size of the kernel) weights at random places do not exist.
            Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: other arguments of the layer class.

    Raises:
        ValueError: for a sparsity outside [0, 1).
    """

    block_shape = None
    scaled_outputs = None  # folding is for ordinary layers: `densify` comes first

    def __init__(
        self, *args: Any, sparsity: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        check_sparsity(sparsity)
        self.sparsity = sparsity
        self.seed = random.randrange(2**31) if seed is None else seed  # as Keras's own initialisers

    def add_weight(
        self,
        *args: Any,
        name: str | None = None,
        initializer: Any = None,
        regularizer: Any = None,
        **kwargs: Any,
    ) -> Any:
        if name != "kernel":
            return super().add_weight(
                *args, name=name, initializer=initializer, regularizer=regularizer, **kwargs
            )
        initializer = self._masked(keras.initializers.get(initializer or "glorot_uniform"))
        regularizer = regularizer and _OfExisting(keras.regularizers.get(regularizer), self)
        # Kept here, because Keras's layers keep it as `kernel` or in private attributes.
        self.trained_kernel = super().add_weight(
            *args, name=name, initializer=initializer, regularizer=regularizer, **kwargs
        )
        return self.trained_kernel

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.mask = self.add_weight(
            name="mask", shape=self.trained_kernel.shape, dtype="bool", trainable=False, autocast=False,
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
    def kernel(self) -> Any:
        """The variable that is trained; while the layer computes, what is left of it under the mask."""
        if _computing.get() is self:
            mask = ops.cast(self.mask, self.trained_kernel.dtype)
            return ops.multiply(self.trained_kernel, mask)
        return self.trained_kernel

    @kernel.setter
    def kernel(self, value: Any) -> None:
        self.trained_kernel = value

    def call(self, inputs: Any) -> Any:
        token = _computing.set(self)
        try:
            return super().call(inputs)
        finally:
            _computing.reset(token)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sparsity": self.sparsity, "seed": self.seed}


@keras.saving.register_keras_serializable(package="zoo")
class SparseDense(Sparse, keras.layers.Dense):
    """Dense layer with a share of its connections: y = activation(x @ (kernel * mask) + bias).

    Args:
        args: units, as in `keras.layers.Dense`.
        sparsity: float S in [0, 1), the share of connections that do not exist. Which ones is drawn at
            random, with the exact count; those that exist are initialised as in a dense layer. Default:
            0.0.
        seed: int, seed of that draw, or None to draw one. Default: None.
        block_shape: (outputs, inputs) of blocks of weights that exist together or not at all; None masks
            each weight by itself. LiteRT computes blocks of (1, 4) faster than a dense kernel
            (`zoo.export`); elsewhere blocks are as fast as a dense layer. Default: None.
        kwargs: activation, use_bias and so on, as in `keras.layers.Dense`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer. Assign to it to
            change the connections (see `zoo.layers.TopologyUpdates`).

    Input shape: (B, ..., C).
    Output shape: (B, ..., F), F being the units.

    Raises:
        ValueError: for a sparsity outside [0, 1), or blocks that do not divide the kernel.

    References:
        Mocanu et al., Scalable Training of ANNs with Adaptive Sparse Connectivity, 2018, arXiv
        1707.04780; masked in the forward pass as in Evci et al., Rigging the Lottery, ICML 2020, arXiv
        1911.11134.

    Example:
        >>> layer = zoo.layers.SparseDense(10, sparsity=0.75)
        >>> tuple(layer(np.ones((2, 8))).shape)
        (2, 10)
        >>> int(keras.ops.convert_to_numpy(layer.mask).sum())
        20
    """

    def __init__(self, *args: Any, block_shape: tuple[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.block_shape = block_masks.checked(block_shape)

    def build(self, input_shape: Any) -> None:
        block_masks.grid((input_shape[-1], self.units), self.block_shape, self.name)
        super().build(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block_shape": self.block_shape}


@keras.saving.register_keras_serializable(package="zoo")
class SparseConv2D(Sparse, keras.layers.Conv2D):
    """2-D convolution of which a share of the kernel's weights exists: `SparseDense` over positions.

    Args:
        args: filters and kernel_size, as in `keras.layers.Conv2D`.
        sparsity: float S in [0, 1), the share of weights that do not exist. Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: strides, padding, activation and so on, as in `keras.layers.Conv2D`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer.

    Input shape: (B, H, W, C).
    Output shape: (B, H', W', filters).

    Raises:
        ValueError: for a sparsity outside [0, 1).

    References:
        Mocanu et al., 2018, arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134.

    Example:
        >>> layer = zoo.layers.SparseConv2D(16, 3, sparsity=0.75)
        >>> tuple(layer(np.ones((1, 8, 8, 4))).shape)
        (1, 6, 6, 16)
        >>> int(keras.ops.convert_to_numpy(layer.mask).sum())
        144
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparseDepthwiseConv2D(Sparse, keras.layers.DepthwiseConv2D):
    """Depthwise 2-D convolution of which a share of the kernel's weights exists.

    Args:
        args: kernel_size, as in `keras.layers.DepthwiseConv2D`.
        sparsity: float S in [0, 1), the share of weights that do not exist. Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: strides, padding, depth_multiplier and so on, as in `keras.layers.DepthwiseConv2D`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer.

    Input shape: (B, H, W, C).
    Output shape: (B, H', W', C * depth_multiplier).

    Raises:
        ValueError: for a sparsity outside [0, 1).

    References:
        Mocanu et al., 2018, arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134.

    Example:
        >>> layer = zoo.layers.SparseDepthwiseConv2D(3, sparsity=0.5)
        >>> tuple(layer(np.ones((1, 8, 8, 4))).shape)
        (1, 6, 6, 4)
        >>> int(keras.ops.convert_to_numpy(layer.mask).sum())
        18
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedDense(Sparse, PackedDense):
    """`PackedDense` of which a share of the kernel's weights exists.

    Args:
        args: units, num_members, alpha and gamma, see `PackedDense`.
        sparsity: float S in [0, 1), the share of weights that do not exist. Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: role, activation and so on, see `PackedDense`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer.

    Input shape: see `PackedDense`.
    Output shape: see `PackedDense`.

    Raises:
        ValueError: for a sparsity outside [0, 1), and see `PackedDense`.

    References:
        Mocanu et al., 2018, arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134.

    Example:
        >>> layer = zoo.layers.SparsePackedDense(16, num_members=2, alpha=2, sparsity=0.5)
        >>> tuple(layer(np.ones((1, 32))).shape), tuple(layer.mask.shape)
        ((1, 32), (2, 16, 16))
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedConv2D(Sparse, PackedConv2D):
    """`PackedConv2D` of which a share of the kernel's weights exists.

    Args:
        args: filters, kernel_size, num_members, alpha and gamma, see `PackedConv2D`.
        sparsity: float S in [0, 1), the share of weights that do not exist. Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: role, strides, padding and so on, see `PackedConv2D`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer.

    Input shape: see `PackedConv2D`.
    Output shape: see `PackedConv2D`.

    Raises:
        ValueError: for a sparsity outside [0, 1), and see `PackedConv2D`.

    References:
        Mocanu et al., 2018, arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134.

    Example:
        >>> layer = zoo.layers.SparsePackedConv2D(16, 3, num_members=2, alpha=2, sparsity=0.5)
        >>> tuple(layer(np.ones((1, 8, 8, 32))).shape), tuple(layer.mask.shape)
        ((1, 6, 6, 32), (2, 3, 3, 16, 16))
    """


@keras.saving.register_keras_serializable(package="zoo")
class SparsePackedConv1D(Sparse, PackedConv1D):
    """`PackedConv1D` of which a share of the kernel's weights exists.

    Args:
        args: filters, kernel_size, num_members, alpha and gamma, see `PackedConv1D`.
        sparsity: float S in [0, 1), the share of weights that do not exist. Default: 0.0.
        seed: int, seed of the mask, or None to draw one. Default: None.
        kwargs: role, strides, padding and so on, see `PackedConv1D`.

    Attributes:
        mask: boolean variable of the kernel's shape, not trained, saved with the layer.

    Input shape: see `PackedConv1D`.
    Output shape: see `PackedConv1D`.

    Raises:
        ValueError: for a sparsity outside [0, 1), and see `PackedConv1D`.

    References:
        Mocanu et al., 2018, arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134.

    Example:
        >>> layer = zoo.layers.SparsePackedConv1D(16, 3, num_members=2, alpha=2, sparsity=0.5)
        >>> tuple(layer(np.ones((1, 8, 32))).shape), tuple(layer.mask.shape)
        ((1, 6, 32), (2, 3, 16, 16))
    """
