"""The tables of docs/scaling.md as Markdown; see `zoo.training.studies.scaling`."""

from zoo.training.cost.time_model import ring
from zoo.training.studies import scaling_predictions as given

UPDATE_EVERY = 100  # steps between topology updates of tickets, the default of zoo.training.tickets


def sections(counted: dict, parameters: dict) -> dict[str, str]:
    """Write all sections of the page.

    Args:
        counted: dict from network to a dict from method to `StepCost`.
        parameters: dict in scaling_parameters.json.

    Returns:
        dict from a section's name to its text.
    """
    texts = {
        "tickets": tickets(counted),
        "parts": parts(counted["ResNet-50 at 224"]),
        "measured": "\n\n".join([links(parameters), compute(parameters), decoding(parameters, counted)]),
        "check": check(parameters),
        "assumed": assumed(),
        "published": published(counted["ResNet-50 at 224"]),
    }
    for network, of_network in counted.items():
        key = network.split()[0].lower()
        texts[f"counts of {key}"] = counts(of_network)
        texts[f"predictions of {key}"] = predictions(network, of_network)
    return texts


def table(heads: list, rows: list) -> str:
    """Write a Markdown table whose first column is aligned to the left.

    Args:
        heads: list of n headings.
        rows: list of lists of n cells.

    Returns:
        str.
    """
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (heads, rule, *rows))


def counts(counted: dict) -> str:
    """Tabulate what a step costs and exchanges, by method.

    Args:
        counted: dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    single, rows = counted["single"], []
    for name, cost in counted.items():
        memory = (given.WEAK_BATCH * cost.activation_bytes + 3 * cost.weight_bytes) / 1e9
        rows.append([
            f"`{name}`", f"{cost.trainable / 1e6:.2f}", f"{cost.gradient_bytes / 1e6:.1f}",
            f"{cost.gradient_bytes / single.gradient_bytes:.3f}", given.METHODS[name][2],
            f"{cost.statistics_bytes / 1e3:.0f}", f"{cost.training_flops / 1e9:.2f}",
            f"{cost.training_flops / cost.gradient_bytes:.0f}",
            f"{cost.activation_bytes / 1e6:.1f}",
            f"{memory:.1f}" + (" (too much)" if memory > given.MEMORY / 1e9 else ""),
        ])  # fmt: skip
    heads = ["method", "trainable, M", "gradient, MB", "of the single's", "by formula",
             "statistics, kB", "training, GFLOP an image", "FLOP an image and byte",
             "activations, MB an image", f"memory at {given.WEAK_BATCH} a GPU, GB"]  # fmt: skip
    return table(heads, rows)


def tickets(counted: dict) -> str:
    """Tabulate what ticket ensembles send, and what they need to send.

    Args:
        counted: dict from network to a dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    rows = []
    for network, of_network in counted.items():
        cost = of_network["dst_tickets"]
        masks, dense = cost.places / 8 / UPDATE_EVERY, 4 * cost.places / UPDATE_EVERY
        values = [cost.gradient_bytes, cost.existing_bytes, masks, dense]
        rows.append([network, *(f"{value / 1e6:.2f}" for value in values),
                     f"{(cost.existing_bytes + masks + dense) / cost.gradient_bytes:.3f}"])  # fmt: skip
    return table(
        ["M = 4, S = 0.8; MB a step", "sent: all places", "needed: values that exist",
         f"masks, every {UPDATE_EVERY} steps", "RigL's dense gradients, as often", "needed / sent"],
        rows,
    )  # fmt: skip


def links(parameters: dict) -> str:
    """Tabulate each measured all-reduce beside the one that the fitted latency and bandwidth predict.

    Args:
        parameters: dict in scaling_parameters.json.

    Returns:
        str, Markdown.
    """
    kinds = {"processes": "two processes, loopback", "devices": "two devices, one process"}
    heads, rows = ["bytes"], []
    for title in kinds.values():
        heads += [f"{title}: ms", "fit"]
    for index, size in enumerate(parameters["exchange"]["processes"]["bytes"]):
        cells = [f"{size:,}"]
        for kind in kinds:
            fitted = ring(2, size, given.measured_machine(parameters, kind, 1.0).inside)
            cells += [
                f"{parameters['exchange'][kind]['seconds'][index] * 1e3:.3f}",
                f"{fitted * 1e3:.3f}",
            ]
        rows.append(cells)
    said = "; ".join(
        f"{title}: latency {of['latency'] * 1e6:.0f} µs, bandwidth {of['bandwidth'] / 1e9:.2f} GB/s"
        for kind, title in kinds.items()
        for of in [parameters["exchange"][kind]]
    )
    where = f"{parameters['processor']}, {parameters['software']}, {parameters['date']}"
    return f"Measured on two cores of an {where}. Fitted: {said}.\n\n{table(heads, rows)}"


def compute(parameters: dict) -> str:
    """Tabulate the FLOP/s of a ResNet-20's training step, by method.

    Args:
        parameters: dict in scaling_parameters.json.

    Returns:
        str, Markdown.
    """
    one, two = (parameters["compute"][cores] for cores in ("one_core", "two_cores"))
    rows = [
        [f"`{text}`", f"{one[name]['seconds'] * 1e3:.0f}", f"{one[name]['flops'] / 1e9:.1f}",
         f"{one[name]['flops'] / one['single']['flops']:.2f}", f"{two[name]['flops'] / 1e9:.1f}"]
        for name, text in parameters["compute"]["methods"].items()
    ]  # fmt: skip
    heads = ["ResNet-20, 32 images", "ms a step, one core", "GFLOP/s", "of the single's",
             "GFLOP/s, two cores"]  # fmt: skip
    return table(heads, rows)


