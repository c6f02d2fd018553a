"""A model of the time of a training step on many devices, from counts and a machine's parameters.

    t = max(input, compute + statistics + the part of the gradient exchange that is not overlapped)

Compute takes FLOPs divided by the achieved share of the peak.  An exchange takes latency plus bytes
divided by bandwidth (the alpha-beta model; Thakur, Rabenseifner & Gropp, Optimization of Collective
Communication Operations in MPICH, 2005).  Each layer waits for the statistics of its synchronised batch
normalisation; gradients can be exchanged during the backward pass, which is two thirds of the compute.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.step_cost import StepCost

BACKWARD = 2 / 3  # share of a step's compute


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection between two devices.

    Args:
        latency: float, seconds.
        bandwidth: float, bytes a second in each direction.

    Raises:
        ValueError: if the latency is negative or the bandwidth is not positive.
    """

    latency: float
    bandwidth: float

    def __post_init__(self):
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(
                f"latency must be >= 0 and bandwidth > 0; got {self.latency} and {self.bandwidth}"
            )


@dataclasses.dataclass(frozen=True)
class Machine:
    """Identical nodes of identical devices.

    Args:
        peak: float, FLOP/s of a device.
        share: float in (0, 1], the share of the peak that training achieves.
        devices_a_node: int, devices in a node; each has its own link to other nodes.
        inside: `Link` between two devices of a node.
        between: `Link` from a device to one of another node; None for a single node. Default: None.
        images_per_second: float, images that the host prepares for each device. Default: infinity.

    Raises:
        ValueError: if a number is out of range.
    """

    peak: float
    share: float
    devices_a_node: int
    inside: Link
    between: Link | None = None
    images_per_second: float = math.inf

    def __post_init__(self):
        if not (self.peak > 0 and 0 < self.share <= 1 and self.images_per_second > 0):
            raise ValueError(
                f"peak and images_per_second must be > 0 and share in (0, 1]; got {self.peak}, "
                f"{self.images_per_second} and {self.share}"
            )
        if self.devices_a_node < 1:
            raise ValueError(f"devices_a_node must be >= 1; got {self.devices_a_node}")


@dataclasses.dataclass(frozen=True)
class StepTime:
    """The time of each part of a step, in seconds.

    Args:
        compute: float, the forward and backward pass.
        statistics: float, the exchange of batch statistics.
        gradient: float, the exchange of gradients.
        input: float, the preparation of images.
    """

    compute: float
    statistics: float
    gradient: float
    input: float

    @property
    def in_turn(self) -> float:
        """Seconds of a step whose gradients are exchanged after the backward pass."""
        return max(self.input, self.compute + self.statistics + self.gradient)

    @property
    def overlapped(self) -> float:
        """Seconds of a step whose gradients are exchanged during the backward pass where possible."""
        late = max(0.0, self.gradient - BACKWARD * self.compute)
        return max(self.input, self.compute + self.statistics + late)


def ring(devices: int, size: float, link: Link) -> float:
    """Time of a ring all-reduce: 2 (n - 1) (latency + size / (n bandwidth)).

    Args:
        devices: int n.
        size: float, bytes to reduce.
        link: `Link` between neighbours.

    Returns:
        float, seconds.
    """
    return 2 * (devices - 1) * (link.latency + size / (devices * link.bandwidth))


def tree(devices: int, size: float, link: Link) -> float:
    """Time of an all-reduce up and down a binary tree: 2 ceil(log2 n) (latency + size / bandwidth).

    Args:
        devices: int n.
        size: float, bytes to reduce.
        link: `Link` between a device and its parent.

    Returns:
        float, seconds.
    """
    return 2 * math.ceil(math.log2(devices)) * (link.latency + size / link.bandwidth)


def hierarchical(devices: int, size: float, machine: Machine) -> float:
    """Time of a reduce-scatter in each node, all-reduces of its parts between nodes, and an all-gather.

    With g devices a node, each device sends only 1 / g of the bytes to other nodes, over its own link.

    Args:
        devices: int, a multiple of a node's devices.
        size: float, bytes to reduce.
        machine: `Machine`, with a link between nodes.

    Returns:
        float, seconds.
    """
    nodes, part = devices // machine.devices_a_node, size / machine.devices_a_node
    between = min(ring(nodes, part, machine.between), tree(nodes, part, machine.between))
    return ring(machine.devices_a_node, size, machine.inside) + between


def all_reduce(devices: int, size: float, machine: Machine) -> float:
    """Time of the fastest of these all-reduces, as communication libraries choose.

    Args:
        devices: int, at most a node's devices, or a multiple of them.
        size: float, bytes to reduce.
        machine: `Machine`.

    Returns:
        float, seconds.

    Raises:
        ValueError: if the devices are not whole nodes, or more than one node without a link between
            nodes.
    """
    _check_devices(devices, machine)
    if devices <= machine.devices_a_node:
        ways = [way(devices, size, machine.inside) for way in (ring, tree)]
    else:
        ways = [way(devices, size, machine.between) for way in (ring, tree)]
        ways.append(hierarchical(devices, size, machine))
    return min(ways)


def step_time(cost: StepCost, machine: Machine, devices: int, batch_a_device: float) -> StepTime:
    """Predict the time of a training step.

    Args:
        cost: `zoo.step_cost.StepCost`.
        machine: `Machine`.
        devices: int, the devices that split the batch.
        batch_a_device: float, images on each device; the mean if devices have different numbers.

    Returns:
        `StepTime`.

    Raises:
        ValueError: if the batch is not positive, or `all_reduce` refuses the devices.
    """
    if not batch_a_device > 0:
        raise ValueError(f"batch_a_device must be > 0; got {batch_a_device}")
    return StepTime(
        compute=batch_a_device * cost.training_flops / (machine.peak * machine.share),
        statistics=sum(2 * all_reduce(devices, 4 * floats, machine) for floats in cost.statistics),
        gradient=all_reduce(devices, cost.gradient_bytes, machine),
        input=batch_a_device / machine.images_per_second,
    )


def _check_devices(devices, machine):
    if not (isinstance(devices, int) and devices >= 1):
        raise ValueError(f"devices must be an integer >= 1; got {devices!r}")
    if devices <= machine.devices_a_node:
        return
    if machine.between is None:
        raise ValueError(f"{devices} devices are more than the {machine.devices_a_node} of one node")
    if devices % machine.devices_a_node:
        raise ValueError(
            f"{devices} devices do not fill whole nodes; take a multiple of {machine.devices_a_node}"
        )
