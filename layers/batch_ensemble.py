"""BatchEnsemble layers (Wen, Tran & Ba, ICLR 2020, arXiv 2002.06715).

All members share a kernel W; member m multiplies it by a rank-1 matrix of its fast weights,
W * (r_m s_m^T), which equals scaling the inputs by r_m and the outputs by s_m.
"""

import random
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count, check_number
from zoo.layers.tiling import (
    SavesAllVariables,
    assignment,
    check_channels_last,
    check_members,
    member_by_member,
    per_row,
)


@keras.saving.register_keras_serializable(package="zoo")
class RandomSign(keras.initializers.Initializer):
    """Initialise each weight with +1 or -1, independently.

    Args:
        probability: float in [0, 1], the probability of +1. Default: 0.5.
        seed: int, or None to draw one. Default: None.

    Raises:
        ValueError: for a probability outside [0, 1].

    Example:
        >>> signs = zoo.layers.RandomSign(probability=1.0)((2, 3))
        >>> keras.ops.convert_to_numpy(signs).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, probability: float = 0.5, seed: int | None = None) -> None:
        check_number(probability, "probability", "in [0, 1]", lambda p: 0 <= p <= 1)
        self.probability = probability
        self.seed = random.randrange(2**31) if seed is None else seed  # as Keras's own initialisers
        self._config_seed = seed

    def __call__(self, shape, dtype=None):
        draw = keras.random.uniform(shape, seed=self.seed, dtype="float32")
        return ops.cast(ops.where(draw < self.probability, 1.0, -1.0), dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        return {"probability": self.probability, "seed": self._config_seed}


def check_random_sign_init(random_sign_init: float) -> None:
    """Check the number that describes an initialiser of fast weights.

    Args:
        random_sign_init: float.

    Raises:
        ValueError: for a number above 1, which is not a probability.
    """
    check_number(random_sign_init, "random_sign_init", "<= 1, a probability", lambda p: p <= 1)


def check_fast_weights(rank: int, fast_weight_lr_multiplier: float) -> None:
    """Check the arguments of fast weights.

    Args:
        rank: int >= 1.
        fast_weight_lr_multiplier: float >= 0.

    Raises:
        ValueError: for a number out of range.
    """
    check_count(rank, "rank")
    check_number(fast_weight_lr_multiplier, "fast_weight_lr_multiplier", ">= 0", lambda x: x >= 0)


def factors_of(r: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The matrix that multiplies each member's kernel, sum_j r_j s_j^T.

    Args:
        r: array (R, M, C).
        s: array (R, M, F).

    Returns:
        Array (M, C, F).
    """
    return np.einsum("jmc,jmf->mcf", r, s)


