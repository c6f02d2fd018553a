"""The report of `zoo evaluate` as people meet it: in a browser, by keyboard, read aloud, as Markdown."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import zoo
from zoo.evaluation import charts
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.page import figures_table, number
from zoo.evaluation.svg import Axes, Series
from zoo.evaluation.tables import Table, tables

NAMES = ["single_lenet", "packed_lenet", "deep_ensemble_lenet"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(folder, results) of three models on 40 images of Fashion-MNIST; of foreign sets MNIST alone."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for name in ("fashion_mnist", "mnist"):
        images = rng.integers(0, 256, (40, 28, 28, 1), "uint8")
        np.savez(data / f"{name}.npz", x_test=images, y_test=np.arange(40) % 10)
    kinds = ("fog", "contrast")
    options = {"corrupted": 4, "progress": False, "rounds": 2, "kinds": kinds}
    return folder, evaluate(NAMES, "fashion_mnist", data, folder, **options)


@pytest.fixture(scope="module")
def page(report):
    return (report[0] / "report.html").read_text()


class Elements(html.parser.HTMLParser):
    """(tag, attributes, path of tags above it) of every element, and the text right inside it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        one = {"tag": tag, **dict(attributes), "above": [e["tag"] for e in self.open], "text": ""}
        self.found.append(one)
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self.open.append(one)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data

    def handle_endtag(self, tag):
        assert self.open[-1]["tag"] == tag, f"</{tag}> closes <{self.open[-1]['tag']}>"
        self.open.pop()

    def of(self, tag):
        return [one for one in self.found if one["tag"] == tag]


@pytest.mark.slow
def test_the_page_can_be_read_aloud_and_walked_by_keyboard(page):
    elements = Elements(page)
    assert not elements.open
    pictures = [one for one in elements.of("svg") if one.get("role") == "img"]
    assert len(pictures) == len(elements.of("figure")) == len(elements.of("desc")) >= 15
    assert all(one["aria-label"] for one in pictures)
    assert all(len(one["text"]) > 20 and "nan" not in one["text"] for one in elements.of("desc"))
    shown = [one for one in elements.of("table") if "details" not in one["above"]]
    assert len(elements.of("caption")) == len(shown) >= 10
    assert {one.get("scope") for one in elements.of("th")} == {"col", "row"}
    regions = [one for one in elements.of("div") if one.get("class") == "scroll"]
    assert len(regions) == len(elements.of("table"))
    assert all(
        one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in regions
    )
    assert all(one["alt"] for one in elements.of("img"))
    levels = [int(one["tag"][1]) for one in elements.found if re.fullmatch("h[1-6]", one["tag"])]
    assert levels[0] == 1 and levels.count(1) == 1 and max(np.diff(levels)) <= 1
    names = [one["id"] for one in elements.found if "id" in one]
    assert len(names) == len(set(names))
    targets = [one["href"][1:] for one in elements.of("a")]
    assert targets and set(targets) <= set(names)
    assert elements.of("html")[0]["lang"] == "en"


@pytest.mark.slow
def test_the_page_needs_no_network(page):
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page
    assert "url(" not in page and "@import" not in page
    assert 'name="viewport"' in page


PROBE = """
const text = [...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect());
const rgb = c => c.match(/[0-9.]+/g).slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const light = c => rgb(c).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const paper = light(getComputedStyle(document.body).backgroundColor);
const contrast = (e, key) => { const a = light(getComputedStyle(e)[key]);
  return (Math.max(a, paper) + .05) / (Math.min(a, paper) + .05); };
const least = (selector, key) => Math.min(...[...document.querySelectorAll(selector)].map(e => contrast(e, key)));
const regions = [...document.querySelectorAll('section > .scroll')];
const outline = e => { e.focus(); const s = getComputedStyle(e);
  return document.activeElement === e && s.outlineStyle === 'solid' && parseFloat(s.outlineWidth) >= 2; };
const svgs = [...document.querySelectorAll('figure svg[role=img]')];
parent.postMessage(JSON.stringify({
  width: innerWidth, dark: paper < .2,
  over: document.documentElement.scrollWidth - innerWidth,
  charts: svgs.filter(s => s.getBoundingClientRect().width > 100).length,
  cut: [...document.querySelectorAll('figure svg text')].filter(t => {
    const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
    return a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2 }).length,
  clash: svgs.flatMap(s => { const boxes = [...s.querySelectorAll('text')].map(t => t.getBoundingClientRect());
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right - 1 && b.left < a.right - 1
      && a.top < b.bottom - 2 && b.top < a.bottom - 2)) }).length,
  tables: regions.length, scrolls: regions.filter(r => r.scrollWidth > r.clientWidth).length,
  focus: [...regions, ...document.querySelectorAll('a:not(.skip), summary')].every(outline),
  ink: least('p, td, th, caption, figcaption, li, a, summary, h2', 'color'),
  drawn: Math.min(least('svg text:not(.strong)', 'fill'), least('svg .line', 'stroke')),
  loaded: performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length,
}), '*');
"""


