"""The tables and the decision picture of docs/choosing.md, from numbers that were measured before.

    python -m zoo.training.studies.choosing

reads `saved_models/index.json` and the files of `zoo benchmark` in docs/speed, and measures nothing.
"""

import json
import pathlib

from absl import flags

from zoo import registry
from zoo.training import marked_sections
from zoo.training.method_overview import TAKE_IT_WHEN
from zoo.training.start import start

COMMAND = "zoo.training.studies.choosing"
FLAGS = flags.FLAGS
INK, BLUE, PANEL = "#1f2430", "#2f6db5", "#eef2f7"


def costs(path: pathlib.Path) -> dict[str, dict]:
    """Read what every method costs, as multiples of the single network's.

    Args:
        path: `pathlib.Path` of a file of `zoo benchmark`.

    Returns:
        {method: {"train", "1", "32", "weights"}}: CPU time of a training step and of 1 and 32 images,
        and the size of the weights file. None for what was not measured.
    """
    models = [model for model in json.loads(path.read_text())["models"] if model["of"] == "zoo"]
    single = next(model for model in models if model["label"] == "single")
    found = {}
    for model in models:
        tasks = model["tasks"]
        times = (("train", "train"), ("1", "predict 1"), ("32", "predict 32"))
        found[model["label"]] = {
            **{key: tasks[task]["cpu_ratio"] if task in tasks else None for key, task in times},
            "weights": model["weights_bytes"] / single["weights_bytes"]
            if "weights_bytes" in model
            else None,
        }
    return found


def table(costs_of: dict[str, dict]) -> str:
    """Tabulate the costs of methods.

    Args:
        costs_of: dict, from `costs`.

    Returns:
        str, a Markdown table.
    """
    head = ["training step", "1 image", "32 images", "file", "take it when"]
    rows = [f"| method | {' | '.join(head)} |", "|---|--:|--:|--:|--:|---|"]
    for method in registry.METHODS:
        if method in costs_of:
            cells = (costs_of[method][key] for key in ("train", "1", "32", "weights"))
            shown = " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells)
            rows.append(f"| `{method}` | {shown} | {TAKE_IT_WHEN[method]} |")
    return "\n".join(rows)


def draw(path: pathlib.Path, cost: dict[str, dict], scores: dict[str, float]) -> None:
    """Draw the questions that lead to a method, with its measured cost and score.

    Args:
        path: `pathlib.Path` of the PNG.
        cost: dict, from `costs`.
        scores: {method: NLL}.
    """
    from zoo.pictures import blank_figure

    def leaf(*methods):
        lines = []
        for method in methods:
            known = cost.get(method, {}).get("32")
            time = f"{known:.2f}x time" if known else "as deep_ensemble"
            score = f", NLL {scores[method]:.3f}" if method in scores else ""
            lines.append(f"{method}: {time}{score}")
        return "\n".join(lines)

    figure = blank_figure(10.5, 6.2)
    axis = figure.subplots()
    axis.set(xlim=(0, 100), ylim=(0, 100))
    axis.axis("off")
    boxes = {
        "passes": (50, 92, "Can each image be computed M times?", False),
        "space": (74, 66, "Can M networks be stored?", False),
        "one": (20, 66, leaf("packed", "mimo"), True),
        "trained": (50, 40, "Is there a trained network with dropout?", False),
        "search": (83, 40, leaf("deep_ensemble", "hyper_deep"), True),
        "dropout": (16, 14, leaf("mc_dropout"), True),
        "shared": (50, 14, leaf("batch_ensemble", "masksembles"), True),
        "sparse": (84, 14, leaf("dst_tickets", "edst_tickets"), True),
    }
    for start_of, end, word in (
        ("passes", "one", "no"), ("passes", "space", "yes"), ("space", "search", "yes"),
        ("space", "trained", "no"), ("trained", "dropout", "yes"), ("trained", "shared", "no"),
        ("trained", "sparse", "no; the file\nmust be small"),
    ):  # fmt: skip
        (x0, y0, *_), (x1, y1, *_) = boxes[start_of], boxes[end]
        axis.plot((x0, x1), (y0, y1), color=INK, linewidth=1, zorder=1)
        axis.text((x0 + x1) / 2, (y0 + y1) / 2, word, ha="center", va="center", color=INK, fontsize=10,
                  zorder=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
    for x, y, text, is_leaf in boxes.values():
        style = {"boxstyle": "round,pad=0.6", "facecolor": PANEL if is_leaf else "white",
                 "edgecolor": BLUE if is_leaf else INK}  # fmt: skip
        axis.text(x, y, text, ha="center", va="center", color=INK, fontsize=10, bbox=style, zorder=3)
    figure.text(0.5, 0.005, "time: CPU time of 32 images, times the single network's, ResNet-18, M = 4 (MIMO 3); "
                f"NLL: LeNet on Fashion-MNIST, single {scores['single']:.3f}",
                ha="center", color=INK, fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=120)


def main(argv: list[str]) -> None:
    """Fill the page's sections and draw the picture.

    Args:
        argv: list of str from absl, the command's name alone.
    """
    page = pathlib.Path(FLAGS.page)
    small, large = (costs(page.parent / "speed" / f"{name}.json") for name in ("lenet", "resnet18"))
    scores = {
        registry.parse(entry["name"])[0]: entry["metrics"]["fashion_mnist"]["nll"]
        for entry in registry.index()
        if entry["dataset"] == "fashion_mnist" and registry.parse(entry["name"])[1] == "lenet"
    }  # fmt: skip
    marked_sections.fill(page, COMMAND, {"resnet18": table(large), "lenet": table(small)})
    draw(page.parent / "images" / "choosing.png", large, scores)


def _define_flags():
    flags.DEFINE_string("page", "docs/choosing.md", "the page with the marks of the sections")


if __name__ == "__main__":
    _define_flags()
    start(main, COMMAND)