def over_kernel(factors: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Factors shaped to broadcast over a kernel.

    Args:
        factors: array (M, C, F).
        kernel: array (..., C, F).

    Returns:
        Array (M, 1, ..., 1, C, F).
    """
    return factors.reshape(len(factors), *(1,) * (kernel.ndim - 2), *factors.shape[1:])


def fast_weight_initializer(random_sign_init: float, terms: int = 1) -> keras.initializers.Initializer:
    """The initialiser of fast weights that the reference implementation describes by one number.

    Args:
        random_sign_init: float v. For v > 0, a random sign that is +1 with probability v; for v <= 0, a
            normal distribution of mean 1 and standard deviation -v.
        terms: int, number of weights that are added up; mean and deviation of the normal distribution
            are divided by it. Default: 1.

    Returns:
        A `keras.initializers.Initializer`.

    Raises:
        ValueError: for random_sign_init > 1.
    """
    check_random_sign_init(random_sign_init)
    if random_sign_init > 0:
        return RandomSign(random_sign_init)
    return keras.initializers.RandomNormal(1.0 / terms, -random_sign_init / terms)


class _FastWeights(SavesAllVariables):
    """What BatchEnsemble layers share: r (rank, M, C), s (rank, M, F) and a bias a member (M, F).

    A mix-in before a Keras layer, which keeps the arguments and makes the kernel.
    """

    def __init__(self, size, num_members=4, rank=1, *, r_initializer=None, s_initializer=None,
                 fast_weight_lr_multiplier=1.0, **kwargs):  # fmt: skip
        super().__init__(**size, **kwargs)
        check_channels_last(self)
        check_members(num_members)
        check_fast_weights(rank, fast_weight_lr_multiplier)
        self.num_members, self.fast_rank = num_members, rank
        self.r_initializer = keras.initializers.get(r_initializer) or fast_weight_initializer(-0.5)
        self.s_initializer = keras.initializers.get(s_initializer) or fast_weight_initializer(-0.5)
        if self.s_initializer is self.r_initializer:  # an initialiser draws the same at every call
            self.s_initializer = self.r_initializer.clone()
        self.fast_weight_lr_multiplier = fast_weight_lr_multiplier

    def build(self, input_shape):
        use_bias, self.use_bias = self.use_bias, False
        super().build(input_shape)
        self.use_bias = use_bias
        inputs, outputs = input_shape[-1], self._outputs(input_shape[-1])
        members = (self.fast_rank, self.num_members)
        self.r = self.add_weight(name="r", shape=(*members, inputs), initializer=self.r_initializer)
        self.s = self.add_weight(name="s", shape=(*members, outputs), initializer=self.s_initializer)
        if use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.num_members, outputs), initializer=self.bias_initializer,
                regularizer=self.bias_regularizer, constraint=self.bias_constraint,
            )  # fmt: skip

    @property
    def kernel_passes(self) -> int:
        """Int, how often each row is multiplied by a kernel of this size."""
        return self.fast_rank

    @property
    def fast_weights(self) -> list:
        """The variables r and s, which take `fast_weight_lr_multiplier` and no weight decay."""
        return [self.r, self.s] if self.built else []

    folds_per_member = True  # each member's normalisation goes into its s and bias

    def kept_for_backward(self, inputs: Any, outputs: Any) -> list:
        """What a training step keeps besides inputs and outputs: both before and after they are scaled.

        Args:
            inputs, outputs: symbolic tensors.

        Returns:
            List of symbolic tensors.
        """
        return [inputs, outputs] * self.fast_rank

    def scaled_outputs(self, weights: dict, factor: np.ndarray) -> dict:
        """The changed weights that multiply the outputs, before the bias, by `factor`.

        Args:
            weights: dict from a weight's name to its value.
            factor: float array (C,), one number per output channel, or (M, C).

        Returns:
            dict of the weights that change.
        """
        return {"s": weights["s"] * factor}

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member: its kernel, multiplied by its factors, and its bias.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer.

        Returns:
            dict from a name to an array (M, ...).
        """
        factors = self._kernel_factors(factors_of(values["r"], values["s"]), values["kernel"])
        kernels = {"kernel": values["kernel"] * over_kernel(factors, values["kernel"])}
        return {**kernels, **({"bias": values["bias"]} if "bias" in values else {})}

    def _kernel_factors(self, factors, kernel):
        return factors

    def call(self, inputs, training=None):
        assigned = assignment(inputs, self.num_members)
        if not training and self.fast_rank > 1 and self._folds():
            outputs = member_by_member(self._transform, inputs, self._member_kernels())
        else:
            outputs = self._sum(inputs, assigned)
        if self.use_bias:
            outputs = outputs + per_row(self.bias, outputs, assigned)
        return self.activation(outputs)

    def _sum(self, inputs, assigned):
        """Inputs and outputs scaled for each term: cheapest for one, and where kernels are large."""
        outputs = 0
        for j in range(self.fast_rank):
            term = self._transform(inputs * per_row(self.r[j], inputs, assigned), self.kernel)
            outputs = outputs + term * per_row(self.s[j], term, assigned)
        return outputs

    def _folds(self):
        """Whether at inference a kernel a member is cheaper than scaling for every term."""
        return False

    def _member_kernels(self):
        """W * sum_j r_jm s_jm^T of every member, which makes one pass of several."""
        factors = ops.einsum("jmc,jmf->mcf", self.r, self.s)
        return [self.kernel * factor for factor in ops.unstack(factors)]

    def get_config(self):
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "rank": self.fast_rank,
            "r_initializer": keras.initializers.serialize(self.r_initializer),
            "s_initializer": keras.initializers.serialize(self.s_initializer),
            "fast_weight_lr_multiplier": self.fast_weight_lr_multiplier,
        }


@keras.saving.register_keras_serializable(package="zoo")
class BatchEnsembleDense(_FastWeights, keras.layers.Dense):
    """Dense layer of M members that share one kernel.

    For a row x of member m and rank R:

        y = activation(sum_j s[j, m] * ((x * r[j, m]) @ kernel) + bias[m])

    Args:
        units: int, output features F.
        num_members: int, the number of members M. Default: 4.
        rank: int >= 1, the rank R of the matrix that multiplies a member's kernel. Default: 1.
        r_initializer: str, `keras.initializers.Initializer` or None, for the input factors r:
            `RandomSign(p)`, a normal distribution around one, or "ones", which makes all members equal
            to the plain layer. Default: None, a normal distribution of mean 1 and standard deviation
            0.5, the reference's choice for images.
        s_initializer: the same for the output factors s. Default: None.
        fast_weight_lr_multiplier: float >= 0, factor of the learning rate for r and s. Every Keras
            optimiser that an `EnsembleClassifier` is compiled with applies it, and exempts r and s from
            weight decay. Default: 1.0.
        kwargs: activation, use_bias, kernel_* and bias_*, as in `keras.layers.Dense`. Each member has
            its own bias, which is added after the multiplication by s.

    Input shape: (N, ..., C). Row i belongs to member floor(i * M / N), so a batch that `TileMembers` has
        repeated contains each image once for every member.
    Output shape: (N, ..., F).

    Raises:
        ValueError: for num_members or rank < 1, or a negative fast_weight_lr_multiplier.

    References:
        Wen, Tran & Ba, BatchEnsemble, ICLR 2020, arXiv 2002.06715, equation 5.

    Example:
        >>> rows = zoo.layers.TileMembers(num_members=4)(np.ones((2, 8)))
        >>> tuple(zoo.layers.BatchEnsembleDense(3, num_members=4)(rows).shape)
        (8, 3)
    """

    def __init__(self, units: int, num_members: int = 4, rank: int = 1, **kwargs: Any) -> None:
        super().__init__({"units": units}, num_members, rank, **kwargs)

    def _outputs(self, inputs):
        return self.units

    def _transform(self, x, kernel):
        return ops.matmul(x, kernel)


