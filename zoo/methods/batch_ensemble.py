"""BatchEnsemble (Wen, Tran & Ba, ICLR 2020, arXiv 2002.06715)."""

import dataclasses

from zoo.layers import (
    BatchEnsembleConv2D,
    BatchEnsembleDense,
    BatchEnsembleDepthwiseConv2D,
    PerMemberBatchNormalization,
)
from zoo.layers.batch_ensemble import fast_weight_initializer
from zoo.methods.tiled import Tiled


@dataclasses.dataclass(frozen=True)
class BatchEnsemble(Tiled):
    """Members share every kernel and have rank-1 factors of their own on it.

    As in uncertainty-baselines: every convolution, shortcut and dense layer from `tile_at` on, the
    head included; normalisation is shared by default; the loss is the mean over members.

    Args:
        num_members: M >= 1.
        rank: of a member's factor, >= 1.
        tile_at, training_mode: see `Tiled`; "tile" is the reference code's training, "split" the paper's.
        random_sign_init: v > 0, factors are random signs, +1 with probability v; v <= 0, they are
            drawn from Normal(1, -v); of rank R the output factors from Normal(1, -v) / R, so that the
            sum starts at the scale of the shared kernel's outputs.
        fast_weight_lr_multiplier: of the learning rate, for the factors.
        per_member_norm: whether members have normalisations of their own.

    Raises:
        ValueError: for an argument out of range.
    """

    rank: int = 1
    random_sign_init: float = -0.5
    fast_weight_lr_multiplier: float = 0.5
    per_member_norm: bool = False
    name = "batch_ensemble"

    def __post_init__(self):
        super().__post_init__()
        self.dense(1)  # its checks are ours

    def _fast(self):
        return {
            "num_members": self.num_members,
            "rank": self.rank,
            "r_initializer": fast_weight_initializer(self.random_sign_init),
            "s_initializer": fast_weight_initializer(self.random_sign_init, self.rank),
            "fast_weight_lr_multiplier": self.fast_weight_lr_multiplier,
        }

    def conv(self, filters, kernel_size, role="hidden", **options):
        return BatchEnsembleConv2D(filters, kernel_size, **self._fast(), **options)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        return BatchEnsembleDepthwiseConv2D(kernel_size, **self._fast(), **options)

    def dense(self, units, role="hidden", **options):
        return BatchEnsembleDense(units, **self._fast(), **options)

    def norm(self, **options):
        if self.per_member_norm:
            return PerMemberBatchNormalization(self.num_members, **options)
        return super().norm(**options)
