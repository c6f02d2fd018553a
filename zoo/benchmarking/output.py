"""A benchmark's tables, for the terminal and in Markdown."""

from collections.abc import Iterator
from typing import Any

from zoo.benchmarking.machine import in_words
from zoo.benchmarking.roofline import nearest_limit
from zoo.evaluation.tables import Table


def tables(results: dict) -> Iterator[Any]:
    """Generate all tables of a run, in order.

    Args:
        results: dict, that of `benchmark.json`.

    Returns:
        An iterator over `Table`s.
    """
    measured = [record for record in results["models"] if "tasks" in record]
    tasks = list(measured[0]["tasks"])
    yield _ratios(results, tasks)
    yield _times(measured, tasks)
    yield _work(results, measured, tasks)
    yield _costs(measured)


def notes(results: dict) -> Iterator[str]:
    """Generate the notes beside the tables, one line each.

    Args:
        results: dict, that of `benchmark.json`.

    Returns:
        An iterator over strings.
    """
    yield in_words(results["machine"])
    yield _said_of_settings(results["settings"])
    if results["command"]:
        yield f"`{results['command']}`, {results['date']}"
    if results["peer"]:
        yield (
            f"{results['peer']['name']} {results['peer']['version']}, in a process of its own on the CPU with as "
            "many threads; its ratios are to its own single network"
        )
    if results["imports"]:
        found = results["imports"]
        yield (
            f"cold `import keras` {found['keras_s']:.2f} s; `import zoo` adds {found['zoo_adds_s']:.2f} s "
            f"(medians of {found['processes']} processes)"
        )
    for record in results["models"]:
        for key in ("skipped", "fresh_error"):
            if key in record:
                yield f"{title(record)}: {record[key]}"


def title(record: dict) -> str:
    """Return the name of a model in tables, with its library's if it is a peer's.

    Args:
        record: dict, one of results["models"].

    Returns:
        A string.
    """
    return record["label"] if record["of"] == "zoo" else f"{record['of']}: {record['label']}"


def _said_of_settings(settings):
    shape = "x".join(map(str, settings["input_shape"]))
    models = (
        f"weights trained on {settings['weights']}"
        if settings["weights"]
        else f"images {shape}, {settings['num_classes']} classes"
    )
    return (
        f"{settings['backbone']}, {models}; a training step on {settings['train_batch_size']} images; at most "
        f"{settings['rounds']} rounds in {settings['seconds']:g} s"
    )


def _task_title(task):
    kind, _, size = task.partition(" ")
    return f"{kind}, {size} image{'s' * (size != '1')}" if size else "training step"


def _ratios(results, tasks):
    rows = []
    for record in results["models"]:
        if "tasks" not in record:
            rows.append((title(record), [None, "not measured, see below", *[None] * (len(tasks) - 1)]))
            continue
        cells = [f"{t['cpu_ratio']:.2f} ({t['wall_ratio']:.2f})" for t in record["tasks"].values()]
        rows.append((title(record), [record["members"], *cells]))
    head = ["model", "members", *map(_task_title, tasks)]
    caption = "Times the single network's CPU time (in brackets: wall time)"
    return Table("Ratios", caption, head, rows, [None, *["down"] * len(tasks)])


def _times(measured, tasks):
    rows = []
    for record in measured:
        cells = [f"{_digits(t['wall_ms'])} / {_digits(t['cpu_ms'])}" for t in record["tasks"].values()]
        rows.append((title(record), [min(t["rounds"] for t in record["tasks"].values()), *cells]))
    head = ["model", "rounds", *map(_task_title, tasks)]
    return Table("Times", "Median milliseconds, wall / CPU", head, rows, [None, *["down"] * len(tasks)])


