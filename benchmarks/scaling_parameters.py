"""Measured parameters of the scaling model: one machine of two cores, TensorFlow.

    python benchmarks/scaling_parameters.py --output=docs/scaling_parameters.json
    python -m zoo.training.studies.scaling --page=docs/scaling.md

Parts, each in processes of its own, pinned to cores: FLOP/s of a training step by method on one core and
on two; all-reduces against bytes between two processes (MultiWorkerMirroredStrategy on loopback) and two
logical devices of one process (MirroredStrategy); steps of two networks on one and on two processes,
which the model is to predict; and JPEG decoding on one core.  About ten minutes on quiet cores.  Times
are lower quartiles over rounds: what else a machine does only adds to them.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

METHODS = {
    "single": "Single()",
    "packed": "Packed(4, alpha=2, gamma=1)",
    "packed_gamma2": "Packed(4, alpha=2, gamma=2)",
    "batch_ensemble": "BatchEnsemble(4)",
    "mimo": "MIMO(3)",
    "hyper_batch": "HyperBatch(4)",
    "masksembles": "Masksembles(4)",
    "mc_dropout": "MCDropout(4)",
    "deep_ensemble": "DeepEnsemble(4)",
    "dst_tickets": "Tickets(3, sparsity=0.8)",
}
SIZES = [4, 4096, 65_536, 524_288, 2_097_152, 8_388_608, 33_554_432]  # bytes
CHAIN = 4  # all-reduces a call, one after the other
VALIDATED = {"mlp": 64, "resnet20": 32}  # batch a process
SHAPE = (32, 32, 3)


def compute(rounds, cores):
    """{method: seconds, FLOP/s} of training steps of ResNet-20, in turn, so that all meet the same noise."""
    import keras
    import numpy as np

    import zoo
    from zoo import methods
    from zoo.step_cost import step_cost

    batch = 32
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (batch, *SHAPE)).astype("float32"), rng.integers(0, 10, batch)
    models = {}
    for name, text in METHODS.items():
        models[name] = zoo.build(eval(text, vars(methods)), "resnet20", 10, SHAPE)
        models[name].compile(keras.optimizers.SGD(0.01, 0.9), models[name].loss, jit_compile=False)
    clock = time.process_time if cores == 1 else time.perf_counter
    times = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = clock()
            model.train_on_batch(*data)
            times[name].append(clock() - start)
    seconds = {name: quartile(taken[1:]) for name, taken in times.items()}
    return {
        name: {"seconds": t, "flops": batch * step_cost(models[name].network).training_flops / t}
        for name, t in seconds.items()
    }


def exchange(rounds, strategy):
    """Seconds of an all-reduce of each of `SIZES`, and the latency and bandwidth that fit them."""
    import numpy as np
    import tensorflow as tf
    from scipy.optimize import nnls

    def chain(value):
        context = tf.distribute.get_replica_context()
        value = value + 1.0  # made on this replica's device, as a gradient is
        for _ in range(CHAIN):
            value = context.all_reduce("MEAN", value)
        return value

    seconds = []
    for size in SIZES:
        value = tf.zeros(size // 4)
        call = tf.function(lambda value: strategy.run(chain, (value,)))
        seconds.append(timed(lambda call=call, value=value: call(value), rounds) / CHAIN)
    seconds = np.array(seconds)
    rows = np.stack([np.ones(len(SIZES)), np.array(SIZES, float)], axis=1) / seconds[:, None]
    constant, slope = nnls(rows, np.ones(len(SIZES)))[0]  # relative errors, of two devices' ring
    return {"bytes": SIZES, "seconds": list(seconds), "latency": constant / 2, "bandwidth": 1 / slope}


def steps(rounds, strategy):
    """{backbone: seconds of a training step} with `VALIDATED` images a replica."""
    import keras
    import numpy as np
    import tensorflow as tf

    import zoo

    results = {}
    for backbone, batch in VALIDATED.items():
        keras.utils.set_random_seed(0)
        with strategy.scope():
            network = zoo.build(zoo.methods.Single(), backbone, 10, SHAPE).network
            optimizer = keras.optimizers.SGD(0.01, 0.9)
            optimizer.build(network.trainable_variables)
        rng = np.random.default_rng(0)
        images = tf.constant(rng.integers(0, 256, (batch, *SHAPE)), "float32")
        labels = tf.constant(rng.integers(0, 10, batch))

        def replica(images, labels, network=network, optimizer=optimizer):
            with tf.GradientTape() as tape:
                logits = network(images, training=True)[:, 0]
                losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
                loss = tf.reduce_mean(losses) / strategy.num_replicas_in_sync
            variables = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            return loss

        @tf.function
        def step(images, labels, replica=replica):
            return strategy.run(replica, (images, labels))

        results[backbone] = timed(
            lambda step=step, images=images, labels=labels: step(images, labels), rounds
        )
    return results


def decoding(rounds):
    """Images a second that one core decodes (500 x 375), crops and resizes to 224 x 224."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    rough = tf.image.resize(rng.integers(0, 256, (24, 32, 3)), (375, 500), "bicubic")
    noisy = tf.clip_by_value(rough + rng.normal(0, 8, (375, 500, 3)), 0, 255)
    encoded = tf.io.encode_jpeg(tf.cast(noisy, tf.uint8), quality=90)

    @tf.function
    def prepare(encoded):
        images = []
        for place in range(16):  # different crops: equal ones would be computed once
            image = tf.io.decode_and_crop_jpeg(encoded, [40 + place, 60, 300, 320], channels=3)
            images.append(tf.image.resize(image, (224, 224)))
        return tf.stack(images)

    return {"images_per_second": 16 / timed(lambda: prepare(encoded), rounds)}


