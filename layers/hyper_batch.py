"""Hyper-batch-ensemble layers (Wenzel et al., NeurIPS 2020, arXiv 2006.13570).

A BatchEnsemble whose weights are a function of hyperparameters, so that one training covers a range of
them: kernel + e(hyperparameters) * delta_kernel, output channel by output channel.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.batch_ensemble import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    _FastWeights,
    factors_of,
    over_kernel,
)
from zoo.layers.hyperparameters import LogUniformHyperparameters, check_ranges
from zoo.layers.tiling import assignment, member_by_member, per_row


class _HyperBatchEnsemble(_FastWeights):
    """What the dense layer and the convolution share; before `BatchEnsembleDense` or `...Conv2D`."""

    kernel_passes = 2

    def __init__(
        self, *size: Any, ranges: Sequence[Sequence[float]], l2_index: int | None = None,
        bias_l2_index: int | None = None, tie_fast_weights: bool = True, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*size, **kwargs)
        check_ranges(ranges)
        self.ranges = [[float(low), float(high)] for low, high in ranges]
        for index in (l2_index, bias_l2_index):
            if index is not None and not (
                isinstance(index, numbers.Integral) and 0 <= index < len(self.ranges)
            ):
                raise ValueError(
                    f"there are {len(self.ranges)} hyperparameters, and none has index {index!r}: see "
                    "l2_index and bias_l2_index"
                )
        self.l2_index, self.bias_l2_index = (
            index if index is None else int(index) for index in (l2_index, bias_l2_index)
        )
        self.tie_fast_weights = tie_fast_weights
        self.input_spec = None  # Keras's allows no hyperparameters

    def build(self, input_shape):
        features, hyperparameters = input_shape
        if hyperparameters[-1] != len(self.ranges):
            raise ValueError(
                f"{hyperparameters[-1]} hyperparameters were given for {len(self.ranges)} ranges"
            )
        super().build(features)
        self.input_spec = None
        outputs = self._outputs(features[-1])
        initializer = self.kernel_initializer.clone()
        self.delta_kernel = self.add_weight(
            name="delta_kernel", shape=self.kernel.shape, initializer=initializer
        )
        if self.use_bias:
            self.delta_bias = self.add_weight(
                name="delta_bias", shape=(self.num_members, outputs), initializer="zeros"
            )
        if not self.tie_fast_weights:
            one = (1, self.num_members)
            self.delta_r = self.add_weight(
                name="delta_r", shape=(*one, features[-1]), initializer=self.r_initializer.clone()
            )
            self.delta_s = self.add_weight(
                name="delta_s", shape=(*one, outputs), initializer=self.s_initializer.clone()
            )
        # e starts at almost 0: training begins as BatchEnsemble's.
        self.e_kernel = self.add_weight(
            name="e_kernel", shape=(len(self.ranges), outputs * (2 if self.use_bias else 1)),
            initializer=keras.initializers.RandomNormal(0.0, 1e-4),
        )  # fmt: skip

    @property
    def fast_weights(self) -> list:
        """The variables r and s, and those of the delta kernel where it has its own."""
        own = [] if self.tie_fast_weights or not self.built else [self.delta_r, self.delta_s]
        return [*super().fast_weights, *own]

    def kept_for_backward(self, inputs: Any, outputs: Any) -> list:
        """What a training step keeps: scaled inputs, both kernels' outputs, and their sum.

        Args:
            inputs, outputs: symbolic tensors.

        Returns:
            List of symbolic tensors.
        """
        return [inputs, outputs, outputs, outputs]

    def scaled_outputs(self, weights: dict, factor: np.ndarray) -> dict:
        """The changed weights that multiply the outputs, before the bias, by `factor`.

        Args:
            weights: dict from a weight's name to its value.
            factor: float array (C,), one number per output channel, or (M, C).

        Returns:
            dict of the weights that change.
        """
        names = ("s", "delta_s", "delta_bias")
        scaled = {name: weights[name] * factor for name in names if name in weights}
        if not self.use_bias:  # e has a column for every bias, too
            e = weights["e_kernel"]
            scaled |= {"delta_bias": 0.0, "e_kernel": np.concatenate([e, 0 * e], axis=-1)}
        return scaled

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights that each member has at the mean of its hyperparameters.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer.

        Returns:
            dict from a name to an array (M, ...).
        """
        kinds = [x for x in network.layers if isinstance(x, LogUniformHyperparameters)]
        # One row for each member: row i of M belongs to member i.
        rows = kinds[0](np.zeros((self.num_members, 1), "float32"), training=False)
        e = ops.convert_to_numpy(self._e(rows))
        outputs = values["s"].shape[-1]
        factors = delta = factors_of(values["r"], values["s"])
        if "delta_r" in values:
            delta = factors_of(values["delta_r"], values["delta_s"])
        delta = delta * e[:, None, :outputs]
        kernel, delta_kernel = values["kernel"], values["delta_kernel"]
        kernels = kernel * over_kernel(factors, kernel) + delta_kernel * over_kernel(delta, kernel)
        if "bias" not in values:
            return {"kernel": kernels}
        return {"kernel": kernels, "bias": values["bias"] + e[:, outputs:] * values["delta_bias"]}

    def call(self, inputs, training=None):
        x, hyperparameters = inputs
        hyperparameters = ops.cast(hyperparameters, "float32")  # which Keras casts to the layer's dtype
        assigned = assignment(x, self.num_members)
        of_row = ops.cast(assigned, "float32")
        outputs = self._outputs(x.shape[-1])
        e = self._e(hyperparameters)
        kernels = None
        if hyperparameters.shape[0] == self.num_members:  # one row a member, which N rows may be, too
            if not training and self._folds():
                kernels = self._member_kernels(e[:, :outputs])
            hyperparameters, e = ops.matmul(of_row, hyperparameters), ops.matmul(of_row, e)
        if kernels:
            y = member_by_member(self._transform, x, kernels)
        else:
            y = self._sum(x, e[:, :outputs], assigned)
        if self.use_bias:
            bias = ops.matmul(of_row, ops.cast(self.bias, "float32"))
            delta = ops.matmul(of_row, ops.cast(self.delta_bias, "float32"))
            bias = bias + e[:, outputs:] * delta
            y = y + ops.reshape(ops.cast(bias, y.dtype), (-1, *(1,) * (len(y.shape) - 2), outputs))
            if training and self.bias_l2_index is not None:
                per_example = ops.sum(ops.square(bias), axis=-1)
                self.add_loss(ops.mean(hyperparameters[:, self.bias_l2_index] * per_example))
        if training and self.l2_index is not None:
            self.add_loss(self._l2(hyperparameters[:, self.l2_index], e[:, :outputs]))
        return self.activation(y)

    def _e(self, hyperparameters):
        """e (N, F), or (N, 2 F) with a bias: linear in the log of the hyperparameters scaled to [0, 1]."""
        low, high = (
            ops.convert_to_tensor([math.log(r[side]) for r in self.ranges], dtype="float32")
            for side in (0, 1)
        )
        scaled = (ops.log(hyperparameters) - low) / (high - low)
        return ops.matmul(scaled, ops.cast(self.e_kernel, "float32"))

    def _sum(self, x, e, assigned):
        """Both kernels' outputs, scaled and added, with e (N, F) of each row."""
        e = ops.reshape(ops.cast(e, x.dtype), (-1, *(1,) * (len(x.shape) - 2), e.shape[-1]))
        r, s = per_row(self.r[0], x, assigned), per_row(self.s[0], x, assigned)
        scaled = x * r
        if self.tie_fast_weights:
            delta = self._transform(scaled, self.delta_kernel)
            return (self._transform(scaled, self.kernel) + e * delta) * s
        delta = self._transform(x * per_row(self.delta_r[0], x, assigned), self.delta_kernel)
        delta = delta * per_row(self.delta_s[0], x, assigned)
        return self._transform(scaled, self.kernel) * s + e * delta

    def _member_kernels(self, e):
        """The one kernel that each member's rows are multiplied by, for e (M, F) of the members."""
        kernels = []
        for m, share in enumerate(ops.unstack(ops.cast(e, self.kernel.dtype))):
            factor = ops.outer(self.r[0, m], self.s[0, m])
            if self.tie_fast_weights:
                kernels.append((self.kernel + share * self.delta_kernel) * factor)
            else:
                delta = ops.outer(self.delta_r[0, m], share * self.delta_s[0, m])
                kernels.append(self.kernel * factor + self.delta_kernel * delta)
        return kernels

    def _l2(self, coefficients, e):
        """Mean over rows of coefficient * ||kernel + e * delta_kernel||^2, by expanding the square."""
        axes = tuple(range(len(self.kernel.shape) - 1))
        kernel, delta = ops.cast(self.kernel, "float32"), ops.cast(self.delta_kernel, "float32")
        weighted = coefficients[:, None]
        return (
            ops.mean(coefficients) * ops.sum(ops.square(kernel))
            + 2 * ops.sum(ops.mean(weighted * e, axis=0) * ops.sum(kernel * delta, axis=axes))
            + ops.sum(ops.mean(weighted * ops.square(e), axis=0) * ops.sum(ops.square(delta), axis=axes))
        )

    def compute_output_shape(self, input_shape):
        alone = not isinstance(input_shape[0], (list, tuple))  # as Keras asks while it builds
        return super().compute_output_shape(input_shape if alone else input_shape[0])

    def get_config(self):
        config = super().get_config()
        config.pop("rank")
        return {
            **config,
            "ranges": self.ranges,
            "l2_index": self.l2_index,
            "bias_l2_index": self.bias_l2_index,
            "tie_fast_weights": self.tie_fast_weights,
        }


