"""BatchEnsemble (Wen, Tran & Ba, ICLR 2020, arXiv 2002.06715)."""

import dataclasses
from typing import Any

from zoo.array_types import LayerLike
from zoo.layers import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    PerMemberBatchNormalization,
)
from zoo.layers.batch_ensemble import (
    check_fast_weights,
    check_random_sign_init,
    fast_weight_initializer,
)
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class BatchEnsemble(Tiled):
    """BatchEnsemble: members share every kernel, each multiplied by the member's own rank-1 factors.

    Wen, Tran and Ba, BatchEnsemble: An Alternative Approach to Efficient Ensemble and Lifelong Learning,
    ICLR 2020, arXiv 2002.06715.

    As in uncertainty-baselines, every convolution, shortcut and dense layer from `tile_at` on has
    factors, the head included; normalisation is shared by default; the loss is the mean over members.

    Args:
        num_members: int >= 1, M. Default: 4.
        rank: int >= 1, the rank of a member's factor. Default: 1.
        random_sign_init: float, v. With v > 0 factors are random signs, +1 with probability v; with v <=
            0 they are drawn from Normal(1, -v). With rank R the output factors are drawn from
            Normal(1, -v) / R, so that the sum starts at the scale of the shared kernel's outputs.
            Default: -0.5.
        fast_weight_lr_multiplier: float >= 0, multiplies the factors' learning rate. Default: 0.5.
        per_member_norm: bool, whether each member has its own normalisations. Default: False.
        tile_at: int or str, see `Tiled`. Default: 0.
        training_mode: str, "tile" (the reference code's training) or "split" (the paper's), see `Tiled`.
            Default: "tile".

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> method = zoo.methods.BatchEnsemble(4, random_sign_init=0.5)
        >>> model = zoo.build(method, "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('batch_ensemble_mlp', (None, 4, 3))
    """

    rank: int = 1
    random_sign_init: float = -0.5
    fast_weight_lr_multiplier: float = 0.5
    per_member_norm: bool = False
    name = "batch_ensemble"

    def __post_init__(self):
        super().__post_init__()
        check_random_sign_init(self.random_sign_init)
        check_fast_weights(self.rank, self.fast_weight_lr_multiplier)

    def _fast(self):
        return {
            "num_members": self.num_members,
            "rank": self.rank,
            "r_initializer": fast_weight_initializer(self.random_sign_init),
            "s_initializer": fast_weight_initializer(self.random_sign_init, self.rank),
            "fast_weight_lr_multiplier": self.fast_weight_lr_multiplier,
        }

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return BatchEnsembleConv2D(filters, kernel_size, **self._fast(), **options)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return BatchEnsembleDepthwiseConv2D(kernel_size, **self._fast(), **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return BatchEnsembleDense(units, **self._fast(), **options)

    def norm(self, **options: Any) -> LayerLike:
        if self.per_member_norm:
            return PerMemberBatchNormalization(self.num_members, **options)
        return super().norm(**options)