def timed(call, rounds):
    """Lower quartile of the seconds that a call takes, after two others."""
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        for value in _local(call()):
            value.numpy()
        times.append(time.perf_counter() - start)
    return quartile(times[2:])


def _local(value):
    return getattr(value, "values", None) or [value]


def quartile(times):
    """Lower quartile."""
    return sorted(times)[(len(times) - 1) // 4]


def child(part, cores, rounds):
    """A part in this process, as JSON on standard output."""
    os.sched_setaffinity(0, cores)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(len(cores))
    tf.config.threading.set_inter_op_parallelism_threads(2 if part == "processes" else len(cores))
    if part == "compute":
        result = compute(rounds, len(cores))
    elif part == "decoding":
        result = decoding(rounds)
    elif part == "steps":
        result = steps(rounds, tf.distribute.get_strategy())
    elif part == "devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        result = exchange(rounds, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        result = {"exchange": exchange(rounds, strategy), "steps": steps(rounds, strategy)}
    print("RESULT " + json.dumps(result), flush=True)


def run(part, rounds, cores=(0,), **environment):
    """Start a part in a process of its own."""
    arguments = [f"--part={part}", f"--rounds={rounds}", f"--cores={','.join(map(str, cores))}"]
    threads = {"OMP_NUM_THREADS": str(len(cores)), "KERAS_BACKEND": "tensorflow"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, *arguments],
        env={**os.environ, **threads, **environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(process):
    """What a part found."""
    output, _ = process.communicate()
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not lines:
        raise SystemExit(f"a part failed:\n{output}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def two_processes(rounds, cores):
    """`exchange` and `steps` of two workers on loopback, a core each."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    workers = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        processes.append(run("processes", rounds, cores[index : index + 1], TF_CONFIG=json.dumps(task)))
    results = [result(process) for process in processes]
    return results[0]


def processor():
    """The processor's name."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def measured(name, rounds, cores):
    """What a name in the file stands for, measured on two cores."""
    few = max(3, rounds // 3)
    if (
        name == "links"
    ):  # both from the same two workers, and steps of one process as near in time as can be
        together = two_processes(rounds, cores)
        alone = result(run("steps", rounds, cores[:1]))
        devices = result(run("devices", rounds, cores))
        return {
            "exchange": {"processes": together["exchange"], "devices": devices},
            "steps": {"batch": VALIDATED, "one_process": alone, "two_processes": together["steps"]},
        }
    if name == "decoding":
        return {"decoding": result(run("decoding", rounds, cores[:1]))}
    one, two = (result(run("compute", few, taken)) for taken in (cores[:1], cores))
    return {"compute": {"methods": METHODS, "one_core": one, "two_cores": two}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="docs/scaling_parameters.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="links,decoding,compute", help="the rest of the file stays")
    parser.add_argument("--cores", default="", help="the two to use, such as 0,1")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what `run` starts
    options = parser.parse_args()
    cores = [int(core) for core in options.cores.split(",") if core]
    cores = cores or sorted(os.sched_getaffinity(0))[:2]
    if options.part:
        child(options.part, cores, options.rounds)
        return
    if len(cores) < 2:
        raise SystemExit("two cores are needed, one a process")
    path, names = pathlib.Path(options.output), options.only.split(",")
    if unknown := set(names) - {"links", "decoding", "compute"}:
        raise SystemExit(f"--only takes links, decoding and compute; got {', '.join(sorted(unknown))}")
    for name in names:
        kept = json.loads(path.read_text()) if path.is_file() else {}
        kept |= {
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
            "software": f"TensorFlow {importlib.metadata.version('tensorflow')}",
            **measured(name, options.rounds, cores),
        }
        path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