@keras.saving.register_keras_serializable(package="zoo")
class HyperBatchEnsembleDense(_HyperBatchEnsemble, BatchEnsembleDense):
    """Dense layer of M members whose weights are a function of hyperparameters.

    For a row x of member m with hyperparameters h, let e(h) = (log h scaled to [0, 1]) @ e_kernel; e1 is
    its first F entries, e2 the others:

        y = activation(s[m] * ((x * r[m]) @ kernel + e1 * ((x * r[m]) @ delta_kernel))
                       + bias[m] + e2 * delta_bias[m])

    Args:
        units: int, output features F.
        num_members: int, the number of members M. Default: 4.
        ranges: sequence of d pairs of floats (low, high) that the hyperparameters come from.
        kwargs:
            l2_index: int, which hyperparameter is the L2 coefficient of the kernel: in training the mean
                over rows of h[l2_index] * ||kernel + e1 * delta_kernel||^2 is added to the loss; None
                for no L2. Default: None.
            bias_l2_index: the same for the bias. Default: None.
            tie_fast_weights: bool, whether the delta kernel shares the kernel's r and s instead of
                having `delta_r` and `delta_s`. Default: True.
            All others: see `BatchEnsembleDense`.

    Input shape: [(N, C), (N, d)], features and hyperparameters; the latter may be (M, d), one row per
        member. Row i belongs to member floor(i * M / N).
    Output shape: (N, F).

    Raises:
        ValueError: for invalid ranges, an index out of range, or at build for another number of
            hyperparameters.

    References:
        Wenzel et al., Hyperparameter Ensembles, NeurIPS 2020, arXiv 2006.13570, section 5.

    Example:
        >>> ranges = [(1e-5, 1e-1)]
        >>> hyperparameters = zoo.layers.LogUniformHyperparameters(num_members=2, ranges=ranges)
        >>> x = np.ones((6, 8))
        >>> layer = zoo.layers.HyperBatchEnsembleDense(3, num_members=2, ranges=ranges, l2_index=0)
        >>> tuple(layer([x, hyperparameters(x)]).shape)
        (6, 3)
    """

    def __init__(
        self, units: int, num_members: int = 4, *, ranges: Sequence[Sequence[float]], **kwargs: Any
    ) -> None:
        super().__init__(units, num_members, ranges=ranges, **kwargs)


