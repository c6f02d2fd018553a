"""Base of methods whose members are rows of the batch: where a network goes from B to M * B rows."""

import dataclasses
from typing import Any

import keras

from zoo.array_types import LayerLike, Tensor
from zoo.layers import MemberLogits, TileMembers
from zoo.layers.tiling import check_members, check_training_mode
from zoo.methods.method import Method


@dataclasses.dataclass(frozen=True)
class Tiled(Method):
    """Base of methods that share a network up to a stage, after which members are rows of the batch.

    A subclass gives the layers of the part where members differ, by `conv`, `dense`, `norm` and
    `per_member`.

    Args:
        num_members: int >= 1, M. Default: 4.
        tile_at: int or str, the stage at which every image becomes M rows: 0, the input; 1, 2, ..., a
            stage of the backbone; or "head". Layers before it are computed once for all members.
            Default: 0.
        training_mode: str, "tile", every member trains on every image of a batch, or "split", a batch is
            split among the members. Inference always tiles. Default: "tile".

    Raises:
        ValueError: for an argument out of range; when built, for a stage that the backbone does not
            have.
    """

    num_members: int = 4
    tile_at: int | str = dataclasses.field(default=0, kw_only=True)
    training_mode: str = dataclasses.field(default="tile", kw_only=True)
    member_loss = "mean"

    def __post_init__(self):
        check_members(self.num_members)
        check_training_mode(self.training_mode)
        if self.tile_at != "head" and not (isinstance(self.tile_at, int) and self.tile_at >= 0):
            raise ValueError(f'tile_at must be a stage, 0, 1, 2, ..., or "head"; got {self.tile_at!r}')

    def layer_factory(self, stages: int) -> Method:
        if isinstance(self.tile_at, int) and self.tile_at > stages:
            raise ValueError(
                f'tile_at={self.tile_at}: this backbone has stages 0 to {stages} and "head"'
            )
        return TiledLayerFactory(self)


class TiledLayerFactory(Method):
    """The layer factory of a `Tiled` method: plain layers before the tiling, the method's own after it.

    Args:
        method: a `Tiled` method.
    """

    def __init__(self, method: Tiled):
        self.method, self.makes = method, Method()

    def expand(self, images: Tensor) -> Any:
        return self.begin_stage(0, images)

    def begin_stage(self, stage: int | str, x: Any) -> Any:
        method = self.method
        if stage != method.tile_at:
            return x
        self.makes = method
        return TileMembers(method.num_members, method.training_mode, name="tile")(x)

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self.makes.conv(filters, kernel_size, role, **options)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self.makes.depthwise_conv(kernel_size, role, **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self.makes.dense(units, role, **options)

    def norm(self, **options: Any) -> LayerLike:
        return self.makes.norm(**options)

    def per_member(self, layer: keras.Layer) -> LayerLike:
        return self.makes.per_member(layer)

    def members(self, logits: Any) -> Tensor:
        method = self.method
        return MemberLogits(method.num_members, method.training_mode, name="members")(logits)
