"""Fresh processes of a benchmark: weights on disk, cold imports and loading, peak memory."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo import weights as weight_files

PROBE = pathlib.Path(__file__).with_name("probe.py")


def write(benchmarked: Any, folder: Any) -> int:
    """Write a model's weights as they are published.

    Args:
        benchmarked: a `BenchmarkedModel` whose model is built.
        folder: path of a new folder.

    Returns:
        Their size in bytes.
    """
    folder.mkdir(parents=True)
    model = benchmarked.model
    files = weight_files.write(model, folder)
    config = {"name": benchmarked.name, "spec": model.spec, "files": files}
    (folder / "config.json").write_text(json.dumps(config))
    return sum(file["bytes"] for file in files.values())


def probe(**request: Any) -> dict:
    """Run `probe.py` in a process of its own.

    Args:
        request: what `probe.py` takes, by keyword.

    Returns:
        Its answer, a dictionary.

    Raises:
        ValueError: if it fails, with its last line.
    """
    command = [sys.executable, "-P", str(PROBE), json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ValueError(f"the fresh process failed: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(benchmarked: Any, folder: Any, settings: Any) -> dict:
    """Measure cold loading and peak memory.

    Args:
        benchmarked: a `BenchmarkedModel`.
        folder: path, from `write`.
        settings: a `Settings`.

    Returns:
        {key: seconds or MiB}; `fresh_error` if it failed.
    """
    try:
        return probe(
            name=benchmarked.name, folder=str(folder), batch_size=max(settings.batch_sizes),
            train_batch_size=settings.train_batch_size, precision=settings.precision,
        )  # fmt: skip
    except ValueError as error:
        return {"fresh_error": str(error)}


def imports(answers: Sequence[dict], least: int = 3) -> dict:
    """Compute the median seconds of a cold `import keras`, and of `import zoo` after it.

    Args:
        answers: what `measured` returned.
        least: int, fresh processes that are needed; missing ones are started. Default: 3.

    Returns:
        {"keras_s", "zoo_adds_s", "processes"}.
    """
    answers = [answer for answer in answers if "keras_s" in answer]
    answers += [probe() for _ in range(least - len(answers))]
    return {key: float(np.median([answer[key] for answer in answers])) for key in ("keras_s", "zoo_adds_s")} | {
        "processes": len(answers)
    }  # fmt: skip
