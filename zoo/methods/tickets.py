"""FreeTickets: ensembles of sparse networks (Liu et al., ICLR 2022, arXiv 2106.14568)."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from zoo.layers import sparsify
from zoo.layers.sparse.densities import check_sparsity
from zoo.methods.deep_ensemble import DeepEnsemble

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Tickets(DeepEnsemble):
    """FreeTickets: a deep ensemble of M sparse networks, with only a share of their weights.

    Liu et al., Deep Ensembling with No Overhead for either Training or Testing: The All-Round Blessings
    of Dynamic Sparsity, ICLR 2022, arXiv 2106.14568.

    `zoo.build` places the connections at random, with Erdos-Renyi-Kernel densities; they stay
    where they are in `fit`, unless `zoo.layers.TopologyUpdates` moves them. `zoo.training.tickets`
    trains the members one by one (DST, named dst_tickets) as the paper does.

    Args:
        num_members: int >= 1, M. Default: 3.
        sparsity: float in [0, 1), S, the share of zeros in all kernels together. Default: 0.8.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.Tickets(2, sparsity=0.9), "mlp", input_shape=(8, 8, 1))
        >>> model.name, len(zoo.layers.sparse_layers(model.network))
        ('dst_tickets_mlp', 3)
    """

    num_members: int = 3
    sparsity: float = 0.8
    name = "dst_tickets"

    def __post_init__(self):
        super().__post_init__()
        check_sparsity(self.sparsity)

    def finish(self, network: keras.Model) -> keras.Model:
        return sparsify(network, self.sparsity, seed=random.randrange(2**31))


@dataclasses.dataclass(frozen=True)
class SequentialTickets(Tickets):
    """FreeTickets found one after the other in a single training run (EDST): M sparse networks.

    Liu et al., ICLR 2022, arXiv 2106.14568. `zoo.training.tickets` trains them.

    Args:
        num_members: int >= 1, M. Default: 3.
        sparsity: float in [0, 1), S, the share of zeros in all kernels together. Default: 0.8.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.SequentialTickets(2), "mlp", input_shape=(8, 8, 1))
        >>> model.name, model.num_members
        ('edst_tickets_mlp', 2)
    """

    name = "edst_tickets"
