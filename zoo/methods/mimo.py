"""MIMO (Havasi et al., ICLR 2021, arXiv 2010.06610)."""

import dataclasses

from zoo.layers import MIMOExpand, MIMOHead
from zoo.methods.single import Single


@dataclasses.dataclass(frozen=True)
class MIMO(Single):
    """M subnetworks that one network finds by itself: only its stem and head are wider.

    Args:
        num_members: M >= 1.
        batch_repetitions: r >= 1: how often a training batch has each image.
        input_repetition_probability: p in [0, 1]: share of rows in which all members see one image.
        seed: of the shuffling.

    Raises:
        ValueError: for an argument out of range.
    """

    num_members: int = 3
    batch_repetitions: int = 1
    input_repetition_probability: float = 0.0
    seed: int | None = None
    name = "mimo"

    def __post_init__(self):
        self._expand()  # its checks are ours

    def _expand(self, **options):
        return MIMOExpand(
            self.num_members, self.batch_repetitions, self.input_repetition_probability, self.seed,
            **options,
        )  # fmt: skip

    def layer_factory(self, stages):
        return _MIMOLayerFactory(self)


class _MIMOLayerFactory(Single):
    """Makes one network's layers, and carries from its entrance to its head which images are where."""

    def __init__(self, method):
        self.method = method

    def expand(self, images):
        images, self.rows = self.method._expand(name="expand")(images)
        return images

    def dense(self, units, role="hidden", **options):
        if role != "head":
            return super().dense(units, role, **options)
        method = self.method
        head = MIMOHead(units, method.num_members, method.batch_repetitions, **options)
        return lambda features: head([features, self.rows])

    def members(self, logits):
        return logits
