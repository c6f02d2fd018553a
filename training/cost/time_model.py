"""How long a training step takes on many devices: a model from counts and a machine's parameters.

    t = max(input, compute + statistics + gradient not hidden behind the backward pass)

Compute is FLOPs by an achieved share of the peak; an exchange is latencies and bytes by bandwidth (the
alpha-beta model; Thakur, Rabenseifner & Gropp, Optimization of Collective Communication Operations in
MPICH, 2005).  Statistics of synchronised batch normalisations are waited for, layer by layer; gradients
can be reduced while the backward pass, two thirds of the compute, goes on.
"""

import dataclasses
import math

BACKWARD = 2 / 3  # share of a step's compute


@dataclasses.dataclass(frozen=True)
class Link:
    """A way between two devices: `latency` in seconds, `bandwidth` in bytes a second and direction."""

    latency: float
    bandwidth: float

    def __post_init__(self):
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(
                f"latency must be >= 0 and bandwidth > 0; got {self.latency} and {self.bandwidth}"
            )


@dataclasses.dataclass(frozen=True)
class Machine:
    """Equal devices in equal nodes.

    Args:
        peak: FLOP/s of a device.
        share: of the peak that training achieves, in (0, 1].
        devices_a_node: of which each has a way out of its own.
        inside: `Link` between devices of a node.
        between: `Link` from a device to one of another node; None for a single node.
        images_per_second: that the host prepares for a device; infinite by default.

    Raises:
        ValueError: for a number out of range.
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
    """Seconds that the parts of a step take: `compute`, `statistics`, `gradient` and `input`."""

    compute: float
    statistics: float
    gradient: float
    input: float

    @property
    def in_turn(self):
        """The step, with gradients exchanged after the backward pass."""
        return max(self.input, self.compute + self.statistics + self.gradient)

    @property
    def overlapped(self):
        """The step, with gradients exchanged during the backward pass as far as that lasts."""
        late = max(0.0, self.gradient - BACKWARD * self.compute)
        return max(self.input, self.compute + self.statistics + late)


def ring(devices, size, link):
    """Seconds of an all-reduce of `size` bytes: 2 (n - 1) (latency + size / (n bandwidth))."""
    return 2 * (devices - 1) * (link.latency + size / (devices * link.bandwidth))


def tree(devices, size, link):
    """Seconds of an all-reduce up and down a binary tree: 2 ceil(log2 n) (latency + size / bandwidth)."""
    return 2 * math.ceil(math.log2(devices)) * (link.latency + size / link.bandwidth)


def hierarchical(devices, size, machine):
    """Seconds of a reduce-scatter in each node, all-reduces of its parts between nodes, and an all-gather.

    With g devices a node each sends between nodes only 1 / g of the bytes, over its own way out.
    """
    nodes, part = devices // machine.devices_a_node, size / machine.devices_a_node
    between = min(ring(nodes, part, machine.between), tree(nodes, part, machine.between))
    return ring(machine.devices_a_node, size, machine.inside) + between


def all_reduce(devices, size, machine):
    """Seconds of the fastest of these, as communication libraries choose.

    Args:
        devices: in all; a node's or fewer, or whole nodes.
        size: bytes to reduce.
        machine: `Machine`.

    Raises:
        ValueError: for devices that are no whole nodes, or more than one node without a link.
    """
    _check_devices(devices, machine)
    if devices <= machine.devices_a_node:
        ways = [way(devices, size, machine.inside) for way in (ring, tree)]
    else:
        ways = [way(devices, size, machine.between) for way in (ring, tree)]
        ways.append(hierarchical(devices, size, machine))
    return min(ways)


def step_time(cost, machine, devices, batch_a_device):
    """Seconds of a training step.

    Args:
        cost: `zoo.training.cost.step_cost.StepCost`.
        machine: `Machine`.
        devices: that share the batch out.
        batch_a_device: images; a fraction is taken for the mean.

    Returns:
        `StepTime`.

    Raises:
        ValueError: for a batch of 0 or less, and as `all_reduce`.
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
            f"{devices} devices are no whole nodes; take a multiple of {machine.devices_a_node}"
        )
