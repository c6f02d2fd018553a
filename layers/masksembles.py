"""Masksembles layers (Durasov et al., CVPR 2021, arXiv 2012.08334): a fixed mask of channels a member."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_number
from zoo.layers.tiling import SavesAllVariables, check_channels_last, check_members, per_row


def check_scale(scale: float) -> None:
    """Check that the scale of masks is at least 1.

    Args:
        scale: float.

    Raises:
        ValueError: if it is not.
    """
    check_number(scale, "scale", ">= 1", lambda s: s >= 1)


def member_masks(channels: int, num_members: int, scale: float, seed: int = 0) -> np.ndarray:
    """The members' masks of channels, the same for the same arguments.

    Each mask has a = ceil(C / (s (1 - (1 - 1/s)^M))) ones. With that, C is the expected number of
    channels that M random choices of a out of s * a channels cover. Every channel is used by some
    member. The reference draws from s * a channels until exactly C are covered; here a random choice out
    of C is repaired where it leaves channels out, which gives C channels for any C.

    Args:
        channels: int >= 1, the number of channels C.
        num_members: int >= 1, the number of members M.
        scale: float s >= 1. 1 makes all masks ones; with larger values masks overlap less.
        seed: int, seed of the choice. Default: 0.

    Returns:
        float32 array (M, C) of zeros and ones.

    Raises:
        ValueError: for scale < 1 or M < 1.
    """
    check_members(num_members)
    check_scale(scale)
    cover = sum((1 - 1 / scale) ** k for k in range(num_members))  # s (1 - (1 - 1/s)^M)
    active = min(channels, math.ceil(channels / cover - 1e-9))
    rng = np.random.default_rng([seed, channels, num_members])
    masks = np.zeros((num_members, channels), "float32")
    for mask in masks:
        mask[rng.permutation(channels)[:active]] = 1
    for channel in rng.permutation(np.flatnonzero(masks.sum(0) == 0)):
        # Exchange it for a channel that another member also has.
        member, spare = rng.permutation(np.argwhere((masks == 1) & (masks.sum(0) > 1)))[0]
        masks[member, [channel, spare]] = 1, 0
    return masks


class _Masked(SavesAllVariables):
    """What masked layers share: `masks` (M, C), a weight that is not trained.  Before a Keras layer."""

    keeps_inputs = False  # for the backward pass: masked inputs are kept instead

    def __init__(self, size, num_members=4, scale=2.0, seed=0, **kwargs):
        super().__init__(**size, **kwargs)
        check_channels_last(self)
        check_members(num_members)
        check_scale(scale)
        self.num_members, self.scale, self.seed = num_members, scale, seed

    def build(self, input_shape):
        super().build(input_shape)
        self.masks = self.add_weight(
            name="masks", shape=(self.num_members, input_shape[-1]), dtype="float32", trainable=False,
            autocast=False, initializer=self._draw,
        )  # fmt: skip

    def _draw(self, shape, dtype=None):
        masks = member_masks(shape[1], self.num_members, self.scale, self.seed)
        return ops.convert_to_tensor(masks, dtype=dtype)

    def call(self, inputs):
        return super().call(inputs * per_row(self.masks, inputs))

    def kept_for_backward(self, inputs: Any, outputs: Any) -> list:
        """What a training step keeps besides outputs: the masked inputs.

        Args:
            inputs, outputs: symbolic tensors.

        Returns:
            List of symbolic tensors.
        """
        return [inputs]

    def scaled_outputs(self, weights: dict, factor: np.ndarray) -> dict:
        """The changed weights that multiply the outputs, before the bias, by `factor`.

        Args:
            weights: dict from a weight's name to its value.
            factor: float array (C,), one number per output channel.

        Returns:
            dict of the weights that change.
        """
        return {"kernel": weights["kernel"] * factor}

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member: the kernel with 0 for inputs that the member does not see.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer.

        Returns:
            dict from a name to an array (M, ...).
        """
        masks, kernel = ops.convert_to_numpy(self.masks), values["kernel"]
        masks = masks.reshape(self.num_members, *(1,) * (kernel.ndim - 2), -1, 1)
        shared = {n: np.broadcast_to(v, (self.num_members, *v.shape)) for n, v in values.items()}
        return {**shared, "kernel": kernel * masks}

    def get_config(self):
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "scale": self.scale,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="zoo")
class MaskedDense(_Masked, keras.layers.Dense):
    """Dense layer that shows each member its own part of the inputs.

    For a row x of member m: y = Dense(x * masks[m]).

    Args:
        units: int, output features F.
        num_members: int, the number of members M. Default: 4.
        scale: float s >= 1, how little the masks overlap (see `member_masks`); the paper uses 1 to 6.
            Default: 2.0.
        seed: int, seed of the masks; equal seeds, sizes and scales give equal masks. Default: 0.
        kwargs: activation, use_bias and so on, as in `keras.layers.Dense`.

    Input shape: (N, ..., C). Row i belongs to member floor(i * M / N).
    Output shape: (N, ..., F).

    Raises:
        ValueError: for num_members < 1 or scale < 1.

    References:
        Durasov et al., Masksembles, CVPR 2021, arXiv 2012.08334, section 3.

    Example:
        >>> layer = zoo.layers.MaskedDense(3, num_members=4, scale=2.0)
        >>> tuple(layer(np.ones((8, 16))).shape)
        (8, 3)
        >>> tuple(layer.masks.shape)
        (4, 16)
    """

    def __init__(
        self, units: int, num_members: int = 4, scale: float = 2.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__({"units": units}, num_members, scale, seed, **kwargs)


@keras.saving.register_keras_serializable(package="zoo")
class MaskedConv2D(_Masked, keras.layers.Conv2D):
    """2-D convolution that shows each member its own part of the input channels.

    Args:
        filters: int, output channels, as in `keras.layers.Conv2D`.
        kernel_size: int or pair of int, as in `keras.layers.Conv2D`. Channels come last.
        num_members: int, the number of members M. Default: 4.
        scale: float s >= 1, see `MaskedDense`. Default: 2.0.
        seed: int, seed of the masks. Default: 0.
        kwargs: strides, padding, activation and so on, as in `keras.layers.Conv2D`.

    Input shape: (N, H, W, C). Row i belongs to member floor(i * M / N).
    Output shape: (N, H', W', filters).

    Raises:
        ValueError: for num_members < 1, scale < 1, or channels that do not come last.

    References:
        Durasov et al., Masksembles, CVPR 2021, arXiv 2012.08334, section 3.

    Example:
        >>> layer = zoo.layers.MaskedConv2D(8, 3, num_members=2)
        >>> tuple(layer(np.ones((4, 8, 8, 6))).shape)
        (4, 6, 6, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        num_members: int = 4,
        scale: float = 2.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        size = {"filters": filters, "kernel_size": kernel_size}
        super().__init__(size, num_members, scale, seed, **kwargs)
