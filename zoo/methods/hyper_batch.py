"""Hyper-batch ensembles (Wenzel et al., NeurIPS 2020, arXiv 2006.13570)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.array_types import LayerLike, Tensor
from zoo.layers import (
    BatchEnsembleDepthwiseConv2D,
    HyperBatchEnsembleConv2D,
    HyperBatchEnsembleDense,
    LogUniformHyperparameters,
    MemberLogits,
    TileMembers,
)
from zoo.layers.batch_ensemble import (
    check_fast_weights,
    check_random_sign_init,
    fast_weight_initializer,
)
from zoo.layers.hyperparameters import check_ranges
from zoo.layers.tiling import check_members
from zoo.methods.method import Method

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class HyperBatch(Method):
    """Hyper-batch ensembles: a BatchEnsemble whose members' hyperparameters are tuned while it trains.

    Wenzel et al., Hyperparameter Ensembles for Robustness and Uncertainty Quantification, NeurIPS 2020,
    arXiv 2006.13570.

    Hyperparameters are an L2 coefficient for the kernels of the stem, of each stage, of the head and
    for the head's bias, and label smoothing. `fit` takes plain labels; the held-out images that tune
    them go into the callback `zoo.HyperparameterTuning(images, labels)`. L2 is part of the loss here:
    train without weight decay on kernels.

    Args:
        num_members: int >= 1, M. Default: 4.
        l2_min: float > 0, the least L2 coefficient of the mean loss. Default: 2e-6, the paper's 0.1
            divided by 50,000 training images.
        l2_max: float > l2_min, the largest. Default: 2e-3, the paper's 100 divided by 50,000.
        label_smoothing_min: float > 0, the least label smoothing. Default: 1e-5.
        label_smoothing_max: float < 1, the largest; 0 leaves smoothing out, as the reference code does.
            Default: 0.2.
        random_sign_init: float, see `BatchEnsemble`. Default: -0.75.
        fast_weight_lr_multiplier: float >= 0, multiplies the factors' learning rate. Default: 0.5.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.HyperBatch(2), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('hyper_batch_mlp', (None, 2, 3))
    """

    num_members: int = 4
    l2_min: float = 2e-6
    l2_max: float = 2e-3
    label_smoothing_min: float = 1e-5
    label_smoothing_max: float = 0.2
    random_sign_init: float = -0.75
    fast_weight_lr_multiplier: float = 0.5
    name = "hyper_batch"
    member_loss = "mean"

    def __post_init__(self):
        check_members(self.num_members)
        if not self.label_smoothing_max < 1:
            raise ValueError(f"label_smoothing_max must be < 1; got {self.label_smoothing_max}")
        check_ranges(self.ranges(1))
        check_random_sign_init(self.random_sign_init)
        check_fast_weights(1, self.fast_weight_lr_multiplier)

    def ranges(self, stages: int) -> list[tuple[float, float]]:
        """Return the range of every hyperparameter of a network.

        Args:
            stages: int, the number of stages of the backbone.

        Returns:
            A list of (low, high), L2 coefficients first.
        """
        smoothing = [(self.label_smoothing_min, self.label_smoothing_max)] * self.tunes_smoothing
        return [(self.l2_min, self.l2_max)] * (stages + 3) + smoothing

    @property
    def tunes_smoothing(self) -> bool:
        """Whether label smoothing is a hyperparameter."""
        return self.label_smoothing_max > 0

    def fast(self) -> dict[str, Any]:
        """Return the arguments about members and fast weights that all layers share."""
        return {
            "num_members": self.num_members,
            "r_initializer": fast_weight_initializer(self.random_sign_init),
            "s_initializer": fast_weight_initializer(self.random_sign_init),
            "fast_weight_lr_multiplier": self.fast_weight_lr_multiplier,
        }

    def callbacks(self, images: ArrayLike, labels: ArrayLike) -> list[keras.callbacks.Callback]:
        from zoo.hyper_batch_tuning import HyperparameterTuning  # which needs the classifier

        if not len(np.asarray(images)):
            raise ValueError(
                "hyper_batch tunes its hyperparameters on held-out images: set held_out, such as 0.1"
            )
        return [HyperparameterTuning(images, labels)]

    def layer_factory(self, stages: int) -> Method:
        return _HyperBatchLayerFactory(self, stages)


class _HyperBatchLayerFactory(Method):
    """Makes one network's layers, and carries the hyperparameters of the batch to each of them."""

    def __init__(self, method, stages):
        self.method, self.stages, self.stage = method, stages, 0
        self.ranges = method.ranges(stages)

    def expand(self, images: Tensor) -> Any:
        rows = TileMembers(self.method.num_members, name="tile")(images)
        self.hyperparameters = LogUniformHyperparameters(
            self.method.num_members, self.ranges, label_smoothing=self.method.tunes_smoothing,
            name="hyperparameters",
        )(rows)  # fmt: skip
        return rows

    def begin_stage(self, stage: int | str, x: Any) -> Any:
        if stage != "head" and stage > self.stages:
            raise ValueError(
                f"the backbone announces stage {stage} of {self.stages}; pass stages= to zoo.register_backbone"
            )
        self.stage = self.stages + 1 if stage == "head" else stage
        return x

    def _made(self, layer, size, options):
        bias = self.stage + (self.stage > self.stages)  # the head's bias has its own coefficient
        made = layer(
            *size, ranges=self.ranges, l2_index=self.stage, bias_l2_index=bias, **self.method.fast(),
            **options,
        )  # fmt: skip
        return lambda x: made([x, self.hyperparameters])

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return self._made(HyperBatchEnsembleConv2D, (filters, kernel_size), options)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        return BatchEnsembleDepthwiseConv2D(kernel_size, **self.method.fast(), **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        return self._made(HyperBatchEnsembleDense, (units,), options)

    def members(self, logits: Any) -> Tensor:
        return MemberLogits(self.method.num_members, name="members")(logits)