def look(page, folder, width, dark):
    """What PROBE reports of the page in a frame of that width: Chromium has no windows below 500 pixels."""
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"))
    (folder / "host.html").write_text(
        "<!doctype html><meta name=color-scheme content='light dark'><script>"
        "onmessage = e => document.title = e.data</script>"
        f"<iframe src=page.html width={width} height=900 style='border:0'></iframe>"
    )
    dom = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000",
         f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000",
         f"--user-data-dir={folder}/profile", "--dump-dom", (folder / "host.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    return json.loads(re.search(r"<title>(.*?)</title>", dom).group(1))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False)])
def test_a_browser_shows_it(width, dark, page, tmp_path):
    seen = look(page, tmp_path, width, dark)
    assert (seen["width"], seen["dark"]) == (width, dark)
    assert seen["over"] <= 0 and seen["cut"] == 0 and seen["clash"] == 0
    assert seen["charts"] == page.count("<figure>") and seen["tables"] >= 10
    assert (seen["scrolls"] > 0) == (width == 390)
    assert seen["focus"] and seen["loaded"] == 0
    assert seen["ink"] >= 4.5 and seen["drawn"] >= 3


@pytest.mark.slow
def test_every_form_has_every_table(report, page):
    folder, results = report
    markdown = (folder / "report.md").read_text()
    for table in tables(results):
        row = table.rows[-1]
        cells = [number(value) for value in row[1]]
        assert f"| {row[0]} | {' | '.join(cells)} |" in markdown.replace(" ★", "")
        assert all(f">{cell}</td>" in page.replace("\u00a0", " ") for cell in cells)
        assert table.caption in markdown and table.caption in page
    sections = [table.section for table in tables(results)]
    assert len(set(sections)) == 6


@pytest.mark.slow
def test_cost_is_measured_and_worth_is_in_networks(report, page):
    results = report[1]
    for model in results["models"].values():
        assert list(model["latency"]) == ["1", "32"] and min(model["latency"].values()) > 0
    assert "Accuracy against milliseconds" in page and "CPU core" in page
    assert results["models"]["single_lenet"]["equivalent"] == {"networks": 1, "of": 4}
    assert "DEE" in page and not results["missing_equivalents"]


def test_stars_are_where_the_table_has_them_and_names_are_escaped():
    rows = [("<a>", [1.0, 2.0, 5.0]), ("b", [3.0, None, 5.0])]
    stars = frozenset({("<a>", "x"), ("c", "y")})
    html = figures_table(Table("s", "t", ["model", "x", "y", "z"], rows, ["down", "up", "up"], stars))
    assert "<a>" not in html and html.count('class="best"') == 1
    assert '<td class="best">1.0000</td>' in html
    text = figures_table(Table("s", "t", ["model", "DEE"], [("a", ["> 4"]), ("b", [1.0])], [None]))
    assert "&gt; 4" in text and "best" not in text


@pytest.mark.slow
def test_the_verdict_comes_first_then_photographs(report, page):
    elements = Elements(page)
    said = [one["text"] for one in elements.of("p") if one.get("class") == "verdict"]
    assert len(said) == 2 and all("single_lenet" in text and "95 % interval" in text for text in said)
    assert page.index('class="verdict"') < page.index("<nav") < page.index("<img") < page.index("<table")
    markdown = (report[0] / "report.md").read_text()
    assert markdown.splitlines()[2] == said[0]
    assert "Difference from the single network" in page and "[" in said[0]


@pytest.mark.slow
def test_photographs_have_the_names_of_the_models_classes(page):
    captions = [one["alt"] for one in Elements(page).of("img")]
    names = set(zoo.card("packed_lenet", "fashion_mnist").config["class_names"])
    said = [
        re.sub(r" \(\d\)", "", text).replace("; members say ", ", ").split(", ") for text in captions
    ]
    assert len(said) == 24 and {"T-shirt/top", "Ankle boot"} < names
    assert all(set(one) <= names and len(one) >= 2 for one in said)


def test_charts_that_stand_side_by_side_share_their_scale():
    rng = np.random.default_rng(0)
    groups = {name: [Series("in", rng.random(90) * top, None)] for name, top in (("a", 1), ("b", 2))}
    ticks = [re.findall('class="tick".*?>(.*?)<', drawn)
             for drawn in charts.histogram_charts(groups, "x")]  # fmt: skip
    assert ticks[0] == ticks[1] and len(ticks[0]) > 6
    weak = charts.matrix_chart("m", [[0, 0.1], [0.1, 0]], top=0.4)
    assert 'fill-opacity="0.250"' in weak


def test_reliability_diagrams_count_images():
    series = Series("m", np.array([0.3, 0.9]), np.array([0.5, 0.8]))
    axes = Axes("confidence", "accuracy", (0, 1), (0, 1))
    drawn = charts.reliability_chart("c", axes, series, [0, 1200, 0, 300])
    heights = [float(height) for height in re.findall(r'<rect .*?height="([\d.]+)"', drawn)]
    assert heights[0] == heights[2] == 0 and heights[1] == pytest.approx(4 * heights[3], abs=0.3)
    assert "at most 1,200" in drawn and "<td>300</td><td>0.9000</td><td>0.8000</td>" in drawn


def test_labels_of_one_place_are_laid_apart():
    series = [Series(f"a_long_name_{i}", np.array([5.0]), np.array([0.5]), i) for i in range(4)]
    points = [(200.0, 100.0)] * 4
    places = charts._label_places(series, points)
    shift = {"start": 0, "middle": 0.5, "end": 1}
    boxes = [(x - 93.6 * shift[a], y - 11, x + 93.6 * (1 - shift[a]), y + 3) for x, y, a in places]
    for i, a in enumerate(boxes):
        assert 0 <= a[0] and a[2] <= charts.WIDTH
        assert not any(charts._overlap(a, b) for b in boxes[i + 1 :])
    drawing = charts.scatter_chart("c", Axes("x", "y"), series)
    assert drawing.count('class="label"') == drawing.count("marker") == 4
    for (x, y, _), (at, base) in zip(places, [points[0]] * 4):  # beside the marker, or over its x
        assert abs(y - 4 - base) < 1 or abs(x - at) <= 5
    moved = sum(abs(y - 4 - 100) > 14 for _, y, _ in places)
    assert drawing.count('class="leader"') == moved
