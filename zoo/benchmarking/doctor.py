"""`zoo doctor`: which backend and setting is fastest on this machine, for training and for serving."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable

FORMS = ("list", "split", "native")
BACKENDS = ("tensorflow", "torch", "jax")
_COLUMNS = {  # key of a probe's answer: (head of the table, unit in a line)
    "train": ("train, images/s", "images/s in training"),
    "bfloat16": ("in bfloat16", "in bfloat16"),
    "1": ("1 image, ms", "ms for one image"),
    "32": ("32 images, ms", "ms for 32"),
}
_EMULATED = "emulated"  # instead of the speed of bfloat16
PROBE = "zoo.benchmarking.doctor_probe"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A backend and the environment it runs in.

    Args:
        backend: str, "tensorflow", "torch" or "jax".
        onednn: "1" or "0", TF_ENABLE_ONEDNN_OPTS of TensorFlow. Default: None, for others.
    """

    backend: str
    onednn: str | None = None

    def environment(self) -> dict[str, str]:
        """Environment variables of this setting."""
        variables = {"KERAS_BACKEND": self.backend}
        return variables | ({"TF_ENABLE_ONEDNN_OPTS": self.onednn} if self.onednn else {})

    def __str__(self):
        return " ".join(f"{key}={value}" for key, value in self.environment().items())


def settings() -> list[Setting]:
    """Settings of the backends that are installed."""
    found = []
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            continue
        options = ("1", "0") if backend == "tensorflow" else (None,)
        found += [Setting(backend, option) for option in options]
    return found


def diagnose(backbone: str = "resnet20", input_shape: tuple = (32, 32, 3), *, train_batch_size: int = 64,
             forms: tuple = FORMS, seconds: float = 10.0,
             say: Callable[[str], None] = lambda line: None) -> dict:  # fmt: skip
    """Measure steps and calls of a single and a packed network in every setting.

    Each setting runs in its own process, one after another; inside a process all networks take turns.
    Times are wall times, so nothing else should run meanwhile.

    Args:
        backbone: str, a backbone of the zoo. Default: "resnet20".
        input_shape: (height, width, channels) of the images. Default: (32, 32, 3).
        train_batch_size: int, images of a training step. Default: 64.
        forms: tuple of str, forms of packed convolutions, see `zoo.layers.set_grouped_convolution`.
            Default: all.
        seconds: float, time for the rounds of a setting, beside compilation. Default: 10.
        say: function of a line of progress, which also gets each setting's numbers once measured.
            Default: prints nothing.

    Returns:
        dict from the text of a setting to {form: {"train": images/s, "bfloat16": images/s of training in
        half precision, or None where the processor emulates it, "1": ms of one image, "32": ms of 32
        images}}, where the form "single" is the single network; or to {"error": one line}.
    """
    request = {
        "backbone": backbone, "input_shape": list(input_shape), "train_batch_size": train_batch_size,
        "forms": ["single", *forms], "seconds": seconds,
    }  # fmt: skip
    found = {}
    for setting in settings():
        say(f"measuring {setting}")
        found[str(setting)] = _probe(setting, request)
        for _, network, *cells in _rows(str(setting), found[str(setting)]):
            columns = zip(cells, _COLUMNS.values(), strict=True)
            parts = (f"{cell} {unit}" for cell, (_, unit) in columns if cell != _EMULATED)
            say(f"  {network}: {', '.join(parts)}")
    return found


def _probe(setting, request):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **setting.environment()}
    command = [sys.executable, "-m", PROBE, json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"error": said[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def _rows(setting, forms):
    """(setting, network, one cell for each column) of all networks; none where the setting failed."""
    if "error" in forms:
        return []
    names = {form: "single" if form == "single" else f"packed, {form}" for form in forms}
    return [
        (
            setting,
            names[form],
            *(f"{numbers[key]:.1f}" if numbers[key] else _EMULATED for key in _COLUMNS),
        )
        for form, numbers in forms.items()
    ]


def advice(found: dict) -> list[str]:
    """Say what to set for training, for serving one image and for serving many, in one line each.

    Training in bfloat16 gets another line if it is at least a tenth faster, because it rounds
    activations.

    Args:
        found: what `diagnose` returned.

    Returns:
        list of str; empty where no setting could be measured.
    """
    rows = [
        (setting, form, numbers)
        for setting, forms in found.items() if "error" not in forms
        for form, numbers in forms.items() if form != "single"
    ]  # fmt: skip
    if not rows:
        return []
    lines = []
    for purpose, key, unit in (
        ("training", "train", "images/s"),
        ("training with --precision=bfloat16", "bfloat16", "images/s"),
        ("serving one image", "1", "ms"),
        ("serving 32 images", "32", "ms"),
    ):
        fastest = max if unit == "images/s" else min
        measured = [row for row in rows if row[2][key]]
        if key == "bfloat16":
            measured = [
                row for row in measured if row[2][key] >= 1.1 * max(row[2]["train"] for row in rows)
            ]
        if not measured:
            continue
        setting, form, numbers = fastest(measured, key=lambda row: row[2][key])
        lines.append(
            f'{purpose}: {setting}, packed convolutions "{form}" ({numbers[key]:.1f} {unit}; single network '
            f"{found[setting]['single'][key]:.1f})"
        )
    return lines


def report(found: dict) -> str:
    """Return what `diagnose` found, and the advice that follows, as text.

    Args:
        found: dict, from `diagnose`.
    """
    head = ("setting", "network", *(head for head, _ in _COLUMNS.values()))
    rows = [head]
    for setting, forms in found.items():
        rows += _rows(setting, forms) or [(setting, f"failed: {forms['error']}", *[""] * len(_COLUMNS))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*table, "", *advice(found)])
