"""Cost of each method's step and answer beside the single network's: medians of interleaved CPU times.

python benchmarks/method_speed.py packed mimo batch_ensemble --train=64 --infer=1,32,128 --rounds=7
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

METHODS = {
    "single": "Single()",
    "packed": "Packed(4, alpha=2, gamma=1)",
    "packed_gamma2": "Packed(4, alpha=2, gamma=2)",
    "mimo": "MIMO(4)",
    "batch_ensemble": "BatchEnsemble(4)",
    "batch_ensemble_rank2": "BatchEnsemble(4, rank=2)",
    "batch_ensemble_norm": "BatchEnsemble(4, per_member_norm=True)",
    "batch_ensemble_late": "BatchEnsemble(4, tile_at=4)",
    "batch_ensemble_split": 'BatchEnsemble(4, training_mode="split")',
    "mc_dropout": "MCDropout(4)",
    "masksembles": "Masksembles(4)",
    "deep_ensemble": "DeepEnsemble(4)",
    "hyper_batch": "HyperBatch(4)",
    "sparse": "Single()",
    "tickets": "Tickets(4)",
}


def jobs(model, train, infer, size):
    """Calls to time, by name: one training step, and answers for each batch size."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for batch in train:
        x = rng.integers(0, 256, (batch, size, size, 3)).astype("float32")
        y = np.arange(batch) % 10
        yield f"train {batch}", lambda x=x, y=y: model.train_on_batch(x, y)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        call = tf.function(lambda x: model(x, training=False))
        answer = lambda x: call(tf.constant(x)).numpy()  # noqa: E731
    else:
        answer = model.predict_on_batch
    for batch in infer:
        x = rng.integers(0, 256, (batch, size, size, 3)).astype("float32")
        yield f"infer {batch}", lambda x=x: answer(x)


def measure(calls, rounds, seconds=0.05):
    """{name: seconds of CPU and of wall clock, each a list a round}, in turn."""
    repeats, times = {}, {name: ([], []) for name in calls}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(seconds / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time(), time.perf_counter()
            for _ in range(repeats[name]):
                call()
            for kept, end, begun in zip(times[name], (time.process_time(), time.perf_counter()), start):
                kept.append((end - begun) / repeats[name])
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="+", choices=METHODS)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--train", default="")
    parser.add_argument("--infer", default="")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    import zoo
    from zoo import methods

    sizes = [[int(n) for n in text.split(",") if n] for text in (options.train, options.infer)]
    names = ["single", *(name for name in options.methods if name != "single")]
    models = {}
    for name in names:
        method = eval(f"methods.{METHODS[name]}", {"methods": methods})
        shape = (options.size, options.size, 3)
        model = models[name] = zoo.build(method, options.backbone, 10, shape)
        if name == "sparse":
            models[name] = zoo.layers.sparsify(model, 0.8)
    work = {name: dict(jobs(model, *sizes, options.size)) for name, model in models.items()}
    for job in work["single"]:
        times = measure({name: calls[job] for name, calls in work.items()}, options.rounds)
        medians = {n: [statistics.median(t) for t in kept] for n, kept in times.items()}
        lowest = {n: min(kept[0]) for n, kept in times.items()}
        for name, (cpu, wall) in medians.items():
            ratio = statistics.median(a / b for a, b in zip(times[name][0], times["single"][0]))
            print(
                f"{job:10s} {name:22s} cpu {cpu * 1e3:9.2f} ms  x{ratio:6.3f}  "
                f"min x{lowest[name] / lowest['single']:6.3f}  wall x{wall / medians['single'][1]:6.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
