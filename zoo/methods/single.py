"""One ordinary network, the baseline of all methods."""

import dataclasses

from zoo.methods.method import Method


@dataclasses.dataclass(frozen=True)
class Single(Method):
    """A single network, an ensemble of one member.

    Example:
        >>> model = zoo.build(zoo.methods.Single(), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.num_members
        ('single_mlp', 1)
    """

    name = "single"
