"""Move finished runs into `saved_models/`, its index and the README's table.

    python -m zoo.training.publish RUN [RUN ...]

Each RUN is an `--output_dir` of `zoo.training.train`.  With no RUN, index and table are made anew.
"""

import json
import pathlib
import shutil
import sys

from zoo import registry, weights

BEGIN, END = "<!-- weights: made by zoo.training.publish -->", "<!-- end of weights -->"


def publish(runs, folder=None):
    """Copy runs into `folder` (default: the installation's saved_models); returns the new index."""
    folder = pathlib.Path(folder or registry.home())
    for run in map(pathlib.Path, runs):
        config = weights.read_config(run)
        target = folder / f"{config['name']}-{config['dataset']}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in ("config.json", *config["files"]):
            shutil.copy(run / name, target / name)
        lines = (run / "log.csv").read_text().splitlines()
        (target / "log.csv").write_text("\n".join(lines[:1] + lines[-5:]) + "\n")
    index = weights.rebuild_index(folder)
    readme = folder.parent / "README.md"
    if readme.is_file() and BEGIN in readme.read_text():
        before, rest = readme.read_text().split(BEGIN)
        readme.write_text(before + BEGIN + "\n" + table(index) + END + rest.split(END)[1])
    return index


def table(index):
    """The index as a Markdown table."""
    rows = [
        "| model | data set | members | parameters | MACs | accuracy | NLL | ECE |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in index:
        metrics = entry["metrics"][entry["dataset"]]
        rows.append(
            f"| `{entry['name']}` | {entry['dataset']} | {entry['num_members']} | {entry['parameters']:,} "
            f"| {entry['macs'] / 1e6:.1f} M | {metrics['accuracy']:.4f} | {metrics['nll']:.4f} "
            f"| {metrics['ece']:.4f} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(json.dumps([entry["folder"] for entry in publish(sys.argv[1:])], indent=1))
