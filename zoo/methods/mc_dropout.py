"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import dataclasses
import zlib
from typing import Any

from zoo.array_types import LayerLike
from zoo.layers import MonteCarloDropout
from zoo.layers.monte_carlo import check_rate
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class MCDropout(Tiled):
    """MC dropout: one network with dropout before hidden layers and the head; each draw is a member.

    Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016, arXiv 1506.02142.

    It trains as a single network with dropout does. In residual networks dropout stands before the
    convolutions inside a block, not on shortcuts.

    Args:
        num_members: int >= 1, M, draws at inference. Default: 4.
        rate: float in [0, 1), the share of units dropped. Default: 0.1.
        consistent: bool, whether the draws are the same at every call (see
            `zoo.layers.MonteCarloDropout`). Default: True.
        seed: int, the seed of the draws. Default: 0.
        filterwise: bool, whether convolutions' inputs lose whole channels instead of single values, as
            in the tuned MC dropout of uncertainty-baselines and in torch-uncertainty. Default: False.
        tile_at: int or str, the first stage with dropout, see `Tiled`. Default: 1.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.MCDropout(8), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('mc_dropout_mlp', (None, 8, 3))
    """

    rate: float = 0.1
    consistent: bool = True
    seed: int = 0
    filterwise: bool = dataclasses.field(default=False, kw_only=True)
    tile_at: int | str = dataclasses.field(default=1, kw_only=True)
    training_mode: str = dataclasses.field(default="split", init=False)
    name = "mc_dropout"

    def __post_init__(self):
        super().__post_init__()
        check_rate(self.rate)

    def _dropout(self, name):
        seed = zlib.crc32(f"{self.seed} {name}".encode()) % 2**31  # another one for every layer
        return MonteCarloDropout(
            self.rate, self.num_members, self.consistent, seed, self.filterwise, name=f"{name}_dropout"
        )

    def _after_dropout(self, layer, role):
        if role in ("stem", "shortcut"):
            return layer
        dropout = self._dropout(layer.name)
        return lambda x: layer(dropout(x))

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._after_dropout(super().conv(filters, kernel_size, role, **options), role)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        return self._after_dropout(super().depthwise_conv(kernel_size, role, **options), role)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self._after_dropout(super().dense(units, role, **options), role)