@keras.saving.register_keras_serializable(package="zoo")
class HyperBatchEnsembleConv2D(_HyperBatchEnsemble, BatchEnsembleConv2D):
    """2-D convolution of M members whose weights are a function of hyperparameters.

    Args:
        filters: int, output channels, as in `keras.layers.Conv2D`.
        kernel_size: int or pair of int, as in `keras.layers.Conv2D`. Channels come last.
        num_members: int, the number of members M. Default: 4.
        ranges: sequence of d pairs of floats (low, high) that the hyperparameters come from.
        kwargs: l2_index, bias_l2_index and tie_fast_weights, see `HyperBatchEnsembleDense`; all others,
            see `BatchEnsembleConv2D`.

    Input shape: [(N, H, W, C), (N, d)], images and hyperparameters; the latter may be (M, d), one row
        per member. At inference with (M, d) each member's two kernels are added first, so that it needs
        one convolution instead of two.
    Output shape: (N, H', W', filters).

    Raises:
        ValueError: for invalid ranges, an index out of range, or at build for another number of
            hyperparameters.

    References:
        Wenzel et al., Hyperparameter Ensembles, NeurIPS 2020, arXiv 2006.13570, section 5.

    Example:
        >>> ranges = [(1e-5, 1e-1)]
        >>> hyperparameters = zoo.layers.LogUniformHyperparameters(num_members=2, ranges=ranges)
        >>> x = np.ones((4, 8, 8, 3))
        >>> layer = zoo.layers.HyperBatchEnsembleConv2D(16, 3, num_members=2, ranges=ranges)
        >>> tuple(layer([x, hyperparameters(x)]).shape)
        (4, 6, 6, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        num_members: int = 4,
        *,
        ranges: Sequence[Sequence[float]],
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, num_members, ranges=ranges, **kwargs)
