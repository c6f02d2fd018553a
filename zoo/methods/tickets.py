"""FreeTickets: ensembles of sparse networks (Liu et al., ICLR 2022, arXiv 2106.14568)."""

import dataclasses
import random

from zoo.layers import sparsify
from zoo.layers.sparse.densities import check_sparsity
from zoo.methods.deep_ensemble import DeepEnsemble


@dataclasses.dataclass(frozen=True)
class Tickets(DeepEnsemble):
    """A deep ensemble of which a share of the weights exists: `num_members` sparse networks side by side.

    `zoo.build` places the connections at random, with Erdos-Renyi-Kernel densities; they stay
    where they are in `fit`, unless `zoo.layers.TopologyUpdates` moves them.  `zoo.training.tickets`
    trains the members one by one (DST, named dst_tickets) as the paper does.

    Args:
        num_members: M >= 1.
        sparsity: S in [0, 1), the share of zeros in all kernels together.

    Raises:
        ValueError: for an argument out of range.
    """

    num_members: int = 3
    sparsity: float = 0.8
    name = "dst_tickets"

    def __post_init__(self):
        super().__post_init__()
        check_sparsity(self.sparsity)

    def finish(self, network):
        return sparsify(network, self.sparsity, seed=random.randrange(2**31))


@dataclasses.dataclass(frozen=True)
class SequentialTickets(Tickets):
    """Sparse networks that were found one after the other in a single training run (EDST).

    `zoo.training.tickets` does that; arguments and errors are those of `Tickets`.
    """

    name = "edst_tickets"
