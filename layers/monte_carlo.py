"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import math
import random
from typing import Any

import keras
from keras import ops

from zoo.layers.argument_checks import check_number
from zoo.layers.replicas import ReplicaSeedGenerator
from zoo.layers.tiling import check_members, members_of_rows

_SPATIAL = (
    keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D
)  # fmt: skip
_NOISES = {
    keras.layers.Dropout: "dropout",  # and those derived from it, such as SpatialDropout2D
    keras.layers.GaussianDropout: "gaussian",
    keras.layers.AlphaDropout: "alpha",
}
_SATURATED = -1.6732632423543772 * 1.0507009873554805  # what a SELU is of very negative numbers


def check_rate(rate: float) -> None:
    """Check that a dropout rate is in [0, 1).

    Args:
        rate: float.

    Raises:
        ValueError: if it is not.
    """
    check_number(rate, "rate", "in [0, 1)", lambda share: 0 <= share < 1)


def noise_of(layer: Any) -> dict | None:
    """Read what one of Keras's dropout layers does in training.

    Args:
        layer: a `keras.layers.Layer` or anything else.

    Returns:
        The arguments `rate`, `filterwise`, `noise_shape` and `noise` of a `MonteCarloDropout` that does the
        same; None for a layer that is not Dropout, SpatialDropout1D to 3D, GaussianDropout or AlphaDropout.

    Example:
        >>> zoo.layers.monte_carlo.noise_of(keras.layers.Dropout(0.3))
        {'rate': 0.3, 'filterwise': False, 'noise_shape': None, 'noise': 'dropout'}
    """
    noise = next((noise for kind, noise in _NOISES.items() if isinstance(layer, kind)), None)
    if noise is None:
        return None
    filterwise, noise_shape = isinstance(layer, _SPATIAL), getattr(layer, "noise_shape", None)
    if getattr(layer, "data_format", None) == "channels_first":
        spatial = layer.input_spec.ndim - 2
        filterwise, noise_shape = False, (None, None, *(1,) * spatial)
    return {
        "rate": layer.rate, "filterwise": filterwise, "noise_shape": noise_shape, "noise": noise
    }  # fmt: skip


