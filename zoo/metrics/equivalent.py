"""The deep-ensemble equivalent."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise


def deep_ensemble_equivalent(nll: float, ensemble_nlls: Sequence[float] | Mapping[int, float]) -> float:
    """Return how many independent networks a model's likelihood is worth (DEE).

        DEE = min {l >= 1: NLL of a deep ensemble of size l <= nll},

    with the deep ensembles' NLL interpolated linearly between sizes. To be the paper's, all NLLs are
    after temperature scaling, and deep ensembles are of the model's own architecture and recipe.

    Ashukha et al., Pitfalls of In-Domain Uncertainty Estimation and Ensembling, ICLR 2020, arXiv
    2002.06470.

    Args:
        nll: float, the model's NLL in nats.
        ensemble_nlls: floats, the NLLs of deep ensembles of sizes 1, 2, ..., n; or {size: nll}, which
            must have size 1.

    Returns:
        A float >= 1: 1 for a model that is not better than one network, `math.inf` for one that is
        better than all these ensembles (then DEE is more than n, and unknown).

    Raises:
        ValueError: for an NLL that is not finite, no ensembles, or sizes that do not begin with 1.

    Example:
        >>> zoo.metrics.deep_ensemble_equivalent(0.75, [1.0, 0.5, 0.4])
        1.5
    """
    if not isinstance(ensemble_nlls, Mapping):
        ensemble_nlls = dict(enumerate(ensemble_nlls, start=1))
    curve = sorted((float(size), float(value)) for size, value in ensemble_nlls.items())
    if not curve or curve[0][0] != 1:
        sizes = [size for size, _ in curve]
        raise ValueError(f"the NLL of one network is needed: sizes must begin with 1; got {sizes}")
    if not math.isfinite(nll) or not all(math.isfinite(value) for _, value in curve):
        raise ValueError(f"NLLs must be finite; got {nll} and {[value for _, value in curve]}")
    if nll >= curve[0][1]:
        return 1.0
    for (small, worse), (large, better) in pairwise(curve):
        if nll >= better:
            return small + (large - small) * (worse - nll) / (worse - better)
    return math.inf
