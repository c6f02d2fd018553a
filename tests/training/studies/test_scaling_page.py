"""The page on scaling: every number between marks, from counts, measured and assumed parameters."""

import json

import keras
import pytest

from helpers.paths import ROOT
from zoo.training import marked_sections
from zoo.training.studies import scaling, scaling_picture, scaling_predictions, scaling_tables

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def parameters():
    """What was measured for the committed page."""
    return json.loads((DOCS / "scaling_parameters.json").read_text())


@pytest.fixture(scope="module")
def counted():
    """Counts of two small networks in place of the page's."""
    zeros = keras.initializers.Zeros()
    with pytest.MonkeyPatch.context() as patch:
        draw = "keras.initializers.VarianceScaling.__call__"
        patch.setattr(draw, lambda self, *args, **options: zeros(*args, **options))
        sizes = (("lenet", (16, 16, 3), 3, 1000, 4096),) * 2
        patch.setattr(scaling_predictions, "NETWORKS", dict(zip(scaling_predictions.NETWORKS, sizes)))
        return {name: scaling_predictions.costs(name) for name in scaling_predictions.NETWORKS}


@pytest.fixture
def page(tmp_path):
    """A copy of the committed page."""
    path = tmp_path / "scaling.md"
    path.write_text((DOCS / "scaling.md").read_text())
    return path


@pytest.mark.slow
def test_every_section_of_the_page_is_filled(page, counted, parameters):
    sections = scaling_tables.sections(counted, parameters)
    marked_sections.fill(page, scaling.COMMAND, sections)
    text = page.read_text()
    assert text.count(": made by zoo.training.studies.scaling -->") == len(sections)
    for content in sections.values():
        assert content in text and not {"nan", "inf"} & set(content.replace("/", " ").split())
    marked_sections.fill(page, scaling.COMMAND, sections)
    assert page.read_text() == text


def test_sections_without_marks_are_refused(page, raises_line):
    page.write_text(page.read_text().replace("<!-- end of check -->", ""))
    before = page.read_text()
    with raises_line(ValueError, "end of check"):
        marked_sections.fill(page, scaling.COMMAND, {"assumed": "new", "check": "new"})
    assert page.read_text() == before


def test_the_committed_page_is_made_from_the_committed_parameters(parameters):
    text = (DOCS / "scaling.md").read_text()
    tables = (scaling_tables.links, scaling_tables.compute, scaling_tables.check)
    for made in (*(table(parameters) for table in tables), scaling_tables.assumed()):
        assert made in text


@pytest.mark.slow
def test_separate_members_exchange_nothing_on_as_many_devices_as_members(counted):
    of = counted["ResNet-50 at 224"]
    for devices in (1, 2, 4):
        assert scaling_predictions.efficiencies(of, "deep_ensemble, members apart", devices, 8, 0.4) == (
            1,
            1,
        )
    apart = scaling_predictions.times(of, "deep_ensemble, members apart", 64, 8, 0.4)
    together = scaling_predictions.times(of, "deep_ensemble", 64, 8, 0.4)
    assert apart.compute == pytest.approx(together.compute)  # the same work for the same global batch
    assert apart.gradient < together.gradient


@pytest.mark.slow
def test_a_lower_share_of_the_peak_scales_better_and_takes_longer(counted):
    of = counted["ResNet-50 at 224"]
    for name in scaling_predictions.PREDICTED:
        slow, fast = (scaling_predictions.times(of, name, 64, 32, share) for share in (0.2, 0.4))
        assert slow.in_turn > fast.in_turn and slow.overlapped > fast.overlapped
        slow, fast = (scaling_predictions.efficiencies(of, name, 64, 32, s) for s in (0.2, 0.4))
        assert slow[0] > fast[0] and fast[0] <= fast[1] <= 1


def test_measured_parameters_are_whole(parameters):
    for of in parameters["exchange"].values():
        assert of["bytes"] == sorted(of["bytes"]) and len(of["bytes"]) == len(of["seconds"])
        assert of["latency"] >= 0 and of["bandwidth"] > 0
    for cores in ("one_core", "two_cores"):
        assert parameters["compute"][cores].keys() == parameters["compute"]["methods"].keys()


@pytest.mark.slow
def test_the_picture_is_drawn(tmp_path, counted):
    path = scaling_picture.draw(tmp_path / "scaling.png", counted)
    assert path.read_bytes().startswith(b"\x89PNG")
