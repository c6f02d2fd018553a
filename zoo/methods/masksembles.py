"""Masksembles (Durasov et al., CVPR 2021, arXiv 2012.08334)."""

import dataclasses
import zlib
from typing import Any

from zoo.array_types import LayerLike
from zoo.layers import MaskedConv2D, MaskedDense
from zoo.layers.masksembles import check_scale
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class Masksembles(Tiled):
    """Masksembles: members share all weights; each uses its own fixed part of each layer's channels.

    Durasov et al., Masksembles for Uncertainty Estimation, CVPR 2021, arXiv 2012.08334.

    Args:
        num_members: int >= 1, M. Default: 4.
        scale: float >= 1, s, how little the parts overlap. Default: 2.
        seed: int, the seed of the masks; every layer draws its own. Default: 0.
        tile_at: int or str, see `Tiled`. Default: 1, so the stem stays plain.
        training_mode: str, "split", a batch is split among the members as in the paper, or "tile", see
            `Tiled`. Default: "split".

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.Masksembles(2), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('masksembles_mlp', (None, 2, 3))
    """

    scale: float = 2.0
    seed: int = 0
    tile_at: int | str = dataclasses.field(default=1, kw_only=True)
    training_mode: str = dataclasses.field(default="split", kw_only=True)
    name = "masksembles"

    def __post_init__(self):
        super().__post_init__()
        check_scale(self.scale)

    def _masked(self, layer, *size, **options):
        seed = zlib.crc32(f"{self.seed} {options.get('name')}".encode())  # another one for every layer
        return layer(*size, self.num_members, self.scale, seed, **options)

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._masked(MaskedConv2D, filters, kernel_size, **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self._masked(MaskedDense, units, **options)
