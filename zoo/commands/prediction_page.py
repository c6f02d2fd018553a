"""A page of thumbnails, the least certain first: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import os
import pathlib
from typing import Any

import numpy as np

from zoo.data import pixels
from zoo.uncertainty import Prediction

SIDE = 320  # pixels of a thumbnail's longer side
EMPTY = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --soft: #5d6675; --line: #dfe3e8; --card: #fff; --page: #f6f7f9;
  --sure: #1a7f4b; --ask: #b4540a; --bar: #2f6db5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #a3acba; --line: #363c48; --card: #20242c;
  --page: #16191f; --sure: #5cc48d; --ask: #f0a35e; --bar: #7fb0e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.2rem; background: var(--page); color: var(--ink);
  font: 16px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
p { margin: 0 0 1rem; color: var(--soft); }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(160px, 100%), 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; display: flex;
  flex-direction: column; }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--line); display: block; }
li > div { padding: .5rem .65rem .65rem; }
b { overflow-wrap: anywhere; }
.bar { height: .4rem; margin: .3rem 0; border-radius: 3px; background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); }
small { display: block; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
.answer, .ask { display: block; font-size: .8rem; font-weight: 600; }
.answer { color: var(--sure); }
.ask { color: var(--ask); }
@media (max-width: 420px) { ul { grid-template-columns: 1fr 1fr; } }
"""


def write(
    prediction: Prediction, decisions: list[str] | None, path: str | os.PathLike, title: str
) -> None:
    """Write a page of the images that a prediction is about, by falling entropy.

    Args:
        prediction: a `Prediction` with `paths`.
        decisions: N strings. Default: None, none is shown.
        path: str or path of the HTML file to write.
        title: str, the model's name.
    """
    order = np.argsort(-prediction.entropy, kind="stable")
    cards = "\n".join(_card(prediction, int(i), decisions and decisions[i]) for i in order)
    text = f"{len(prediction)} images, least certain first."
    if decisions:
        answered = sum(decision == "answer" for decision in decisions)
        text += f" {answered} answered by the model, {len(decisions) - answered} for a person."
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}: {len(prediction)} images</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>{text}</p>\n<ul>\n{cards}\n</ul>\n</html>\n"
    )
    pathlib.Path(path).write_text(page, encoding="utf-8", errors="replace")
    print(pathlib.Path(path))


def _card(prediction, index, decision):
    path, kind = pathlib.Path(prediction.paths[index]), "" if prediction.class_names else "class "
    (name, p), *others = [(f"{kind}{name}", p) for name, p in prediction.top(3)[index]]
    badge = ""
    if decision:
        badge = f'<span class="{decision.split()[0]}">{html.escape(decision)}</span>'
    choices = prediction.members[index].argmax(axis=-1)
    agreeing = int((choices == prediction.labels[index]).sum())
    votes = f"{agreeing} of {len(choices)} members agree, " if len(choices) > 1 else ""
    then = ", ".join(f"{html.escape(other)} {q:.0%}" for other, q in others)
    return (
        f'<li><img alt="{html.escape(path.name)}" loading="lazy" src="{_thumbnail(path)}"><div>'
        f'<b>{html.escape(name)}</b> {p:.0%}{badge}<div class="bar"><i style="width: {p:.1%}"></i></div>'
        f"<small>then {then}</small>"
        f"<small>{votes}entropy {prediction.entropy[index]:.2f} nats</small>"
        f"<small>{html.escape(path.parent.name)}/{html.escape(path.name)}</small>"
        f"{'<small>stored turned, which is how the model sees it</small>' if pixels.is_turned(path) else ''}</div></li>"
    )


def _thumbnail(path: Any) -> str:
    """A JPEG of the image in a data URI; an empty picture of what Pillow cannot read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (SIDE, SIDE))
            image = Image.fromarray(pixels.from_pillow(image, 3))
    except Exception:  # whatever Pillow raises, such as of more pixels than it takes
        return EMPTY
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