def decoding(parameters: dict, counted: dict) -> str:
    """Compare what the assumed machine's hosts can decode with what its GPUs need.

    Args:
        parameters: dict in scaling_parameters.json.
        counted: dict from network to a dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    rate = parameters["decoding"]["images_per_second"]
    cores = given.ASSUMED["CPU cores a GPU"][0]
    single = counted["ResNet-50 at 224"]["single"]
    wanted = [
        given.assumed_machine(share).peak * share / single.training_flops for share in given.SHARES
    ]
    need = " or ".join(f"{rate_wanted / rate:.0f}" for rate_wanted in wanted)
    shares = " or ".join(map(str, given.SHARES))
    return (
        f"One core decoded, cropped and resized {rate:.0f} JPEG images a second. A single ResNet-50 at {shares} "
        f"of the assumed peak takes {wanted[0]:,.0f} or {wanted[1]:,.0f} images a second and GPU, so {need} such "
        f"cores; there are {cores}. M passes an image (BatchEnsemble, hyper-batch, deep ensembles) take M times "
        "fewer images."
    )


def check(parameters: dict) -> str:
    """Tabulate predicted and measured steps.

    Args:
        parameters: dict in scaling_parameters.json.

    Returns:
        str, Markdown.
    """
    rows = [
        [f"`{backbone}`", batch, f"{alone * 1e3:.1f}", f"{time.gradient * 1e3:.1f}",
         f"{time.statistics * 1e3:.1f}", f"{time.overlapped * 1e3:.1f} to {time.in_turn * 1e3:.1f}",
         f"{measured * 1e3:.1f}", f"{measured / time.in_turn:.2f}"]
        for backbone, batch, alone, time, measured in given.validation(parameters)
    ]  # fmt: skip
    heads = ["ms a step", "images a process", "one process", "+ gradient", "+ statistics",
             "predicted for two", "measured", "measured / in turn"]  # fmt: skip
    return table(heads, rows)


def assumed() -> str:
    """Tabulate the parameters that were not measured, with their sources.

    Returns:
        str, Markdown.
    """
    rows = [
        [name, f"{value:.3g} {unit}".strip(), source]
        for name, (value, unit, source) in given.ASSUMED.items()
    ]
    shares = " and ".join(map(str, given.SHARES))
    rows.append(["achieved share of the peak", shares, "a guess, so two values"])
    return table(["assumed, not measured", "value", "source"], rows)


def predictions(network: str, counted: dict) -> str:
    """Tabulate the efficiency of weak and strong scaling, and the time of an epoch.

    Args:
        network: str, a name in `scaling_predictions.NETWORKS`.
        counted: dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    *_, examples, batch = given.NETWORKS[network]
    texts = []
    columns = [(share, devices) for share in given.SHARES for devices in given.DEVICES]
    kinds = {
        f"Weak scaling, {given.WEAK_BATCH} images a GPU": lambda devices: given.WEAK_BATCH,
        f"Strong scaling, {batch:,} images in all": lambda devices: batch / devices,
    }
    for title, share_of in kinds.items():
        rows = []
        for name in given.PREDICTED:
            cells = [given.efficiencies(counted, name, n, share_of(n), share) for share, n in columns]
            rows.append([f"`{name}`", *(f"{turn:.2f} / {over:.2f}" for turn, over in cells)])
        heads = [title, *(f"{n} GPUs at {share}" for share, n in columns)]
        texts.append(table(heads, rows))
    texts.append(_epochs(counted, examples))
    return "\n\n".join(texts)


def _epochs(counted, examples):
    rows = []
    for name in given.PREDICTED:
        cells = []
        for devices in given.DEVICES:
            steps = examples / (given.WEAK_BATCH * devices)
            seconds = [
                steps * given.times(counted, name, devices, given.WEAK_BATCH, share).in_turn
                for share in given.SHARES
            ]
            cells.append(" to ".join(f"{float(f'{value:.2g}'):g}" for value in sorted(seconds)))
        rows.append([f"`{name}`", *cells])
    heads = [f"Seconds an epoch, {given.WEAK_BATCH} images a GPU", *(f"{n} GPUs" for n in given.DEVICES)]
    return table(heads, rows)


def parts(counted: dict) -> str:
    """Tabulate the time of each part of a step.

    Args:
        counted: dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    share, rows = given.SHARES[-1], []
    for name in ("single", "packed, gamma 2", "batch_ensemble"):
        for devices in given.DEVICES:
            step = given.times(counted, name, devices, given.WEAK_BATCH, share)
            values = (step.compute, step.statistics, step.gradient)
            rows.append([f"`{name}`", devices, *(f"{value * 1e3:.2f}" for value in values)])
    heads = [f"ms a step, ResNet-50 at 224, {given.WEAK_BATCH} images a GPU, {share} of the peak", "GPUs",
             "compute", "statistics", "gradient"]  # fmt: skip
    return table(heads, rows)


def published(counted: dict) -> str:
    """Tabulate MLPerf's scaling from 8 GPUs on beside the model's.

    Args:
        counted: dict from method to `StepCost`.

    Returns:
        str, Markdown.
    """
    first, minutes = next(iter(given.MLPERF.items()))
    rows = []
    for devices, taken in given.MLPERF.items():
        ours = [
            given.efficiencies(counted, "single", devices, given.WEAK_BATCH, share)[1]
            / given.efficiencies(counted, "single", first, given.WEAK_BATCH, share)[1]
            for share in given.SHARES
        ]
        rows.append([devices, f"{taken:.3f}", f"{minutes * first / (taken * devices):.2f}",
                     " to ".join(f"{value:.2f}" for value in sorted(ours))])  # fmt: skip
    heads = ["GPUs", "minutes, published", f"efficiency from {first} on, published",
             "a step's by the model, overlapped"]  # fmt: skip
    return table(heads, rows)
