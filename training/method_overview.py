"""The README's table of methods: one row per method, from cards and measured speeds.

`python -m zoo.training.publish` writes it.  It shows the backbone and data set on which most methods
have weights (of several, the one with the largest single network).
"""

import json
import pathlib

from zoo import registry

TAKE_IT_WHEN = {
    "single": "you need a baseline, or only a label",
    "packed": "you can afford one pass only, and the network is wide enough to share",
    "batch_ensemble": "storage is scarce and M passes are not",
    "mimo": "you can afford one pass only, and the network is far larger than the task needs",
    "hyper_batch": "hyperparameters should be tuned while the model trains",
    "hyper_deep": "accuracy matters most, and you can afford a search over many trainings",
    "masksembles": "members must add no weights, and answers must repeat exactly",
    "mc_dropout": "you have a trained network with dropout already",
    "deep_ensemble": "you can train and run M networks",
    "dst_tickets": "the file must be small and M passes are affordable",
    "edst_tickets": "the file must be small and there is time for one training run only",
}


def table(index: list[dict], speeds: pathlib.Path) -> str:
    """Tabulate the methods by accuracy, NLL, latency, size and when to take them.

    Args:
        index: list of dicts, from `weights_index.rebuild_index`.
        speeds: `pathlib.Path` of the folder with `BACKBONE.json` of `zoo benchmark`; a file of other
            weights, or none, leaves the latency out.

    Returns:
        str, a sentence and a Markdown table; empty where there are no weights.
    """
    groups: dict[tuple, list] = {}
    for entry in index:
        groups.setdefault((entry["dataset"], registry.parse(entry["name"])[1]), []).append(entry)
    if not groups:
        return ""
    dataset, backbone = max(groups, key=lambda group: (len(groups[group]), _macs(groups[group])))
    measured = _milliseconds(speeds / f"{backbone}.json", dataset)
    rows = ["| method | accuracy | NLL | ms | MB | take it when |", "|---|--:|--:|--:|--:|---|"]
    order = list(registry.METHODS)
    for entry in sorted(groups[dataset, backbone], key=lambda entry: order.index(_method(entry))):
        scores, method = entry["metrics"][dataset], _method(entry)
        megabytes = sum(file["bytes"] for file in entry["files"].values()) / 1e6
        ms = measured["models"].get(method)
        rows.append(
            f"| `{method}` | {scores['accuracy']:.4f} | {scores['nll']:.4f} "
            f"| {'-' if ms is None else f'{ms:.1f}'} | {megabytes:.2f} | {TAKE_IT_WHEN.get(method, '')} |"
        )
    how = f"`{backbone}` on `{dataset}`, whole test set, weights as shipped"
    if measured["models"]:
        how += f"; ms: one image with `predict_on_batch` on {measured['device']}"
    return "\n".join([f"{how}:", "", *rows])


def _method(entry):
    return registry.parse(entry["name"])[0]


def _macs(entries):
    return max((entry["macs"] for entry in entries if _method(entry) == "single"), default=0)


def _milliseconds(path, dataset):
    """{"models": {method: median wall milliseconds of one image}, "device"} of `zoo benchmark`'s file."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("settings", {}).get("weights") != dataset:
        return {"models": {}, "device": ""}
    machine = found["machine"]
    device = f"{machine['cores']} cores of an {machine['processor']}, {machine['backend'].capitalize()}"
    models = {
        model["label"]: model["tasks"]["predict 1"]["wall_ms"]
        for model in found["models"] if model["of"] == "zoo" and "predict 1" in model["tasks"]
    }  # fmt: skip
    return {"models": models, "device": device.replace("Tensorflow", "TensorFlow")}
