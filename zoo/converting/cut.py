"""Where the shared part of a converted network ends: a layer's name, or a share of its MACs."""

from __future__ import annotations

from zoo.converting import graphs


def position(graph: graphs.Graph, tile_at: str | float) -> int:
    """The index of the first step that members need not share.

    Args:
        graph: a `Graph`.
        tile_at: str, the name of a layer or of a model inside, or "head"; or float in [0, 1], the share
            of all MACs that are computed once.

    Returns:
        int.

    Raises:
        ValueError: for an unknown layer, or a share out of range.
    """
    if isinstance(tile_at, str):
        return _of_name(graph, tile_at)
    if not (isinstance(tile_at, (int, float)) and 0 <= tile_at <= 1):
        raise ValueError(
            f"tile_at must be a layer's name or a share of the MACs in [0, 1]; got {tile_at!r}"
        )
    last = max((i for i, step in enumerate(graph.steps) if step.kernel), default=0)
    done, total = 0, sum(step.macs() for step in graph.steps)
    for index, step in enumerate(graph.steps):
        done += step.macs()
        if done > tile_at * total:
            return min(index, last)
    return last


def _of_name(graph, name):
    found = [i for i, step in enumerate(graph.steps) if name in step.path or name == step.name]
    if found:
        return found[0]
    if name == "head":
        return max((i for i, step in enumerate(graph.steps) if step.kernel), default=0)
    named = list(dict.fromkeys(step.name for step in graph.steps if step.kernel))
    shown = [*named[:3], "...", named[-1]] if len(named) > 6 else named
    raise ValueError(
        f"{graph.name} has no layer {name!r} for tile_at; there are {', '.join(shown) or 'none'}"
    )
