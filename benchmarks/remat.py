"""What gradient checkpointing saves and costs: memory and time of a training step, with and without.

    KERAS_BACKEND=torch python benchmarks/remat.py --backbone=resnet18 --batch_size=64

Memory is what a step needs beyond what there is before it: on TensorFlow and PyTorch by the largest resident
set of a process that does nothing else, on JAX by what its compiler plans for gradients.  Time is the CPU time
of a step on one core, the median of steps of both networks by turns in one process.  Prints JSON; ratios are
with checkpointing to without.

Measured with TensorFlow 2.21 without XLA on quiet cores, ResNet-18 and 64 images: one network 0.87 of the memory (315 MB
of 360) and 1.11 of the time, packed 0.44 (298 of 677) and 1.27, BatchEnsemble 0.91 (3,075 of 3,381) and 1.19.
On a busy machine, one network and 16 images: with PyTorch 2.15 0.35 of the memory (78 MB of 221, of which
45 MB are gradients) and 1.24 of the time.  JAX's compiler for CPUs drops the barriers and merges both
computations: 1.15 of the memory that it plans.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet18", "what is trained")
flags.DEFINE_list("methods", ["single", "packed", "batch_ensemble"], "and by which methods")
flags.DEFINE_integer("num_members", 4, "M")
flags.DEFINE_integer("batch_size", 64, "images a step")
flags.DEFINE_integer("size", 32, "side of an image")
flags.DEFINE_integer("steps", 3, "steps that are timed; 0 measures memory alone")
flags.DEFINE_bool("jit", False, "whether TensorFlow compiles by XLA")
flags.DEFINE_string("measure", "", "what this process measures and prints; of the whole, by default")

# Memory that is freed goes back at once, so that the resident set is what is in use; oneDNN's would not.
RETURNING = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def student(method, again):
    """A compiled classifier, whose network is rematerialised or not."""
    import keras

    import zoo
    from zoo.training.memory.rematerialize import rematerialize

    kind = zoo.methods.METHODS[method]
    members = {} if method == "single" else {"num_members": FLAGS.num_members}
    model = zoo.build(kind(**members), FLAGS.backbone, 10, (FLAGS.size, FLAGS.size, 3))
    network = rematerialize(model.network) if again else model.network
    made = zoo.EnsembleClassifier(network, member_loss=model.member_loss)
    jit = True if keras.backend.backend() == "jax" else FLAGS.jit
    made.compile(keras.optimizers.SGD(0.1, 0.9), model.loss, jit_compile=jit)
    return made


def batch():
    """Images and labels of a step."""
    rng = np.random.default_rng(0)
    shape = (FLAGS.batch_size, FLAGS.size, FLAGS.size, 3)
    return rng.integers(0, 256, shape, "uint8"), rng.integers(0, 10, FLAGS.batch_size)


def memory(method, again):
    """Bytes that a step needs."""
    import keras

    model = student(method, again)
    return (_planned if keras.backend.backend() == "jax" else _resident)(model)


def _resident(model):
    model.train_on_batch(*batch())  # makes graph, kernels and optimiser's slots
    pathlib.Path("/proc/self/clear_refs").write_text(
        "5"
    )  # the largest resident set is now the present one
    before = _status("VmRSS")
    model.train_on_batch(*batch())
    return _status("VmHWM") - before


def _status(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) * 1024


def _planned(model):
    import jax
    from keras import ops

    images = batch()[0].astype("float32")
    weights, state = ([v.value for v in some] for some in (model.trainable_variables,
                                                           model.non_trainable_variables))  # fmt: skip

    def loss(weights, state, images):
        logits, state = model.stateless_call(weights, state, images, training=True)
        return -ops.mean(ops.log_softmax(logits)[..., 0]), state

    step = jax.jit(jax.grad(loss, has_aux=True))
    compiled = step.lower(weights, state, images).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def times(method):
    """CPU seconds of steps (steps, 2), without and with checkpointing."""
    models, seconds = [student(method, again) for again in (False, True)], []
    for _ in range(FLAGS.steps + 2):
        row = []
        for model in models:
            start = time.process_time()
            model.train_on_batch(*batch())
            row.append(time.process_time() - start)
        seconds.append(row)
    return seconds[2:]  # without compilation


def measured(*what, **environment):
    """What another process with this one's flags measures."""
    command = [sys.executable, *sys.argv, f"--measure={json.dumps(what)}"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **threads, **environment}
    output = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def report(method):
    """Figures of a method."""
    without, with_it = (measured("memory", method, again, **RETURNING) for again in (False, True))
    figures = {
        "megabytes": [round(without / 1e6, 1), round(with_it / 1e6, 1)],
        "memory": round(with_it / without, 3),
    }
    if FLAGS.steps:
        seconds = np.array(measured("times", method))
        figures["seconds"] = np.median(seconds, axis=0).round(3).tolist()
        figures["time"] = round(float(np.median(seconds[:, 1] / seconds[:, 0])), 3)
    return figures


def main(_):
    if FLAGS.measure:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        name, *arguments = json.loads(FLAGS.measure)
        print(json.dumps({"memory": memory, "times": times}[name](*arguments)))
        return
    kept = ("backbone", "num_members", "batch_size", "size", "jit")
    head = {
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        **{k: FLAGS[k].value for k in kept},
    }
    print(json.dumps({**head, **{method: report(method) for method in FLAGS.methods}}, indent=2))


if __name__ == "__main__":
    app.run(main)
