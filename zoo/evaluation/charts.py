"""Charts as inline SVG that take their colours from the page, so that they are right in light and dark.

Every chart is a `<figure>` with a caption, a name and a description for screen readers and, folded away,
its numbers as a table.  Series differ by dash and marker as well as by colour.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from zoo.evaluation.svg import (
    BOTTOM,
    DASHES,
    HEIGHT,
    LEFT,
    TOP,
    WIDTH,
    Axes,
    Scale,
    Series,
    figure,
    legend,
    long_table,
    marker,
    span,
    table,
)  # fmt: skip


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
    scale = Scale.of(axes, series)
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
            parts += [marker(x, y, one.index) for x, y in points]
    said = [f"{one.name}: {axes.y} {span(one.y)} while {axes.x} goes {span(one.x)}" for one in series]
    return figure(caption, said, parts, legend(series), long_table(axes, series))


def scatter_chart(caption: str, axes: Axes, series: Sequence[Series]) -> str:
    """Draw one marker for each series, at its first point, with its name beside it.

    Args:
        caption: str.
        axes: `Axes`.
        series: `Series`.

    Returns:
        The HTML of a figure.
    """
    scale = Scale.of(axes, series)
    points = [scale.point(one.x[0], one.y[0]) for one in series]
    parts = [scale.frame(axes)]
    for one, (x, y), (at, base, anchor) in zip(series, points, _label_places(series, points)):
        if abs(base - 4 - y) > 14:  # not beside its marker: a line leads there
            end = base - 12 if base > y else base + 2
            parts.append(f'<line class="leader" x1="{x}" y1="{y}" x2="{x}" y2="{end:.1f}"/>')
        parts.append(marker(x, y, one.index))
        parts.append(
            f'<text class="label" x="{at:.1f}" y="{base:.1f}" text-anchor="{anchor}">{escape(one.name)}</text>'
        )
    said = [f"{one.name}: {axes.x} {one.x[0]:.4g}, {axes.y} {one.y[0]:.4g}" for one in series]
    return figure(caption, said, parts, "", long_table(axes, series))


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
    scale = Scale.of(axes, [series])
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
    parts += [marker(x, y, series.index) for x, y in points]
    most = int(counts.argmax())
    said = [
        f"{series.name}: {axes.y} {span(series.y)} while {axes.x} goes {span(series.x)}",
        f"most images, {counts[most]:,}, have a confidence from {edges[most]:.2f} to {edges[most + 1]:.2f}",
    ]
    filled = iter(zip(series.x, series.y))
    rows = []
    for low, high, count in zip(edges, edges[1:], counts):
        mean = [f"{value:.4f}" for value in next(filled)] if count else ["-", "-"]
        rows.append([f"{low:.2f} to {high:.2f}", f"{count:,}", *mean])
    numbers = table(["bin", "images", "confidence", "accuracy"], rows)
    key = f'<p class="quiet key-note">Bars: images in a bin, at most {counts[most]:,}.</p>'
    return figure(caption, said, parts, key, numbers)


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
    scale = Scale.of(axes, steps)
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
    return figure(caption, said, parts, legend(steps), numbers)


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
    said = [f"{size} members; pairs {span(np.sort(pairs))}"] if size > 1 else []
    numbers = table(["member", *map(str, range(size))], rows)
    return figure(caption, said, parts, "", numbers, height=TOP + 20 + size * cell)
