"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import dataclasses
import zlib
from typing import Any

import keras

from zoo.array_types import LayerLike
from zoo.layers import MonteCarloDropout
from zoo.layers.monte_carlo import check_rate, noise_of
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class MCDropout(Tiled):
    """MC dropout: one network whose dropout stays active at inference; each draw is a member.

    Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016, arXiv 1506.02142.

    With a rate, dropout is added before hidden layers and the head; in residual networks before the
    convolutions inside a block, not on shortcuts. With `rate=None` the network's own layers Dropout,
    SpatialDropout1D to 3D, GaussianDropout and AlphaDropout are drawn, where they stand and with their
    own rates, and nothing is added: that is for `zoo.convert` and for backbones of your own, since those
    of this zoo have no such layers. Either way it trains as a single network with dropout does.

    Args:
        num_members: int >= 1, M, draws at inference. Default: 4.
        rate: float in [0, 1), the share of units dropped; None for the network's own dropout layers.
            Default: 0.1.
        consistent: bool, whether the draws are the same at every call (see
            `zoo.layers.MonteCarloDropout`). Default: True.
        seed: int, the seed of the draws. Default: 0.
        filterwise: bool, whether convolutions' inputs lose whole channels instead of single values, as
            in the tuned MC dropout of uncertainty-baselines and in torch-uncertainty. Default: False.
        tile_at: int or str, the first stage with dropout, see `Tiled`. Default: 1; with `rate=None`,
            `zoo.convert` begins at the first dropout layer of the network.

    Raises:
        ValueError: for an argument out of range, or `filterwise` without a rate; when built, for
            `rate=None` and a network without dropout layers.

    Example:
        >>> model = zoo.build(zoo.methods.MCDropout(8), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('mc_dropout_mlp', (None, 8, 3))

        A network with dropout of its own:

        >>> user = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
        ...                          keras.layers.Dropout(0.5), keras.layers.Dense(3)])
        >>> model = zoo.convert(user, zoo.methods.MCDropout(8, rate=None))
        >>> zoo.predict(model, np.zeros((2, 8, 8, 1), "uint8")).members.shape
        (2, 8, 3)
    """

    rate: float | None = 0.1
    consistent: bool = True
    seed: int = 0
    filterwise: bool = dataclasses.field(default=False, kw_only=True)
    tile_at: int | str = dataclasses.field(default=1, kw_only=True)
    training_mode: str = dataclasses.field(default="split", init=False)
    name = "mc_dropout"

    def __post_init__(self):
        super().__post_init__()
        if self.rate is not None:
            check_rate(self.rate)
        elif self.filterwise:
            raise ValueError(
                "filterwise needs a rate; with rate=None the network's own layers say what is dropped"
            )

    def _dropout(self, at, **options):
        seed = zlib.crc32(f"{self.seed} {at}".encode()) % 2**31  # another one for every layer
        return MonteCarloDropout(
            num_members=self.num_members, consistent=self.consistent, seed=seed, **options
        )

    def _after_dropout(self, layer, role):
        if self.rate is None or role in ("stem", "shortcut"):
            return layer
        dropout = self._dropout(
            layer.name, rate=self.rate, filterwise=self.filterwise, name=f"{layer.name}_dropout"
        )
        return lambda x: layer(dropout(x))

    def per_member(self, layer: keras.Layer) -> LayerLike:
        noise = noise_of(layer) if self.rate is None else None
        if not (noise and noise["rate"]):
            return layer
        return self._dropout(layer.name, name=layer.name, dtype=layer.dtype_policy, **noise)

    def finish(self, network: keras.Model) -> keras.Model:
        drawn = any(isinstance(layer, MonteCarloDropout) for layer in network.layers)
        if self.rate is None and not drawn:
            raise ValueError(
                "mc_dropout with rate=None draws the Dropout layers of a network of your own, and this backbone has "
                "none; pass a rate, such as MCDropout(4, rate=0.1)"
            )
        return network

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._after_dropout(super().conv(filters, kernel_size, role, **options), role)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._after_dropout(super().depthwise_conv(kernel_size, role, **options), role)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self._after_dropout(super().dense(units, role, **options), role)
