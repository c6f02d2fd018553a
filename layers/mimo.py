"""MIMO layers (Havasi et al., ICLR 2021, arXiv 2010.06610): M images in, M answers out of one network."""

from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.argument_checks import check_count, check_number
from zoo.layers.replicas import ReplicaSeedGenerator
from zoo.layers.tiling import check_members


def check_repetitions(batch_repetitions: int, input_repetition_probability: float = 0.0) -> None:
    """Check how often MIMO repeats images.

    Args:
        batch_repetitions: int >= 1.
        input_repetition_probability: float in [0, 1]. Default: 0.0.

    Raises:
        ValueError: for a number out of range.
    """
    check_count(batch_repetitions, "batch_repetitions")
    check_number(
        input_repetition_probability, "input_repetition_probability", "in [0, 1]", lambda p: 0 <= p <= 1
    )


@keras.saving.register_keras_serializable(package="zoo")
class MIMOExpand(keras.layers.Layer):
    """Give each member its own image: M images side by side in the channels.

    At inference every member gets the same image. In training, as published:

    1. each of the B images is repeated r = `batch_repetitions` times and all are shuffled, which gives
       L = r * B rows;
    2. for each member independently the first int(L * (1 - p)) rows are shuffled again. The others stay,
       so that there all members see the same image; p = `input_repetition_probability`.

    The second output says which image each member sees in each row. `MIMOHead` uses it to return logits
    in the order of the labels, so that the shuffling never leaves the model.

    Args:
        num_members: int, the number of members M. Default: 3.
        batch_repetitions: int r >= 1. Default: 1.
        input_repetition_probability: float p in [0, 1]. Default: 0.0.
        seed: int, seed of the shuffling, or None to draw one. Default: None.
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (B, ..., C).
    Output shape: (L, ..., C * M), with channel index c * M + m, and int32 (L, M); at inference L = B.

    Raises:
        ValueError: for M or r < 1, or p outside [0, 1].

    References:
        Havasi et al., Training independent subnetworks for robust prediction, ICLR 2021, arXiv
        2010.06610.

    Example:
        >>> images, rows = zoo.layers.MIMOExpand(num_members=3)(np.ones((2, 8, 8, 1)))
        >>> tuple(images.shape), tuple(rows.shape)
        ((2, 8, 8, 3), (2, 3))
    """

    def __init__(
        self, num_members: int = 3, batch_repetitions: int = 1, input_repetition_probability: float = 0.0,
        seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_members(num_members)
        check_repetitions(batch_repetitions, input_repetition_probability)
        self.num_members, self.batch_repetitions = num_members, batch_repetitions
        self.input_repetition_probability = input_repetition_probability
        self.seed = seed
        self.generator = ReplicaSeedGenerator(seed)

    @property
    def channel_copies(self) -> int:
        """How many copies of an image the channels hold at inference; copy m has channels c M + m."""
        return self.num_members

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        batch = ops.shape(inputs)[0]
        if not training:
            rows = ops.tile(ops.arange(batch, dtype="int32")[:, None], (1, self.num_members))
            return ops.repeat(inputs, self.num_members, axis=-1), rows
        rows = self._shuffled(batch)
        members = [ops.take(inputs, rows[:, m], axis=0) for m in range(self.num_members)]
        stacked = ops.stack(members, axis=-1)
        channels = inputs.shape[-1] * self.num_members
        return ops.reshape(stacked, (-1, *inputs.shape[1:-1], channels)), rows

    def _shuffled(self, batch):
        """Which image each member sees in each row, (L, M)."""
        length = batch * self.batch_repetitions
        position = ops.arange(length, dtype="int32")
        # Sorting random keys shuffles on every backend and under XLA, which has no shuffle on some.
        images = ops.take(position % batch, ops.argsort(self._keys((length,))), axis=0)
        apart = 1 - self.input_repetition_probability
        moved = ops.cast(position, "float32") < ops.floor(
            ops.cast(length, "float32") * apart + 1e-4  # the product may fall just short of an integer
        )
        keys = ops.where(moved[:, None], self._keys((length, self.num_members)),
                         ops.cast(position, "float32")[:, None] + 1)  # fmt: skip
        return ops.take(images, ops.argsort(keys, axis=0), axis=0)

    def _keys(self, shape):
        return keras.random.uniform(shape, seed=self.generator)

    def row_factor(self, training: bool) -> int:
        """How many rows of the batch the layer makes of one.

        Args:
            training: bool, in training or at inference.

        Returns:
            int.
        """
        return self.batch_repetitions if training else 1

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, *input_shape[1:-1], input_shape[-1] * self.num_members), (None, self.num_members)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        images, rows = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(images, inputs.dtype), keras.KerasTensor(rows, "int32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "batch_repetitions": self.batch_repetitions,
            "input_repetition_probability": self.input_repetition_probability,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="zoo")
