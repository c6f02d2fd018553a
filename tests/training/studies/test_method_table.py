"""The table of methods from a report of `zoo evaluate`: seeds together, empty columns left out."""

import json

import pytest

from zoo.training.studies import method_table


def _model(name, nll, **more):
    figures = {"accuracy": 0.9, "nll": nll, "ece": 0.01, "disagreement": None}
    return {
        "name": name, "members": 1, "parameters": 1000, "macs": 2_000_000, "figures": figures,
        "calibrated": {"nll": nll / 2, "ece": 0.005}, "equivalent": None, "latency": {"1": 4.0},
        "corruption_means": {}, "ood": [], **more,
    }  # fmt: skip


def _ood(group, auroc):
    return {"group": group, "scores": {"entropy": {"auroc": auroc}}}


@pytest.fixture
def report():
    """Two seeds of one model, one of another, and one of another backbone."""
    models = [
        _model("single_lenet", 0.4, ood=[_ood("near", 0.8), _ood("near", 0.9), _ood("far", 0.7)]),
        _model("single_lenet", 0.6, ood=[_ood("near", 0.8), _ood("near", 0.9), _ood("far", 0.7)]),
        _model("packed_lenet", 0.3, updates=1400, equivalent={"networks": 2.25, "of": 3}),
        _model("packed_mlp", 0.1),
    ]
    return {"dataset": "mnist", "models": {str(i): model for i, model in enumerate(models)}}


def test_seeds_of_a_model_are_one_row_with_mean_and_deviation(report):
    packed, single = method_table.rows(report, "lenet")
    assert (packed["name"], packed["seeds"]) == ("packed_lenet", 1)
    assert (single["name"], single["seeds"]) == ("single_lenet", 2)
    assert single["values"]["NLL"] == pytest.approx((0.5, 0.2 / 2**0.5))
    assert single["values"]["AUROC near"][0] == pytest.approx(0.85)
    assert packed["values"]["NLL"] == (0.3, None) and packed["values"]["DEE"] == (2.25, None)


def test_the_table_leaves_out_what_nobody_measured(report):
    text = method_table.table(method_table.rows(report, "lenet"))
    head, _, packed, single = text.splitlines()
    assert "corrupted" not in head and "disagreement" not in head and "AUROC far" in head
    assert packed.startswith("| `packed_lenet` | 1 | 1 | 1,400 |") and "| 2.2 |" in packed
    assert single.startswith("| `single_lenet` | 1 | 2 |  |")
    assert "| 0.3000 |" in packed and "| 0.5000 ± 0.1414 |" in single and single.endswith("| 4.0 |")
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_command_fills_a_page_and_draws(report, tmp_path, monkeypatch, capsys):

    (tmp_path / "report.json").write_text(json.dumps(report))
    page = tmp_path / "results.md"
    begin = f"<!-- mnist lenet: made by {method_table.COMMAND} -->"
    page.write_text(f"{begin}\n<!-- end of mnist lenet -->\n")
    given = {"report": str(tmp_path / "report.json"), "backbone": "lenet", "page": str(page)}
    monkeypatch.setattr(method_table, "FLAGS", type("Flags", (), given))
    method_table.main(["method_table"])
    assert "`packed_lenet`" in page.read_text() and (tmp_path / "mnist_lenet.png").stat().st_size > 1000
    monkeypatch.setattr(method_table.FLAGS, "backbone", "resnet18")
    with pytest.raises(ValueError, match="no model with the backbone 'resnet18'"):
        method_table.main(["method_table"])
