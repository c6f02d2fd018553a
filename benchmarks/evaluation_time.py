"""Time of evaluating a model on a test split, all metrics, beside plain `model.predict` of the same images.

    python benchmarks/evaluation_time.py [NAME] --data_dir DATA [--dataset cifar10] [--rounds 3] [--clock wall]

Evaluation is what `zoo evaluate` does with a test split: predictions of all members with an empty cache, every
figure, temperature scaling with cross-fitting, the curves, and the OOD figures of 10,000 other predictions.
Both take turns in one process after a warm-up. Prints medians of wall-clock and CPU time, and exits with 1
where evaluation takes more than 1.15 times predict + 3 s by the clock that is asked for: on a machine that is
busy with other things only CPU time says something.

Measured for packed_lenet (four members) on 10,000 images with TensorFlow 2.21 on two quiet cores: predict 0.71 s,
evaluation 2.66 s, where 3.82 s are allowed.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

from zoo.data import arrays
from zoo.evaluation import ood
from zoo.evaluation.cached_models import find_models
from zoo.evaluation.evaluate import _prediction
from zoo.evaluation.scores import calibrated_scores, curves, scores

FACTOR, EXTRA = 1.15, 3.0
BATCH = 256


def evaluation(model, test, cache):
    """All that is measured on a test split, and OOD figures."""
    logits = model.logits(test.images, BATCH)
    prediction = _prediction(logits)
    scores(prediction, test.labels)
    calibrated_scores(prediction, test.labels)
    curves(prediction, test.labels)
    other = ood.OODSet("other", "far", test.images, None)
    ood.detect(logits, [other], lambda images: logits[::-1])


def timed(function, *arguments):
    """(wall-clock, CPU) seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="packed_resnet20")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    test = arrays.load(options.dataset, "test", options.data_dir)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        [warm] = find_models([options.name], options.dataset, pathlib.Path(folder) / "warm")
        model = warm.model
        for i in range(options.rounds + 1):
            [fresh] = find_models([options.name], options.dataset, pathlib.Path(folder) / str(i))
            fresh.__dict__["model"] = model  # loaded once: the cache is what must be empty
            plain = timed(lambda: model.predict(test.images, batch_size=BATCH, verbose=0))
            rows.append((plain, timed(evaluation, fresh, test, folder)))
    over = False
    for i, clock in enumerate(("wall", "cpu")):
        plain, whole = (statistics.median(row[j][i] for row in rows[1:]) for j in (0, 1))
        allowed = FACTOR * plain + EXTRA
        over |= clock == options.clock and whole > allowed
        print(
            f"{clock}: predict {plain:.2f} s, evaluation {whole:.2f} s, allowed {allowed:.2f} s "
            f"({len(test)} images, {model.num_members} members, {options.rounds} rounds)"
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
