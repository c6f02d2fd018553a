"""Deep ensembles (Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474), plain and hyper-deep."""

import dataclasses

from zoo.layers.tiling import check_members
from zoo.methods.packed import Packed


@dataclasses.dataclass(frozen=True)
class DeepEnsemble(Packed):
    """`num_members` networks that share nothing, trained side by side.

    Packed-Ensembles with alpha = M and gamma = 1 is exactly this, and its layers compute it.

    Args:
        num_members: M >= 1.

    Raises:
        ValueError: for num_members < 1.
    """

    alpha: float = dataclasses.field(default=None, init=False)
    gamma: int = dataclasses.field(default=1, init=False)
    name = "deep_ensemble"

    def __post_init__(self):
        check_members(self.num_members)
        object.__setattr__(self, "alpha", self.num_members)


@dataclasses.dataclass(frozen=True)
class HyperDeep(DeepEnsemble):
    """A deep ensemble whose members were trained with different hyperparameters (arXiv 2006.13570).

    `zoo.training.hyper_deep` searches for them; `fit` trains all members alike.

    Args:
        num_members: M >= 1.

    Raises:
        ValueError: for num_members < 1.
    """

    name = "hyper_deep"
