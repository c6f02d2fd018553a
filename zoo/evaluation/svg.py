"""The parts of a chart in SVG: scales, ticks, markers, legends, and the figure around them."""

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 12, 42
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2 1 2")
SHAPES = ("circle", "square", "diamond", "triangle")


@dataclasses.dataclass(frozen=True)
class Series:
    """The points of one model in a chart.

    Args:
        name: str, the model's.
        x: array (N,).
        y: array (N,).
        index: int, decides colour, dash and marker throughout a report. Default: 0.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    index: int = 0


@dataclasses.dataclass(frozen=True)
class Axes:
    """What the two axes of a chart show.

    Args:
        x: str, the horizontal axis's title.
        y: str, the vertical axis's title.
        xlim: (low, high). Default: None, from the data.
        ylim: (low, high). Default: None, from the data.
        log_x: bool, whether the horizontal axis is logarithmic. Default: False.
    """

    x: str
    y: str
    xlim: tuple | None = None
    ylim: tuple | None = None
    log_x: bool = False


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None) -> str:
    """Return an HTML table whose first column names its rows; cells are escaped.

    Args:
        head: titles of the columns.
        rows: sequences of cells.
        caption: str. Default: None.

    Returns:
        A string.
    """
    first, *others = map(escape, head)
    cells = "".join(f'<th scope="col">{name}</th>' for name in (first, *others))
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f"<td>{escape(str(value))}</td>" for value in row[1:])
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or "numbers")}">'
        f"<table>{title}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


@dataclasses.dataclass(frozen=True)
class Scale:
    """From data to the SVG's units.

    Args:
        xlim: (low, high) of the horizontal axis.
        ylim: (low, high) of the vertical axis.
        log_x: bool, whether the horizontal axis is logarithmic.
    """

    xlim: tuple
    ylim: tuple
    log_x: bool

    @classmethod
    def of(cls, axes: Axes, series: Sequence) -> Self:
        return cls(
            limits(axes.xlim, [one.x for one in series], axes.log_x),
            limits(axes.ylim, [one.y for one in series]),
            axes.log_x,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.xlim
        share = np.log(x / low) / np.log(high / low) if self.log_x else (x - low) / (high - low)
        up = (y - self.ylim[0]) / (self.ylim[1] - self.ylim[0])
        share, up = np.clip([share, up], -0.02, 1.02)
        return (
            round(float(LEFT + share * (WIDTH - LEFT - RIGHT)), 1),
            round(float(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)), 1),
        )

    def frame(self, axes: Axes) -> str:
        """Ticks with their grid lines, and the names of the axes.

        Args:
            axes: `Axes`.

        Returns:
            A string of SVG elements.
        """
        parts = []
        for value in ticks(self.xlim, self.log_x):
            x, _ = self.point(value, self.ylim[0])
            parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(
                f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">'
                f"{number(value)}</text>"
            )
        for value in ticks(self.ylim):
            _, y = self.point(self.xlim[0], value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(value)}</text>'
            )
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{escape(axes.x)}</text>"
            f'<text class="axis" text-anchor="middle" transform="translate(13 {middle}) rotate(-90)">'
            f"{escape(axes.y)}</text>"
        )
        return "".join(parts)


def limits(given: tuple | None, arrays: Iterable[ArrayLike], log: bool = False) -> tuple:
    """Return the limits of an axis: those given, or the range of the data with a margin.

    Args:
        given: (low, high), or None for the range of the data.
        arrays: arrays of numbers; those that are not finite do not count.
        log: bool, whether the axis is logarithmic. Default: False.

    Returns:
        (low, high).
    """
    if given is not None:
        return given
    values = np.concatenate([np.asarray(array, "float64") for array in arrays])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if log:
        return low / 1.5, high * 1.5
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(limits: tuple, log: bool = False) -> list[float]:
    """Return a few round numbers between two limits.

    Args:
        limits: (low, high) of the axis.
        log: bool, whether the axis is logarithmic. Default: False.

    Returns:
        List of floats in ascending order.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    locator = LogLocator(subs=(1, 2, 5), numticks=6) if log else MaxNLocator(5)
    values = locator.tick_values(*limits)
    inside = [value for value in values if limits[0] <= value <= limits[1] * (1 + 1e-9)]
    return inside[:: max(1, len(inside) // 6)]


def number(value: float) -> str:
    """Write the number of a tick, with k, M or G for thousands, millions and billions.

    Args:
        value: float.

    Returns:
        A string.
    """
    if abs(value) < 1e-12:
        return "0"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.4g}"


def marker(x: float, y: float, index: int) -> str:
    """Draw a marker in the shape and colour of a series.

    Args:
        x: float, its centre from the left, in the SVG's units.
        y: float, its centre from the top, in the SVG's units.
        index: int, the series's, which decides shape and colour.

    Returns:
        An SVG element, as a string.
    """
    shape = SHAPES[index % len(SHAPES)]
    style = f'class="marker s{index % 8}"'
    if shape == "circle":
        return f'<circle {style} cx="{x}" cy="{y}" r="4"/>'
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {style} points="{points}"/>'


def legend(series: Sequence[Series]) -> str:
    """List the names of series with their lines.

    Args:
        series: `Series`, in order.

    Returns:
        The HTML of a list; an empty string for fewer than two series.
    """
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 34 10" aria-hidden="true"><line class="line s{one.index % 8}" '
        f'x1="1" x2="33" y1="5" y2="5" stroke-dasharray="{DASHES[one.index % len(DASHES)]}"/></svg>'
        f"{escape(one.name)}</li>"
        for one in series
    )
    return f'<ul class="legend">{items}</ul>' if len(series) > 1 else ""


def long_table(axes: Axes, series: Sequence[Series], limit: int = 40) -> str:
    """Write the points of series as a table, evenly spread where there are too many.

    Args:
        axes: `Axes`, whose titles head the columns.
        series: `Series`.
        limit: int, the most points of each series. Default: 40.

    Returns:
        The HTML of a table.
    """
    rows = []
    for one in series:
        picks = np.unique(np.linspace(0, len(one.x) - 1, min(limit, len(one.x))).round().astype(int))
        rows += [[one.name, f"{one.x[i]:.5g}", f"{one.y[i]:.5g}"] for i in picks]
    return table(["model", axes.x, axes.y], rows)


def span(values: Sequence[float]) -> str:
    """Say from where to where some numbers go.

    Args:
        values: floats, in order; the first and the last count.

    Returns:
        A string, "nowhere" without values.
    """
    return f"from {values[0]:.4g} to {values[-1]:.4g}" if len(values) else "nowhere"


def figure(
    caption: str,
    said: Iterable[str],
    parts: Iterable[str],
    legend: str,
    numbers: str,
    height: float = HEIGHT,
) -> str:
    """Put a chart together.

    Args:
        caption: str, which is escaped.
        said: sentences (str) that describe the chart to screen readers; they are escaped.
        parts: SVG elements (str), not escaped.
        legend: HTML below the drawing, or an empty string.
        numbers: HTML of the table of numbers, which is folded away.
        height: float, of the drawing, in the SVG's units. Default: `HEIGHT`.

    Returns:
        The HTML of a figure.
    """
    name, description = escape(caption), escape("; ".join(said))
    return (
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{name}"><desc>{description}.</desc>{"".join(parts)}</svg>{legend}'
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )
