"""Charts as inline SVG that take their colours from the page, so that they are right in light and dark.

Every chart is a `<figure>` with a caption, a name and a description for screen readers and, folded away,
its numbers as a table.  Series differ by dash and marker as well as by colour.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

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


def line_chart(
    caption: str, axes: Axes, series: Sequence[Series], diagonal: bool = False, markers: bool = False
) -> str:
    """Draw lines.

    Args:
        caption: str.
        axes: `Axes`.
        series: `Series`, one for each line.
        diagonal: bool, whether to add the line y = x. Default: False.
        markers: bool, whether to mark the points. Default: False.

    Returns:
        The HTML of a figure.
    """
    scale = _Scale.of(axes, series)
    parts = [scale.frame(axes)]
    if diagonal:
        (x0, y0), (x1, y1) = (scale.point(v, v) for v in (scale.xlim[0], scale.xlim[1]))
        parts.append(f'<line class="guide" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    for one in series:
        points = [scale.point(x, y) for x, y in zip(one.x, one.y) if np.isfinite(x) and np.isfinite(y)]
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = DASHES[one.index % len(DASHES)]
        parts.append(
            f'<polyline class="line s{one.index % 8}" stroke-dasharray="{dash}" points="{path}"/>'
        )
        if markers:
            parts += [_marker(x, y, one.index) for x, y in points]
    said = [f"{one.name}: {axes.y} {_span(one.y)} while {axes.x} goes {_span(one.x)}" for one in series]
    return _figure(caption, said, parts, _legend(series), _long_table(axes, series))


def scatter_chart(caption: str, axes: Axes, series: Sequence[Series]) -> str:
    """Draw one marker for each series, at its first point, with its name beside it.

    Args:
        caption: str.
        axes: `Axes`.
        series: `Series`.

    Returns:
        The HTML of a figure.
    """
    scale = _Scale.of(axes, series)
    points = [scale.point(one.x[0], one.y[0]) for one in series]
    parts = [scale.frame(axes)]
    for one, (x, y), (at, base, anchor) in zip(series, points, _label_places(series, points)):
        if abs(base - 4 - y) > 14:  # not beside its marker: a line leads there
            end = base - 12 if base > y else base + 2
            parts.append(f'<line class="leader" x1="{x}" y1="{y}" x2="{x}" y2="{end:.1f}"/>')
        parts.append(_marker(x, y, one.index))
        parts.append(
            f'<text class="label" x="{at:.1f}" y="{base:.1f}" text-anchor="{anchor}">{escape(one.name)}</text>'
        )
    said = [f"{one.name}: {axes.x} {one.x[0]:.4g}, {axes.y} {one.y[0]:.4g}" for one in series]
    return _figure(caption, said, parts, "", _long_table(axes, series))


def _label_places(series, points):
    """(x, y, anchor) of a label by each point, clear of markers and of each other if there is room.

    Labels are beside, above or below their marker; those that find no room there are moved up or down, and
    stay over the marker's x, from which a line leads to them.
    """
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    places = []
    for one, (x, y) in zip(series, points):
        width = 7.2 * len(one.name)
        beside = ((x + 9, "start", 0), (x - 9, "end", width))
        above = ((x, "middle", width / 2), (x + 5, "end", width), (x - 5, "start", 0))
        choices = [(at, y + 4, anchor, at - before) for at, anchor, before in beside]
        choices += [(at, y + 4 + down, anchor, at - before)
                    for down in (-13, 13, -26, 26, -39, 39) for at, anchor, before in above]  # fmt: skip
        boxes = [(left, base - 11, left + width, base + 3) for _, base, _, left in choices]
        clashes = [
            sum(_overlap(box, other) for other in taken)
            + 10 * (box[0] < LEFT or box[2] > WIDTH or box[1] < TOP - 8 or box[3] > HEIGHT - BOTTOM + 2)
            for box in boxes
        ]
        best = int(np.argmin(clashes))
        taken.append(boxes[best])
        places.append(choices[best][:3])
    return places


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def reliability_chart(
    caption: str, axes: Axes, series: Series, counts: ArrayLike, edges: Sequence[float] | None = None
) -> str:
    """Draw accuracy against confidence, over the number of images in each bin of the confidence.

    Args:
        caption: str.
        axes: `Axes`, both from 0 to 1.
        series: `Series`, the mean confidence and accuracy of the bins that are not empty.
        counts: int array (n,), images in each of n bins of equal width.
        edges: n + 1 bounds of the bins. Default: None, of equal width.

    Returns:
        The HTML of a figure.
    """
    counts = np.asarray(counts)
    edges = np.linspace(0, 1, len(counts) + 1) if edges is None else np.asarray(edges)
    scale = _Scale.of(axes, [series])
    parts = [scale.frame(axes)]
    tallest = 0.3 / max(counts.max(), 1)  # of the height
    for low, high, count in zip(edges, edges[1:], counts):
        (left, top), (right, bottom) = scale.point(low, count * tallest), scale.point(high, 0)
        parts.append(
            f'<rect class="area s{series.index % 8}" x="{left + 1:.1f}" y="{top:.1f}" '
            f'width="{right - left - 2:.1f}" height="{bottom - top:.1f}"/>'
        )
    (x0, y0), (x1, y1) = scale.point(0, 0), scale.point(1, 1)
    parts.append(f'<line class="guide" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    points = [scale.point(x, y) for x, y in zip(series.x, series.y)]
    path = " ".join(f"{x},{y}" for x, y in points)
    parts.append(f'<polyline class="line s{series.index % 8}" points="{path}"/>')
    parts += [_marker(x, y, series.index) for x, y in points]
    most = int(counts.argmax())
    said = [
        f"{series.name}: {axes.y} {_span(series.y)} while {axes.x} goes {_span(series.x)}",
        f"most images, {counts[most]:,}, have a confidence from {edges[most]:.2f} to {edges[most + 1]:.2f}",
    ]
    filled = iter(zip(series.x, series.y))
    rows = []
    for low, high, count in zip(edges, edges[1:], counts):
        mean = [f"{value:.4f}" for value in next(filled)] if count else ["-", "-"]
        rows.append([f"{low:.2f} to {high:.2f}", f"{count:,}", *mean])
    numbers = table(["bin", "images", "confidence", "accuracy"], rows)
    key = f'<p class="quiet key-note">Bars: images in a bin, at most {counts[most]:,}.</p>'
    return _figure(caption, said, parts, key, numbers)


def histogram_charts(charts: dict[str, Sequence[Series]], xlabel: str, bins: int = 30) -> list[str]:
    """Draw outlined histograms on common bins and scales, each normalised to its own size.

    Args:
        charts: {caption: `Series` whose x are the values; y is ignored}.
        xlabel: str, the horizontal axis's title.
        bins: int >= 1. Default: 30.

    Returns:
        The HTML of a figure for each.
    """
    values = np.concatenate([group.x for groups in charts.values() for group in groups])
    edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), bins + 1)
    steps = {caption: [_steps(group, edges) for group in groups] for caption, groups in charts.items()}
    tallest = max(step.y.max() for drawn in steps.values() for step in drawn) or 1
    axes = Axes(xlabel, "share of images", (edges[0], edges[-1]), (0, tallest))
    return [
        _histogram(caption, axes, edges, groups, steps[caption]) for caption, groups in charts.items()
    ]


def _steps(group, edges):
    share = np.histogram(group.x, edges)[0] / max(len(group.x), 1)
    return Series(group.name, np.repeat(edges, 2), np.r_[0, np.repeat(share, 2), 0], group.index)


def _histogram(caption, axes, edges, groups, steps):
    scale = _Scale.of(axes, steps)
    parts = [scale.frame(axes)]
    for step in steps:
        path = " ".join("{},{}".format(*scale.point(x, y)) for x, y in zip(step.x, step.y))
        dash = DASHES[step.index % len(DASHES)]
        parts.append(f'<polygon class="area s{step.index % 8}" points="{path}"/>')
        parts.append(
            f'<polyline class="line s{step.index % 8}" stroke-dasharray="{dash}" points="{path}"/>'
        )
    rows = [[f"{edges[i]:.3g} to {edges[i + 1]:.3g}", *(f"{s.y[2 * i + 1]:.4f}" for s in steps)]
            for i in range(len(edges) - 1)]  # fmt: skip
    said = [f"{group.name}: {axes.x} {group.x.mean():.3g} on average" for group in groups]
    numbers = table([axes.x, *(s.name for s in steps)], rows)
    return _figure(caption, said, parts, _legend(steps), numbers)


def matrix_chart(caption: str, values: ArrayLike, top: float | None = None) -> str:
    """Draw a square matrix of shares, darker for more, with its values in the cells.

    Args:
        caption: str.
        values: float array (M, M), in [0, 1].
        top: float, the value that is darkest. Default: None, the highest.

    Returns:
        The HTML of a figure.
    """
    values = np.asarray(values, "float64")
    size = len(values)
    cell = min(56, (WIDTH - LEFT) / size)
    top = max(values.max() if top is None else top, 1e-12)
    parts = []
    for i, j in np.ndindex(size, size):
        x, y = LEFT + j * cell, TOP + 14 + i * cell
        strength = values[i, j] / top
        parts.append(
            f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{cell - 2:.1f}" height="{cell - 2:.1f}" '
            f'fill-opacity="{strength:.3f}"/>'
        )
        if size <= 8:
            ink = " strong" if strength > 0.55 else ""
            parts.append(
                f'<text class="label{ink}" x="{x + cell / 2 - 1:.1f}" y="{y + cell / 2 + 4:.1f}" '
                f'text-anchor="middle">{values[i, j]:.3f}</text>'
            )
    for i in range(size):
        at = i * cell + cell / 2
        parts.append(
            f'<text class="tick" x="{LEFT + at:.1f}" y="{TOP + 8}" text-anchor="middle">{i}</text>'
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{TOP + 18 + at:.1f}" text-anchor="end">{i}</text>'
        )
    rows = [[str(i), *(f"{value:.4f}" for value in row)] for i, row in enumerate(values)]
    pairs = values[~np.eye(size, dtype=bool)]
    said = [f"{size} members; pairs {_span(np.sort(pairs))}"] if size > 1 else []
    numbers = table(["member", *map(str, range(size))], rows)
    return _figure(caption, said, parts, "", numbers, height=TOP + 20 + size * cell)


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
class _Scale:
    """From data to the SVG's units."""

    xlim: tuple
    ylim: tuple
    log_x: bool

    @classmethod
    def of(cls, axes, series):
        return cls(
            _limits(axes.xlim, [one.x for one in series], axes.log_x),
            _limits(axes.ylim, [one.y for one in series]),
            axes.log_x,
        )

    def point(self, x, y):
        low, high = self.xlim
        share = np.log(x / low) / np.log(high / low) if self.log_x else (x - low) / (high - low)
        up = (y - self.ylim[0]) / (self.ylim[1] - self.ylim[0])
        share, up = np.clip([share, up], -0.02, 1.02)
        return (
            round(float(LEFT + share * (WIDTH - LEFT - RIGHT)), 1),
            round(float(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)), 1),
        )

    def frame(self, axes):
        """Ticks with their grid lines, and the names of the axes."""
        parts = []
        for value in _ticks(self.xlim, self.log_x):
            x, _ = self.point(value, self.ylim[0])
            parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(
                f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">'
                f"{_number(value)}</text>"
            )
        for value in _ticks(self.ylim):
            _, y = self.point(self.xlim[0], value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(value)}</text>'
            )
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{escape(axes.x)}</text>"
            f'<text class="axis" text-anchor="middle" transform="translate(13 {middle}) rotate(-90)">'
            f"{escape(axes.y)}</text>"
        )
        return "".join(parts)


def _limits(given, arrays, log=False):
    if given is not None:
        return given
    values = np.concatenate([np.asarray(array, "float64") for array in arrays])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if log:
        return low / 1.5, high * 1.5
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(limits, log=False):
    from matplotlib.ticker import LogLocator, MaxNLocator

    locator = LogLocator(subs=(1, 2, 5), numticks=6) if log else MaxNLocator(5)
    values = locator.tick_values(*limits)
    inside = [value for value in values if limits[0] <= value <= limits[1] * (1 + 1e-9)]
    return inside[:: max(1, len(inside) // 6)]


def _number(value):
    if abs(value) < 1e-12:
        return "0"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.4g}"


def _marker(x, y, index):
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


def _legend(series):
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 34 10" aria-hidden="true"><line class="line s{one.index % 8}" '
        f'x1="1" x2="33" y1="5" y2="5" stroke-dasharray="{DASHES[one.index % len(DASHES)]}"/></svg>'
        f"{escape(one.name)}</li>"
        for one in series
    )
    return f'<ul class="legend">{items}</ul>' if len(series) > 1 else ""


def _long_table(axes, series, limit=40):
    rows = []
    for one in series:
        picks = np.unique(np.linspace(0, len(one.x) - 1, min(limit, len(one.x))).round().astype(int))
        rows += [[one.name, f"{one.x[i]:.5g}", f"{one.y[i]:.5g}"] for i in picks]
    return table(["model", axes.x, axes.y], rows)


def _span(values):
    """From the first to the last of some numbers, in words."""
    return f"from {values[0]:.4g} to {values[-1]:.4g}" if len(values) else "nowhere"


def _figure(caption, said, parts, legend, numbers, height=HEIGHT):
    """`said` are the sentences of the description."""
    name, description = escape(caption), escape("; ".join(said))
    return (
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{name}"><desc>{description}.</desc>{"".join(parts)}</svg>{legend}'
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )
