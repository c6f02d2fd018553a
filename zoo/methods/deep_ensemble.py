"""Deep ensembles (Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474), plain and hyper-deep."""

import dataclasses

from zoo.layers.tiling import check_members
from zoo.methods.packed import Packed


@dataclasses.dataclass(frozen=True)
class DeepEnsemble(Packed):
    """Deep ensembles: M networks that share nothing, trained side by side.

    Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
    NeurIPS 2017, arXiv 1612.01474.

    Packed-Ensembles with alpha = M and gamma = 1 are exactly this, and their layers compute it.

    Args:
        num_members: int >= 1, M. Default: 4.

    Raises:
        ValueError: for num_members < 1.

    Example:
        >>> model = zoo.build(zoo.methods.DeepEnsemble(2), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('deep_ensemble_mlp', (None, 2, 3))
    """

    alpha: float = dataclasses.field(default=0, init=False)  # M, once that is known
    gamma: int = dataclasses.field(default=1, init=False)
    name = "deep_ensemble"

    def __post_init__(self):
        check_members(self.num_members)
        object.__setattr__(self, "alpha", self.num_members)


@dataclasses.dataclass(frozen=True)
class HyperDeep(DeepEnsemble):
    """Hyper-deep ensembles: a deep ensemble whose members were trained with different hyperparameters.

    Wenzel et al., Hyperparameter Ensembles for Robustness and Uncertainty Quantification, NeurIPS 2020,
    arXiv 2006.13570.

    `zoo.training.hyper_deep` searches for them; `fit` trains all members alike.

    Args:
        num_members: int >= 1, M. Default: 4.

    Raises:
        ValueError: for num_members < 1.

    Example:
        >>> model = zoo.build(zoo.methods.HyperDeep(2), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.network.output_shape
        ('hyper_deep_mlp', (None, 2, 3))
    """

    name = "hyper_deep"
