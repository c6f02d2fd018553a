"""Hyper-batch ensembles (Wenzel et al., NeurIPS 2020, arXiv 2006.13570)."""

import dataclasses

from zoo.layers import (
    BatchEnsembleDepthwiseConv2D,
    HyperBatchEnsembleConv2D,
    HyperBatchEnsembleDense,
    LogUniformHyperparameters,
    MemberLogits,
    TileMembers,
)
from zoo.layers.batch_ensemble import fast_weight_initializer
from zoo.layers.tiling import check_members
from zoo.methods.single import Single


@dataclasses.dataclass(frozen=True)
class HyperBatch(Single):
    """A BatchEnsemble whose members have hyperparameters of their own, tuned while it trains.

    Hyperparameters are an L2 coefficient for the kernels of the stem, of each stage, of the head and
    for the head's bias, and label smoothing.  `fit` takes plain labels; the held-out part that tunes
    goes into the callback `zoo.HyperparameterTuning(images, labels)`.  L2 is part of the loss here:
    train without weight decay on kernels.  Depthwise kernels are those of a BatchEnsemble, without
    hyperparameters: the paper has none, and the 1x1 convolutions around them vary.

    Args:
        num_members: M >= 1.
        l2_min, l2_max: range of the L2 coefficients, those of the mean loss; the paper's is 0.1 to 100
            divided by the number of training images, here 50,000.
        label_smoothing_min, label_smoothing_max: its range; a maximum of 0 leaves smoothing out, as the
            reference code does.
        random_sign_init, fast_weight_lr_multiplier: as in `BatchEnsemble`.

    Raises:
        ValueError: for an argument out of range.
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
        HyperBatchEnsembleDense(1, ranges=self.ranges(1), **self.fast())  # its checks are ours

    def ranges(self, stages):
        """(low, high) of every hyperparameter of a network of so many stages."""
        smoothing = [(self.label_smoothing_min, self.label_smoothing_max)] * self.tunes_smoothing
        return [(self.l2_min, self.l2_max)] * (stages + 3) + smoothing

    @property
    def tunes_smoothing(self):
        """Whether label smoothing is a hyperparameter."""
        return self.label_smoothing_max > 0

    def fast(self):
        """What all layers are given about members and fast weights."""
        return {
            "num_members": self.num_members,
            "r_initializer": fast_weight_initializer(self.random_sign_init),
            "s_initializer": fast_weight_initializer(self.random_sign_init),
            "fast_weight_lr_multiplier": self.fast_weight_lr_multiplier,
        }

    def callbacks(self, images, labels):
        from zoo.hyper_batch_tuning import HyperparameterTuning  # which needs the classifier

        if not len(images):
            raise ValueError(
                "hyper_batch tunes its hyperparameters by held-out images: set held_out, as 0.1"
            )
        return [HyperparameterTuning(images, labels)]

    def layer_factory(self, stages):
        return _HyperBatchLayerFactory(self, stages)


class _HyperBatchLayerFactory(Single):
    """Makes one network's layers, and carries the hyperparameters of the batch to each of them."""

    def __init__(self, method, stages):
        self.method, self.stages, self.stage = method, stages, 0
        self.ranges = method.ranges(stages)

    def expand(self, images):
        rows = TileMembers(self.method.num_members, name="tile")(images)
        self.hyperparameters = LogUniformHyperparameters(
            self.method.num_members, self.ranges, label_smoothing=self.method.tunes_smoothing,
            name="hyperparameters",
        )(rows)  # fmt: skip
        return rows

    def begin_stage(self, stage, x):
        self.stage = self.stages + 1 if stage == "head" else stage
        return x

    def _made(self, layer, size, options):
        bias = self.stage + (self.stage > self.stages)  # the head's bias has a coefficient of its own
        made = layer(
            *size, ranges=self.ranges, l2_index=self.stage, bias_l2_index=bias, **self.method.fast(),
            **options,
        )  # fmt: skip
        return lambda x: made([x, self.hyperparameters])

    def conv(self, filters, kernel_size, role="hidden", **options):
        return self._made(HyperBatchEnsembleConv2D, (filters, kernel_size), options)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        return BatchEnsembleDepthwiseConv2D(kernel_size, **self.method.fast(), **options)

    def dense(self, units, role="hidden", **options):
        return self._made(HyperBatchEnsembleDense, (units,), options)

    def members(self, logits):
        return MemberLogits(self.method.num_members, name="members")(logits)