class MIMOHead(keras.layers.Dense):
    """M dense heads in one layer, with logits in the order that the images came in.

    Args:
        units: int, outputs K of each member.
        num_members: int, the number of members M. Default: 3.
        batch_repetitions: int r >= 1, the same as in `MIMOExpand`. Default: 1.
        kwargs: use_bias, kernel_initializer and so on, as in `keras.layers.Dense`. The kernel is (C, M *
            K); member m has columns m K to (m + 1) K.

    Input shape: features (L, C), or [features, rows], where rows (L, M) is the second output of
        `MIMOExpand`.
    Output shape: (L, M, K); in training with rows (B, M * r, K), each member's logits for image b in
        each of the r repetitions, member by member.

    Raises:
        ValueError: for num_members or batch_repetitions < 1.

    References:
        Havasi et al., Training independent subnetworks for robust prediction, ICLR 2021, arXiv
        2010.06610.

    Example:
        >>> tuple(zoo.layers.MIMOHead(10, num_members=3)(np.ones((2, 16))).shape)
        (2, 3, 10)
    """

    rows_in_training_alone = True  # its second input: which image each member sees in each row

    def __init__(
        self, units: int, num_members: int = 3, batch_repetitions: int = 1, **kwargs: Any
    ) -> None:
        check_members(num_members)
        check_repetitions(batch_repetitions)
        check_count(units, "units")
        super().__init__(units * num_members, **kwargs)
        self.num_members, self.batch_repetitions = num_members, batch_repetitions
        self.input_spec = None  # Keras's allows no rows

    def build(self, input_shape: Any) -> None:
        super().build(_features(input_shape))
        self.input_spec = None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, rows = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        classes = self.units // self.num_members
        logits = ops.reshape(super().call(features), (-1, self.num_members, classes))
        if rows is None or not training:
            return logits
        # Every image is there r times for every member: sorted rows are the images in order.
        members = [
            ops.take(logits[:, m], ops.argsort(rows[:, m]), axis=0) for m in range(self.num_members)
        ]
        per_image = [ops.reshape(x, (-1, self.batch_repetitions, classes)) for x in members]
        return ops.concatenate(per_image, axis=1)

    def row_factor(self, training: bool) -> Any:
        """How many rows of the batch the layer makes of one.

        Args:
            training: bool, in training or at inference.

        Returns:
            A `fractions.Fraction`.
        """
        return Fraction(1, self.batch_repetitions if training else 1)

    def member_weights(self, values: dict, network: keras.Model) -> dict:
        """The weights of each member.

        Args:
            values: dict from a trainable variable's name to its value, an array.
            network: the `keras.Model` around the layer.

        Returns:
            dict from a name to an array (M, ...).
        """
        return {
            name: np.stack(np.split(value, self.num_members, axis=-1)) for name, value in values.items()
        }

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (_features(input_shape)[0], self.num_members, self.units // self.num_members)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        features = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        return keras.KerasTensor(self.compute_output_shape(features.shape), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units // self.num_members,
            "num_members": self.num_members,
            "batch_repetitions": self.batch_repetitions,
        }


def _features(input_shape):
    """The shape of the features, of an input with or without rows."""
    return input_shape[0] if isinstance(input_shape[0], (list, tuple)) else input_shape