@keras.saving.register_keras_serializable(package="zoo")
class MonteCarloDropout(keras.layers.Layer):
    """Dropout that stays active at inference: each member is one draw of the units that are dropped.

    In training this is `keras.layers.Dropout`, or with `filterwise` Keras's SpatialDropout: other units for
    every row. At inference y = x * keep / (1 - rate), where keep (M, ...) is drawn once per member. It is
    fixed by `seed`, so that outputs repeat and do not depend on an image's place in a batch; with
    `consistent=False` it is drawn anew at every call.

    Args:
        rate: float in [0, 1), the share of units that are dropped. Default: 0.1.
        num_members: int, the number of members M. Default: 4.
        consistent: bool, whether a member drops the same units at every call. Default: True.
        seed: int, seed of the draws; None draws one, which the config keeps. The backend's generator decides
            which units a seed drops, so TensorFlow, JAX and PyTorch drop different ones. Default: None.
        filterwise: bool, whether a unit is a whole channel (Tompson et al., CVPR 2015, arXiv 1411.4280). The
            positions of a feature map are alike, so single dropped ones can be guessed from their neighbours.
            Needs hardly any random numbers. Default: False.
        noise_shape: tuple of int or None, the shape of what is drawn, as in `keras.layers.Dropout`: a 1 draws
            one number for a whole axis, None one for each position. Its first entry stands for the rows.
            Default: None, one number for each value.
        noise: str, what happens to units: "dropout", as above; "gaussian", they are multiplied by
            Normal(1, sqrt(rate / (1 - rate))), as `keras.layers.GaussianDropout` does; "alpha", they take the
            value at which a SELU saturates, as in `keras.layers.AlphaDropout`. Default: "dropout".
        kwargs: name, dtype and so on, as in `keras.layers.Layer`.

    Input shape: (N, ...), at inference tiled member by member: row i belongs to member floor(i * M / N).
    Output shape: the same.

    Raises:
        ValueError: for a rate outside [0, 1), M < 1, or an unknown noise.

    References:
        Gal & Ghahramani, Dropout as a Bayesian Approximation, ICML 2016, arXiv 1506.02142.

    Example:
        >>> layer = zoo.layers.MonteCarloDropout(rate=0.5, num_members=4)
        >>> rows = np.ones((8, 16), "float32")
        >>> first, second = layer(rows), layer(rows)
        >>> tuple(first.shape), bool(keras.ops.all(first == second))
        ((8, 16), True)
    """

    def __init__(
        self, rate: float = 0.1, num_members: int = 4, consistent: bool = True, seed: int | None = None,
        filterwise: bool = False, noise_shape: tuple | None = None, noise: str = "dropout", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_members(num_members)
        check_rate(rate)
        if noise not in _NOISES.values():
            raise ValueError(f"noise must be {', '.join(_NOISES.values())}; got {noise!r}")
        self.rate, self.num_members, self.consistent = rate, num_members, consistent
        self.filterwise, self.noise = filterwise, noise
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        # Drawn now and kept in the config, so that a loaded model drops the same units.
        self.seed = random.randrange(2**31) if seed is None else seed
        self.generator = ReplicaSeedGenerator(self.seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and not self.filterwise and self.noise == "dropout":
            return keras.random.dropout(inputs, self.rate, self.noise_shape, seed=self.generator)
        rows = self._rows_in_training(inputs) if training else self.num_members
        seed = self.seed if self.consistent and not training else self.generator
        scale, shift = self.factors(self.units(inputs, rows), seed, inputs.dtype)
        if not training:
            return self._by_member(inputs, scale, shift)
        return inputs * scale if shift is None else inputs * scale + shift

    def _rows_in_training(self, inputs):
        one_for_all = self.noise_shape is not None and self.noise_shape[0] == 1
        return 1 if one_for_all else ops.shape(inputs)[0]

    def factors(self, shape: tuple, seed: Any, dtype: str) -> tuple:
        """Draw what units are multiplied by, and what is added to them.

        Args:
            shape: tuple of int, the shape of the draw.
            seed: int or `keras.random.SeedGenerator`.
            dtype: str, the type of the results.

        Returns:
            (scale, shift), tensors of that shape; shift is None where nothing is added.
        """
        rate = self.rate
        if self.noise == "gaussian":
            drawn = keras.random.normal(shape, 1.0, math.sqrt(rate / (1 - rate)), seed=seed)
            return ops.cast(drawn, dtype), None
        keep = ops.cast(keras.random.uniform(shape, seed=seed) >= rate, dtype)
        if self.noise == "alpha":  # with the mean and variance of what comes in
            factor = ((1 - rate) * (1 + rate * _SATURATED**2)) ** -0.5
            return factor * keep, factor * _SATURATED * (1 - rate - keep)
        return keep / (1 - rate), None

    def _by_member(self, inputs, scale, shift):
        """The rows of each member, times that member's scale plus its shift."""
        sizes = inputs.shape[1:]
        uneven = inputs.shape[0] is not None and inputs.shape[0] % self.num_members
        if uneven or (self.noise_shape and None in sizes):
            members = members_of_rows(ops.shape(inputs)[0], self.num_members)
            outputs = inputs * ops.take(scale, members, axis=0)
            return outputs if shift is None else outputs + ops.take(shift, members, axis=0)
        # A factor for every row would be a constant of TensorFlow's graph, as large as the activations.
        inner = sizes if self.noise_shape else (math.prod(scale.shape[1:]),)
        each = (self.num_members, 1, *(scale.shape[1:] if self.noise_shape else (-1,)))
        outputs = ops.reshape(inputs, (self.num_members, -1, *inner)) * ops.reshape(scale, each)
        if shift is not None:
            outputs = outputs + ops.reshape(shift, each)
        return ops.reshape(outputs, (-1, *sizes))

    def units(self, inputs: Any, rows: Any) -> tuple:
        """The shape of the units that are kept or dropped.

        Args:
            inputs: tensor (N, ...).
            rows: int, number of rows to draw for.

        Returns:
            Tuple of int that begins with `rows`.
        """
        if self.filterwise:
            return (rows, *(1,) * (len(inputs.shape) - 2), inputs.shape[-1])
        shape = self.noise_shape or (None,) * len(inputs.shape)
        return (rows, *(own or size for own, size in zip(shape[1:], inputs.shape[1:], strict=True)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def kept_for_backward(self, inputs: Any, outputs: Any) -> list:
        """What a training step keeps besides inputs and outputs: which units a row lost.

        Args:
            inputs, outputs: symbolic tensors.

        Returns:
            List of symbolic tensors, of one row.
        """
        dtype = self.compute_dtype if self.noise == "gaussian" else "bool"
        return [keras.KerasTensor(self.units(outputs, 1), dtype)]

    def litert_layer(self, config: dict) -> keras.layers.Layer:
        """A layer that does the same in a LiteRT file.

        Args:
            config: dict, this layer's configuration in float32.

        Returns:
            A new layer.

        Raises:
            ValueError: for draws that are new at every call.
        """
        if not self.consistent:
            raise ValueError(
                "MC dropout with consistent=False draws anew at every call, and a LiteRT file cannot; build "
                "the model with consistent=True"
            )
        return DrawnDropout.from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rate": self.rate,
            "num_members": self.num_members,
            "consistent": self.consistent,
            "seed": self.seed,
            "filterwise": self.filterwise,
            "noise_shape": self.noise_shape,
            "noise": self.noise,
        }


@keras.saving.register_keras_serializable(package="zoo")
class DrawnDropout(MonteCarloDropout):
    """`MonteCarloDropout` at inference, drawn before any graph: LiteRT has no generator of the same numbers.

    Where a network leaves a size open, it is drawn in the first call, which must be an eager one.

    Args:
        rate, num_members, consistent, seed, filterwise, noise_shape, noise, kwargs: see `MonteCarloDropout`.
    """

    drawn: Any = None

    def build(self, input_shape: Any) -> None:
        if None not in input_shape[1:]:
            self._draw(keras.KerasTensor(input_shape))

    def _draw(self, inputs):
        drawn = self.factors(self.units(inputs, self.num_members), self.seed, "float32")
        self.drawn = [None if values is None else ops.convert_to_numpy(values) for values in drawn]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.drawn is None:
            self._draw(inputs)
        members = members_of_rows(ops.shape(inputs)[0], self.num_members)
        scale, shift = (
            None if values is None else ops.take(ops.cast(values, inputs.dtype), members, axis=0)
            for values in self.drawn
        )
        return inputs * scale if shift is None else inputs * scale + shift