def _work(results, measured, tasks):
    """Images and FLOPs a second of wall time, and how near to the limits of the device."""
    found, settings = results["machine"]["peaks"], results["settings"]
    counted = {record["label"]: record for record in measured if record["of"] == "zoo"}
    sizes = {tasks[0]: settings["train_batch_size"], tasks[-1]: settings["batch_sizes"][-1]}
    rows = []
    for record in measured:
        alike = counted.get(record["label"], {})  # a peer's models have our shapes
        forward = "macs" in alike and (2 * alike["macs"] * sizes[tasks[-1]], 0)
        cells = []
        for (task, size), work in zip(sizes.items(), (alike.get("training_work"), forward)):
            seconds = record["tasks"][task]["wall_ms"] / 1e3
            cells.append(_digits(size / seconds))
            if work:
                limit, share = nearest_limit(work, seconds, found)
                cells += [_digits(work[0] / seconds / 1e9), f"{limit} {share:.0%}"]
            else:
                cells += [None, None]
        rows.append((title(record), cells))
    head = ["model", *(f"{_task_title(task)}: {what}" for task in sizes
                       for what in ("images/s", "GFLOP/s", "nearest limit"))]  # fmt: skip
    caption = (
        f"Work counted over wall time; the limits, measured before: a matrix product {found['flops'] / 1e9:,.0f} "
        f"GFLOP/s, reading or copying {found['bytes'] / 1e9:,.0f} GB/s"
    )
    return Table("Work", caption, head, rows, ["up", "up", None] * 2)


def _costs(measured):
    columns = [
        ("parameters", lambda r: r.get("parameters"), "{:,.0f}"),
        ("MACs an image", lambda r: r.get("macs"), "{:,.0f}"),
        ("compile a step, s", lambda r: r["compile_s"]["train"], "{:.1f}"),
        ("compile predict, s", lambda r: r["compile_s"]["predict"], "{:.1f}"),
        ("peak MiB, training", lambda r: r.get("train_mib"), "{:,.0f}"),
        ("peak MiB, inference", lambda r: r.get("inference_mib"), "{:,.0f}"),
        ("GPU MiB, training", lambda r: r.get("train_gpu_mib"), "{:,.0f}"),
        ("GPU MiB, inference", lambda r: r.get("inference_gpu_mib"), "{:,.0f}"),
        ("weights, MB", lambda r: r.get("weights_bytes") and r["weights_bytes"] / 1e6, "{:.2f}"),
        ("cold zoo.load, s", lambda r: r.get("load_s"), "{:.1f}"),
        ("accuracy", lambda r: r.get("accuracy"), "{:.4f}"),
    ]
    columns = [column for column in columns if any(column[1](record) is not None for record in measured)]
    singles = {record["of"]: record for record in reversed(measured) if record["label"] == "single"}
    rows = [
        (title(record), [_with_ratio(value(record), value(singles[record["of"]]), form, name)
                         for name, value, form in columns])
        for record in measured
    ]  # fmt: skip
    caption = "Counted, compiled and stored (in brackets: times the single network's)"
    head = ["model", *(name for name, *_ in columns)]
    return Table("Costs", caption, head, rows, [*["down"] * len(columns)])


def _with_ratio(value, single, form, name):
    if value is None:
        return None
    if name == "accuracy" or not single or single <= 0:
        return form.format(value)
    return f"{form.format(value)} ({value / single:.2f})"


def _digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(value):
    return "" if value is None else str(value)


def write_markdown(results: dict, path: Any) -> None:
    """Write all tables and notes as Markdown, to be included in a page.

    Args:
        results: dict, that of `benchmark.json`.
        path: path of the file.
    """
    lines = []
    for table in tables(results):
        lines += [
            f"{table.caption}:",
            "",
            f"| {' | '.join(table.head)} |",
            "|---|" + "--:|" * len(table.better),
        ]
        lines += [f"| {name} | {' | '.join(map(_cell, values))} |" for name, values in table.rows]
        lines.append("")
    lines += [f"* {note}" for note in notes(results)]
    path.write_text("\n".join(lines) + "\n")


def print_tables(results: dict, console: Any) -> None:
    """Print all tables and notes.

    Args:
        results: dict, that of `benchmark.json`.
        console: a `rich.console.Console`.
    """
    from rich.table import Table as RichTable

    for table in tables(results):
        first, *others = table.head
        shown = RichTable(first, title=table.caption, title_justify="left", box=None)
        for name in others:
            shown.add_column(name, justify="right")
        for name, values in table.rows:
            shown.add_row(name, *map(_cell, values))
        console.print(shown, "")
    for note in notes(results):
        console.print(note, markup=False, emoji=False, highlight=False)
