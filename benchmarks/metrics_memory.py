"""Stream a million predictions of 100 classes and 4 members through all metrics; report the peak memory.

    python benchmarks/metrics_memory.py [--images 1000000] [--batch 500] [--limit 2.0]

Predictions are drawn batch by batch, as a model would give them; every metric of `zoo.metrics` sees all of
them. Prints time and peak resident memory, and exits with 1 where that is over the limit (in GB = 1e9 bytes).
"""

import argparse
import resource
import sys
import time

import numpy as np
from rich.console import Console
from rich.progress import track

from zoo import metrics

CLASSES, MEMBERS = 100, 4


def all_metrics():
    """One of every metric class, by name."""
    kinds = {name: getattr(metrics, name) for name in metrics.__all__}
    return {name: kind() for name, kind in kinds.items() if isinstance(kind, type)}


def batches(images, size, rng):
    """Labels (B,) and logits (B, M, K), better than chance, until so many images are through."""
    for start in range(0, images, size):
        count = min(size, images - start)
        labels = rng.integers(0, CLASSES, count)
        logits = rng.standard_normal((count, MEMBERS, CLASSES), "float32")
        logits += 2 * rng.standard_normal((count, 1, CLASSES), "float32")
        logits[np.arange(count), :, labels] += 4
        yield labels, logits


def averaged(logits):
    """log mean_m softmax(logits_m): (B, K)."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.log((p / p.sum(axis=-1, keepdims=True)).mean(axis=1))


def update(every, labels, logits):
    """Show a batch to every metric: out of distribution are, for this purpose, the first ten classes."""
    answer = averaged(logits)
    score = -answer.max(axis=-1)
    for name, metric in every.items():
        if name.startswith("OOD"):
            metric.update_state((labels < 10).astype("int32"), score)
        else:
            metric.update_state(labels, logits if getattr(metric, "rank", 2) == 3 else answer)


def peak():
    """Peak resident memory of this process in GB."""
    kilobytes = 1 if sys.platform != "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / kilobytes * 1024 / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--limit", type=float, default=2.0)
    options = parser.parse_args()
    every, before, start = all_metrics(), peak(), time.perf_counter()
    stream = batches(options.images, options.batch, np.random.default_rng(0))
    steps = -(-options.images // options.batch)
    for labels, logits in track(
        stream, "metrics", total=steps, console=Console(stderr=True), transient=True
    ):
        update(every, labels, logits)
    for name, metric in every.items():
        print(f"{name:30} {float(metric.result()):.6f}")
    used = peak()
    print(
        f"{options.images} images, {CLASSES} classes, {MEMBERS} members, {len(every)} metrics: "
        f"{time.perf_counter() - start:.0f} s, peak {used:.2f} GB ({before:.2f} GB before the first batch)"
    )
    return int(used > options.limit)


if __name__ == "__main__":
    sys.exit(main())
