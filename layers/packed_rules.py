"""Width and number of groups of a Packed-Ensemble's layers (Laurent et al., arXiv 2210.09184)."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from zoo.layers.argument_checks import check_count, check_number
from zoo.layers.tiling import check_members

ROLES = {"stem": "stem", "first": "stem", "hidden": "hidden", "shortcut": "hidden",
         "head": "head", "last": "head"}  # fmt: skip


def packed_role(role: str) -> str:
    """The kind of layer that a role means.

    Args:
        role: str, "stem" or "first", "hidden" or "shortcut", "head" or "last".

    Returns:
        "stem", "hidden" or "head".

    Raises:
        ValueError: for an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}; got {role!r}")
    return ROLES[role]


def packed_channels(channels: int, num_members: int, alpha: float, role: str = "hidden") -> int:
    """Output channels of all members: int(channels * alpha), in the head channels * num_members.

    Args:
        channels: int, output channels of the single network's layer.
        num_members: int, the number of members M.
        alpha: float > 0, the width of all members together, in single networks.
        role: str, see `packed_role`. Default: "hidden".

    Returns:
        int.

    Raises:
        ValueError: for an unknown role.
    """
    factor = num_members if packed_role(role) == "head" else alpha
    return int(channels * factor)


def packed_groups(
    inputs: int, outputs: int, num_members: int, gamma: int = 1, role: str = "hidden",
    minimum_channels: int | None = 64,
) -> int:  # fmt: skip
    """The number of groups in a packed layer, by the published rule.

    The stem has one group, because every member sees the whole input. Other layers have gamma *
    num_members. gamma is lowered one by one, not below 1, while the input channels are not divisible by
    that number or leave fewer than `minimum_channels` per group.

    Args:
        inputs: int, input channels of all members together.
        outputs: int, output channels of all members together.
        num_members: int, the number of members M.
        gamma: int >= 1, groups inside each member. Default: 1.
        role: str, see `packed_role`. Default: "hidden".
        minimum_channels: int, or None never to lower gamma. The reference uses 64 in convolutions and
            None in dense layers. Default: 64.

    Returns:
        int.

    Raises:
        ValueError: if the channels are not divisible by the groups, or for an unknown role.
    """
    if packed_role(role) == "stem":
        if outputs % num_members:
            raise ValueError(_indivisible("output", outputs, num_members, "num_members"))
        return 1
    if minimum_channels:
        while gamma > 1 and (
            inputs % (gamma * num_members) or inputs // (gamma * num_members) < minimum_channels
        ):
            gamma -= 1
    groups = gamma * num_members
    for kind, channels in (("input", inputs), ("output", outputs)):
        if channels % groups:
            raise ValueError(
                _indivisible(kind, channels, groups, f"gamma * num_members = {gamma} * {num_members}")
            )
    return groups


def _indivisible(kind, channels, groups, what):
    below, above = channels // groups * groups, -(-channels // groups) * groups
    nearest = f"{below} or {above}" if below else str(above)
    return (
        f"{channels} {kind} channels are not divisible by {groups} ({what}); choose alpha or the layer's "
        f"size so that all members together have {nearest}"
    )


def per_group(initializer: Any, shape: Sequence[int], dtype: str | None) -> Any:
    """Initialise (G, *shape) group by group: fan-in and fan-out of one group, and other values in each.

    Keras initialisers draw the same numbers at every call, so each group gets its own seed.

    Args:
        initializer: `keras.initializers.Initializer`, or a function of a shape and a dtype.
        shape: sequence of int that begins with the number of groups G.
        dtype: str.

    Returns:
        Tensor of that shape.
    """
    groups, *shape = shape
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return ops.stack([initializer(shape, dtype=dtype) for _ in range(groups)])
    config = initializer.get_config()
    draws = [
        type(initializer).from_config({**config, "seed": (seed + 1_000_003 * group) % 2**31})
        for group in range(groups)
    ]
    return ops.stack([draw(shape, dtype=dtype) for draw in draws])


def check_packed(num_members: int, alpha: float, gamma: int) -> None:
    """Check the arguments of packed layers.

    Args:
        num_members: int >= 1, M.
        alpha: float > 0.
        gamma: int >= 1.

    Raises:
        ValueError: for an argument out of range.
    """
    check_members(num_members)
    check_number(alpha, "alpha", "a number > 0", lambda a: 0 < a < math.inf)
    check_count(gamma, "gamma")