@keras.saving.register_keras_serializable(package="zoo")
class BatchEnsembleConv2D(_FastWeights, keras.layers.Conv2D):
    """2-D convolution of M members that share one kernel: `BatchEnsembleDense` over channels.

    Args:
        filters: int, output channels, as in `keras.layers.Conv2D`.
        kernel_size: int or pair of int, as in `keras.layers.Conv2D`. Channels come last.
        num_members: int, the number of members M. Default: 4.
        rank: int >= 1, see `BatchEnsembleDense`. Default: 1.
        kwargs: r_initializer, s_initializer and fast_weight_lr_multiplier, see `BatchEnsembleDense`;
            strides, padding, activation, use_bias and so on, as in `keras.layers.Conv2D`.

    Input shape: (N, H, W, C). Row i belongs to member floor(i * M / N).
    Output shape: (N, H', W', filters).

    Raises:
        ValueError: for num_members or rank < 1, a negative fast_weight_lr_multiplier, or channels that
            do not come last.

    References:
        Wen, Tran & Ba, ICLR 2020, arXiv 2002.06715, section 3.3.

    Example:
        >>> rows = zoo.layers.TileMembers(num_members=4)(np.ones((2, 8, 8, 3)))
        >>> tuple(zoo.layers.BatchEnsembleConv2D(16, 3, num_members=4, padding="same")(rows).shape)
        (8, 8, 8, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        num_members: int = 4,
        rank: int = 1,
        **kwargs: Any,
    ) -> None:
        size = {"filters": filters, "kernel_size": kernel_size}
        super().__init__(size, num_members, rank, **kwargs)

    def _outputs(self, inputs):
        return self.filters

    def _folds(self):
        return self.groups == 1

    def _transform(self, x, kernel):
        return self.convolution_op(x, kernel)


@keras.saving.register_keras_serializable(package="zoo")
class BatchEnsembleDepthwiseConv2D(_FastWeights, keras.layers.DepthwiseConv2D):
    """Depthwise 2-D convolution of M members that share one kernel.

    Args:
        kernel_size: int or pair of int, as in `keras.layers.DepthwiseConv2D`. Channels come last.
        num_members: int, the number of members M. Default: 4.
        rank: int >= 1, see `BatchEnsembleDense`. Default: 1.
        kwargs: r_initializer, s_initializer and fast_weight_lr_multiplier, see `BatchEnsembleDense`;
            strides, padding, depth_multiplier and so on, as in `keras.layers.DepthwiseConv2D`.

    Input shape: (N, H, W, C). Row i belongs to member floor(i * M / N).
    Output shape: (N, H', W', C * depth_multiplier).

    Raises:
        ValueError: for num_members or rank < 1, a negative fast_weight_lr_multiplier, or channels that
            do not come last.

    References:
        Wen, Tran & Ba, ICLR 2020, arXiv 2002.06715.

    Example:
        >>> rows = zoo.layers.TileMembers(num_members=2)(np.ones((3, 8, 8, 4)))
        >>> tuple(zoo.layers.BatchEnsembleDepthwiseConv2D(3, num_members=2)(rows).shape)
        (6, 6, 6, 4)
    """

    def __init__(
        self, kernel_size: int | tuple[int, int], num_members: int = 4, rank: int = 1, **kwargs: Any
    ) -> None:
        super().__init__({"kernel_size": kernel_size}, num_members, rank, **kwargs)

    def _outputs(self, inputs):
        return inputs * self.depth_multiplier

    def _kernel_factors(self, factors, kernel):
        # Output channel c * multiplier + d is of input channel c: the diagonal blocks of the factors.
        channels, multiplier = kernel.shape[-2:]
        blocks = factors.reshape(len(factors), channels, channels, multiplier)
        return np.einsum("mccd->mcd", blocks)

    def _transform(self, x, kernel):
        return ops.depthwise_conv(
            x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )
