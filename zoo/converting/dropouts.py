"""Dropout layers that a network has of its own, for MC dropout with `rate=None`."""

from __future__ import annotations

import warnings

import keras

from zoo import methods
from zoo.converting import cut, graphs
from zoo.layers.monte_carlo import check_rate, noise_of
from zoo.layers.nested_layers import all_layers

_INSIDE = ("dropout", "recurrent_dropout")  # attributes of recurrent layers and their cells


def draws_own(method: methods.Method) -> bool:
    """Whether a method draws a network's own dropout layers.

    Args:
        method: a `Method`.

    Returns:
        bool.
    """
    return isinstance(method, methods.MCDropout) and method.rate is None


def start(graph: graphs.Graph, tile_at: str | float | None) -> int:
    """The index of the first step that members need not share, where they are draws of dropout layers.

    Args:
        graph: a `Graph`.
        tile_at: see `cut.position`; None for the input.

    Returns:
        int. Dropout right before a layer with a kernel goes with that layer.

    Raises:
        ValueError: for an unknown layer, or a share out of range.
    """
    index = 0 if tile_at is None else cut.position(graph, tile_at)
    if graph.steps[index].kernel:
        while index and not graph.steps[index - 1].weighted:
            index -= 1
    return index


def check(graph: graphs.Graph, first: int) -> None:
    """Check that a graph has dropout layers to draw, and warn of dropout that cannot be drawn.

    Args:
        graph: a `Graph`.
        first: int, the index of the first step that may be replaced.

    Raises:
        ValueError: if there are none from that step on, or one drops everything.
    """
    named = [step for step in graph.steps if noise_of(step.operation)]
    acting = [step for step in named if step.operation.rate]
    hidden = list(dict.fromkeys(step.name for step in graph.steps[first:] if _has_inside(step)))
    if not set(acting) & set(graph.steps[first:]):
        raise ValueError(
            f"{graph.name} {_missing(graph.steps[first], named, acting, hidden)}, and mc_dropout with rate=None "
            "draws these; pass a rate, such as MCDropout(4, rate=0.1)"
        )
    for step in acting:
        try:
            check_rate(step.operation.rate)
        except ValueError as error:
            raise ValueError(f"{step.name} cannot be drawn: {error}") from None
    if hidden:
        warnings.warn(
            f"the dropout inside {', '.join(hidden[:4])} stays off at inference: mc_dropout with rate=None draws "
            "only Dropout layers",
            stacklevel=5,
        )


def _missing(first, named, acting, hidden):
    """Why no dropout layer can be drawn."""
    if acting:
        return f"has no Dropout layer from {first.name} on (take an earlier tile_at)"
    if named:
        return f"has no Dropout layer with a rate above 0 (not {named[0].name})"
    return f"has dropout only inside {hidden[0]}" if hidden else "has no Dropout layer"


def _has_inside(step):
    """Whether a layer holds dropout that is not a step of the graph, as attention and recurrent layers may."""
    if not isinstance(step.operation, keras.Layer) or noise_of(step.operation):
        return False
    for layer in all_layers(step.operation):
        noise = noise_of(layer)
        rates = [noise["rate"]] if noise else [getattr(layer, name, 0) for name in _INSIDE]
        if any(isinstance(rate, (int, float)) and rate > 0 for rate in rates):
            return True
    return False
