"""MIMO (Havasi et al., ICLR 2021, arXiv 2010.06610)."""

import dataclasses
from typing import Any

from zoo.array_types import LayerLike, Tensor
from zoo.layers import MIMOExpand, MIMOHead
from zoo.layers.mimo import check_repetitions
from zoo.layers.tiling import check_members
from zoo.methods.method import Method


@dataclasses.dataclass(frozen=True)
class MIMO(Method):
    """MIMO: M subnetworks learned inside one network, of which only the stem and head are wider.

    Havasi et al., Training independent subnetworks for robust prediction, ICLR 2021, arXiv 2010.06610.

    Args:
        num_members: int >= 1, M. Default: 3.
        batch_repetitions: int >= 1, r, how often a training batch contains each image. Default: 1.
        input_repetition_probability: float in [0, 1], the share of rows in which all members see the
            same image. Default: 0.
        seed: int, the seed of the shuffling. Default: None, a random one.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.MIMO(2), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('mimo_mlp', (None, 2, 3))
    """

    num_members: int = 3
    batch_repetitions: int = 1
    input_repetition_probability: float = 0.0
    seed: int | None = None
    name = "mimo"

    def __post_init__(self):
        check_members(self.num_members)
        check_repetitions(self.batch_repetitions, self.input_repetition_probability)

    def layer_factory(self, stages: int) -> Method:
        return _MIMOLayerFactory(self)


class _MIMOLayerFactory(Method):
    """Makes one network's layers, and carries from its entrance to its head which images are where."""

    def __init__(self, method):
        self.method = method

    def expand(self, images: Tensor) -> Any:
        method = self.method
        expand = MIMOExpand(
            method.num_members, method.batch_repetitions, method.input_repetition_probability,
            method.seed, name="expand",
        )  # fmt: skip
        images, self.rows = expand(images)
        return images

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        if role != "head":
            return super().dense(units, role, **options)
        method = self.method
        head = MIMOHead(units, method.num_members, method.batch_repetitions, **options)
        return lambda features: head([features, self.rows])

    def members(self, logits: Any) -> Tensor:
        return logits
