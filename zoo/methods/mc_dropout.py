"""MC dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

import dataclasses
import zlib

from zoo.layers import MonteCarloDropout
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class MCDropout(Tiled):
    """One network with dropout before every hidden layer and the head; a member is one draw of units.

    It trains as a single network with dropout does.  In residual networks dropout stands before the
    convolutions inside a block, not on shortcuts.

    Args:
        num_members: M >= 1, draws at inference.
        rate: share of units dropped, in [0, 1).
        tile_at: see `Tiled`: the first stage with dropout.
        consistent: whether the draws are the same at every call (see `zoo.layers.MonteCarloDropout`).
        seed: of the draws.
        filterwise: whether convolutions' inputs lose whole channels instead of single values, as in the
            tuned MC dropout of uncertainty-baselines and in torch-uncertainty's networks.

    Raises:
        ValueError: for an argument out of range.
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
        self._dropout("checks")  # its checks are ours

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

    def conv(self, filters, kernel_size, role="hidden", **options):
        return self._after_dropout(super().conv(filters, kernel_size, role, **options), role)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        return self._after_dropout(super().depthwise_conv(kernel_size, role, **options), role)

    def dense(self, units, role="hidden", **options):
        return self._after_dropout(super().dense(units, role, **options), role)
