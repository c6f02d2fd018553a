"""Runs `mutation_worker.py` over many damaged files, in processes that may die of one, and adds up the counts."""

import collections
import json
import os
import pathlib
import subprocess
import sys

WORKER = pathlib.Path(__file__).with_name("mutation_worker.py")
FINE = ("refused", "accepted, same answers", "accepted, other answers, nothing recorded")
CHUNK = 2500  # cases of a process


def run(kind: str, count: int, seed: int, folder: pathlib.Path, timeout: float = 3600) -> dict:
    """Load `count` damaged files of one kind.

    Args:
        kind: str, of `mutation_worker.KINDS`.
        count: int, cases.
        seed: int, with the number of a case it decides the damage.
        folder: path of an empty folder to work in.
        timeout: float, seconds for a process.

    Returns:
        {"counts": {outcome: int}, "examples": {outcome: str}, "seconds": float, "peak_mib": int}.
    """
    total = {"counts": collections.Counter(), "examples": {}, "seconds": 0, "peak_mib": 0}
    first = 0
    while first < count:
        cases = min(CHUNK, count - first)
        part, cases = _part(kind, first, cases, seed, folder, timeout)
        total["counts"].update(part["counts"])
        total["examples"] = part["examples"] | total["examples"]
        for key in ("seconds", "peak_mib"):
            total[key] = max(total[key], part[key])
        first += cases
    return total


def _part(kind, first, cases, seed, folder, timeout):
    """(counts, how many cases) of one process; one that dies costs its case, the others before it are run again."""
    command = [sys.executable, WORKER, kind, first, cases, seed, folder]
    for path in folder.glob("case"):
        path.unlink()
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=timeout)
        died = f"crash {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        died = "hang in native code"
    if process.returncode == 0:
        return json.loads(output.splitlines()[-1]), cases
    if not (folder / "case").is_file():
        raise RuntimeError(f"the worker of {kind} did not start: {errors[-2000:]}")
    case = int((folder / "case").read_text())
    outcome = {
        "counts": {died: 1}, "examples": {died: f"case {case} {errors[-200:]}"}, "seconds": 0, "peak_mib": 0,
    }  # fmt: skip
    if case > first:
        before, _ = _part(kind, first, case - first, seed, folder, timeout)
        outcome = {key: before[key] for key in ("seconds", "peak_mib")} | {
            "counts": collections.Counter(before["counts"]) + collections.Counter(outcome["counts"]),
            "examples": before["examples"] | outcome["examples"],
        }
    return outcome, case - first + 1


def table(results: dict[str, dict]) -> str:
    """Describe the counts of several kinds, one a line, with the first case of each that must not be."""
    lines = []
    for kind, result in results.items():
        counts = ", ".join(
            f"{n} {name}" for name, n in sorted(result["counts"].items(), key=lambda x: -x[1])
        )
        lines.append(f"{kind}: {counts}; slowest {result['seconds']} s, peak {result['peak_mib']} MiB")
        lines += [f"    {name}: {text}" for name, text in result["examples"].items()]
    return "\n".join(lines)


def faults(result: dict) -> dict:
    """The outcomes that must not be, of one kind's counts."""
    return {name: n for name, n in result["counts"].items() if name not in FINE}


if __name__ == "__main__":  # python mutation_runs.py COUNT SEED FOLDER KIND...
    for name in sys.argv[4:]:
        work = pathlib.Path(sys.argv[3]) / name.replace(" ", "_")
        work.mkdir(parents=True, exist_ok=True)
        print(table({name: run(name, int(sys.argv[1]), int(sys.argv[2]), work)}), flush=True)
