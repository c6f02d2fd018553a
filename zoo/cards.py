"""`zoo.card`: what is known about a model and its weights, all of it measured."""

import dataclasses

from zoo import registry


@dataclasses.dataclass(frozen=True)
class Card:
    """The record of a set of weights: `print` it, or read `config`, a plain dictionary."""

    name: str
    config: dict

    def __str__(self):
        return "\n".join(_lines(self.name, self.config))


def card(name, weights="default"):
    """The card of a model.

    Args:
        name: as in `zoo.load`.
        weights: a data set's name, "default", or a folder made by training.

    Returns:
        A `Card`; where no weights exist yet, one that says so.

    Raises:
        ValueError: for an unknown name or data set.
        FileNotFoundError: for a folder that does not exist.
    """
    from zoo.weights import find

    registry.parse(name)
    if weights in (None, "default") and not registry.entries(name):
        return Card(name, {})
    folder, config = find(name, weights)
    return Card(name, {**config, "folder": str(folder)})


def _lines(name, config):
    yield f"# {name}"
    yield ""
    if not config:
        yield "No weights of this model exist yet; zoo.load takes weights=None."
        return
    recipe = config["recipe"]
    yield f"Trained on {config['dataset']}, by this project."
    yield ""
    yield "| test set | accuracy | NLL | ECE (15 bins) | images |"
    yield "|---|---|---|---|---|"
    for dataset, metrics in config["metrics"].items():
        yield (
            f"| {dataset} | {metrics['accuracy']:.4f} | {metrics['nll']:.4f} | {metrics['ece']:.4f} "
            f"| {metrics['images']} |"
        )
    for run in config.get("seeds", ()):
        measured, held_out = run["metrics"][config["dataset"]], run["held_out"]
        shipped = ", this one" if run["seed"] == recipe["seed"] else ""
        yield (
            f"| seed {run['seed']} (held-out NLL {held_out['nll']:.4f}{shipped}) | {measured['accuracy']:.4f} "
            f"| {measured['nll']:.4f} | {measured['ece']:.4f} | {measured['images']} |"
        )
    yield ""
    cost = {
        "parameters": f"{config['parameters']:,} trainable",
        "MACs an image": f"{config['macs']:,}",
        "size": f"{sum(file['bytes'] for file in config['files'].values()):,} bytes on disk",
        "members": config["num_members"],
        "seed": recipe["seed"],
        "epochs": f"{recipe['epochs']} of {config['steps_per_epoch']} updates",
        "hardware": config["hardware"],
        "time": f"{config['seconds'] / 60:.0f} minutes",
        "software": ", ".join(f"{key} {value}" for key, value in config["software"].items()),
        "commit": config["commit"] or "unknown",
        "licence": config["licence"],
    }
    for key, value in cost.items():
        yield f"* {key}: {value}"
    yield f"* command: `{config['command']}`"
    for file, record in config["files"].items():
        yield f"* sha256 of {file}: {record['sha256']}"
