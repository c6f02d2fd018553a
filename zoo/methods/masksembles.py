"""Masksembles (Durasov et al., CVPR 2021, arXiv 2012.08334)."""

import dataclasses
import zlib

from zoo.layers import MaskedConv2D, MaskedDense
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class Masksembles(Tiled):
    """Members share all weights; each sees its own fixed part of the channels of every layer.

    Depthwise convolutions have no masks: they mix no channels, and the next layer masks their outputs.

    Args:
        num_members: M >= 1.
        scale: s >= 1, how little the parts overlap.
        tile_at, training_mode: see `Tiled`; the stem stays plain, and a batch is shared out among the
            members in training, as in the paper.
        seed: of the masks, which every layer draws for itself.

    Raises:
        ValueError: for an argument out of range.
    """

    scale: float = 2.0
    seed: int = 0
    tile_at: int | str = dataclasses.field(default=1, kw_only=True)
    training_mode: str = dataclasses.field(default="split", kw_only=True)
    name = "masksembles"

    def __post_init__(self):
        super().__post_init__()
        self.dense(1)  # its checks are ours

    def _masked(self, layer, *size, **options):
        seed = zlib.crc32(f"{self.seed} {options.get('name')}".encode())  # another one for every layer
        return layer(*size, self.num_members, self.scale, seed, **options)

    def conv(self, filters, kernel_size, role="hidden", **options):
        return self._masked(MaskedConv2D, filters, kernel_size, **options)

    def dense(self, units, role="hidden", **options):
        return self._masked(MaskedDense, units, **options)
