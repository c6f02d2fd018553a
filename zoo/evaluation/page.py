"""`report.html`: one file that needs no network, no server and no script."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b2029; --quiet: #566072; --rule: #d5dae2;
  --panel: #f5f6f8; --s0: #1f5fa8; --s1: #b5470c; --s2: #1b7a45; --s3: #8a2f8f; --s4: #9c1f2e;
  --s5: #5d5a00; --s6: #0b6f78; --s7: #5b4bb7; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e9ee; --quiet: #a3adbb;
  --rule: #39414d; --panel: #1d2229; --s0: #79b4f2; --s1: #f2a06b; --s2: #74cf9b; --s3: #dc98e0;
  --s4: #f08a96; --s5: #d3cd5e; --s6: #66cfd8; --s7: #b3a6f7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
p { max-width: 46rem; } .quiet, caption, figcaption { color: var(--quiet); }
a { color: var(--s0); } a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--s0); outline-offset: 2px; }
.scroll:focus-visible { outline-offset: -3px; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .75rem 0; list-style: none; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem 2.5rem; }
.scroll { overflow-x: auto; margin: .75rem 0 1.5rem; } details .scroll { margin: 0; } table { border-collapse: collapse; font-size: .92rem; width: 100%; }
caption { text-align: left; padding: .3rem 0; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
thead th { color: var(--quiet); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
@media (max-width: 40rem) { th, td { padding: .3rem .45rem; } tbody th { white-space: normal; } }
td.wrap { white-space: normal; } td.best { font-weight: 700; } td.best::after { content: "\\2009\\2605"; color: var(--quiet); font-size: .75em; }
figure { margin: 0; min-width: 0; } figure svg[role=img] { width: 100%; max-width: 33rem; height: auto; display: block; }
figcaption { font-size: .95rem; padding: .25rem 0; }
summary { cursor: pointer; color: var(--quiet); font-size: .9rem; padding: .35rem 0; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .25rem 0; padding: 0;
  font-size: .88rem; } .legend .key { width: 34px; height: 10px; display: inline-block; margin-right: .4rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick { font-size: 11px; fill: var(--quiet); }
svg .grid { stroke: var(--rule); stroke-width: .7; } svg .guide { stroke: var(--quiet); stroke-dasharray: 4 4; }
svg .leader { stroke: var(--quiet); stroke-width: .8; } .key-note { margin: .1rem 0; font-size: .88rem; }
.verdict { font-size: 1.08rem; margin: .5rem 0; overflow-wrap: anywhere; }
svg .line { fill: none; stroke-width: 2; } svg .area { stroke: none; fill-opacity: .14; }
svg .cell { fill: var(--s0); stroke: var(--rule); } svg .strong { fill: var(--paper); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .9rem; padding: 0;
  list-style: none; font-size: .82rem; } .pictures img { width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--rule); display: block; }
""" + "".join(
    f"svg .line.s{i} {{ stroke: var(--s{i}); }} svg .area.s{i}, svg .marker.s{i} {{ fill: var(--s{i}); }}\n"
    for i in range(8)
)  # fmt: skip


def page(
    title: str, subtitle: str, sections: Sequence[tuple[str, str]], verdicts: Sequence[str] = ()
) -> str:
    """Return the whole HTML document.

    Args:
        title: str, plain text.
        subtitle: str, plain text.
        sections: (heading, HTML) pairs.
        verdicts: str, plain text sentences that come first. Default: none.

    Returns:
        A string.
    """
    links = "".join(f'<li><a href="#{_anchor(h)}">{escape(h)}</a></li>' for h, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{_anchor(h)}"><h2 id="{_anchor(h)}">{escape(h)}</h2>{html}</section>'
        for h, html in sections
    )
    said = "".join(f'<p class="verdict">{escape(sentence)}</p>' for sentence in verdicts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head><body>'
        f'<a class="skip" href="#main">Skip to the results</a><header><h1>{escape(title)}</h1>'
        f'{said}<p class="quiet">{escape(subtitle)}</p><nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f'<main id="main">{body}</main></body></html>\n'
    )


def paragraph(text: str) -> str:
    """Return the HTML of a paragraph.

    Args:
        text: str, plain text.

    Returns:
        A string.
    """
    return f"<p>{escape(text)}</p>"


def grid(figures: Iterable[str]) -> str:
    """Return the HTML of figures side by side, as many as fit.

    Args:
        figures: HTML strings.

    Returns:
        A string.
    """
    return f'<div class="grid">{"".join(figures)}</div>'


def figures_table(table: Any) -> str:
    """Return the HTML of a table, with stars where it has them.

    Args:
        table: a `zoo.evaluation.tables.Table`.

    Returns:
        A string.
    """
    arrows = {"up": "\u00a0↑", "down": "\u00a0↓", None: ""}
    titles = [table.head[0], *(name + arrows[way] for name, way in zip(table.head[1:], table.better))]
    cells = "".join(f'<th scope="col">{escape(title).replace("_", "_<wbr>")}</th>' for title in titles)
    body = ""
    for name, values in table.rows:
        body += f'<tr><th scope="row">{escape(name).replace("_", "_<wbr>")}</th>'
        for title, value in zip(table.head[1:], values):
            mark = ' class="best"' if (name, title) in table.stars else ""
            text = escape(number(value))
            if " [" in text:  # a difference and its interval, which stays in one line
                mark, text = ' class="wrap"', text.replace(", ", ",\u00a0")
            body += f"<td{mark}>{text}</td>"
        body += "</tr>"
    caption = escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def number(value: Any) -> str:
    """Format a number as tables show it.

    Counts are whole, other numbers have four decimals, six where small and two where large; text stays
    as it is.

    Args:
        value: number, str or None.

    Returns:
        A string; "-" for None.

    Example:
        >>> from zoo.evaluation.page import number
        >>> number(12345), number(0.5), number(12.5), number(None)
        ('12,345', '0.5000', '12.50', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.2f}"
    return f"{value:.6f}" if 0 < abs(value) < 0.01 else f"{value:.4f}"


def details(summary: str, html: str) -> str:
    """Return HTML that is folded away until the reader opens it.

    Args:
        summary: str, plain text that stays visible.
        html: str.

    Returns:
        A string.
    """
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def pictures(items: Iterable[tuple[np.ndarray, str]]) -> str:
    """Return the HTML of images with a text under each.

    Args:
        items: (uint8 array (H, W, C), text) pairs.

    Returns:
        A string.
    """
    cells = "".join(
        f'<li><img src="{_data_url(image)}" width="128" height="128" alt="{escape(text)}">{escape(text)}</li>'
        for image, text in items
    )
    return f'<ul class="pictures">{cells}</ul>'


def _data_url(image):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _anchor(heading):
    return "".join(c if c.isalnum() else "-" for c in heading.lower())
