"""Train one model of the zoo, on one device or many.

    python -m zoo.training.train --recipe=cifar10_packed_resnet20 --data_dir=DATA --output_dir=RUN
    python -m zoo.training.train ... --strategy=mirrored --num_devices=8      all GPUs of a machine
    python -m zoo.training.train ... --strategy=multi_worker                  the same on each machine
    KERAS_BACKEND=jax python -m zoo.training.train ... --strategy=data_parallel

Several machines are found by TF_CONFIG or SLURM's variables.  --batch_size is that of all devices
together, so a run gives the same weights on any number of them.  --dry_run says what a run will take:
parameters, memory a device, FLOPs and bytes a step; it needs neither data nor devices.

DATA holds TensorFlow Datasets' prepared folders or `.npz` files (see the README).  Every field of the
recipe is a flag: `--epochs=30 --alpha=3`.  A run that was stopped goes on from its last epoch when
started again with the same command; SIGTERM saves at once and exits with 0.  RUN ends up with `config.json` and weights ready for
`saved_models/`, `log.csv`, and TensorBoard's events where TensorFlow is the backend.  Any Keras backend
does (KERAS_BACKEND); with `.npz` data TensorFlow is not imported unless it is the backend.
"""

import dataclasses
import os
import pathlib

from absl import app, flags, logging

from zoo.training import recipes

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "recipe", None, "DATASET_METHOD_BACKBONE, see zoo/training/recipes.py", required=True
)
flags.DEFINE_string("data_dir", None, "folder of the data sets")
flags.DEFINE_string("output_dir", None, "folder of this run")
flags.DEFINE_integer("steps_per_execution", 1, "training steps a dispatch", lower_bound=1)
flags.DEFINE_bool("jit_compile", None, "compile with XLA (default: Keras's choice)")
flags.DEFINE_string(
    "strategy", "none", "none, mirrored, multi_worker, tpu (tf.distribute) or data_parallel (JAX)"
)
flags.DEFINE_integer("num_devices", None, "devices of this machine (default: all GPUs, or one CPU)")
flags.DEFINE_bool("dry_run", False, "print what the run will take, and stop; needs no data")
flags.DEFINE_bool("remat", False, "compute blocks twice, to keep fewer activations in memory")
flags.DEFINE_bool("tensorboard", True, "write TensorBoard events, where TensorBoard is installed")
flags.DEFINE_integer("limit", None, "train and test on this many images only, to try a run out")

_TYPES = {"int": flags.DEFINE_integer, "float": flags.DEFINE_float, "bool": flags.DEFINE_bool,
          "str": flags.DEFINE_string}  # fmt: skip
for _field in dataclasses.fields(recipes.Recipe):
    if _field.name in ("dataset", "method", "backbone"):
        continue
    _type = getattr(_field.type, "__name__", _field.type)
    if _type == "tuple":
        flags.DEFINE_list(_field.name, None, f"recipe: {_field.name}, shares of all steps")
    else:
        _TYPES[_type](_field.name, None, f"recipe: {_field.name}")


def recipe_from_flags():
    """The recipe that --recipe names, with the fields that flags override."""
    recipe = recipes.recipe(FLAGS.recipe)
    given = {
        field.name: FLAGS[field.name].value
        for field in dataclasses.fields(recipe)
        if field.name in FLAGS and FLAGS[field.name].value is not None
    }
    if "milestones" in given:
        try:
            given["milestones"] = tuple(float(share) for share in given["milestones"])
        except ValueError as error:
            raise ValueError(f"--milestones takes numbers with commas between them: {error}") from None
    return dataclasses.replace(recipe, **given)


def check_folders():
    """ValueError unless the flags name the folders that a run needs."""
    for name in ("data_dir", "output_dir"):
        if not FLAGS[name].value:
            raise ValueError(f"--{name} must be given, a folder: {FLAGS[name].help}")


def compile_options():
    """What flags say of how steps are compiled, for `run.train` and its kin."""
    return {
        "steps_per_execution": FLAGS.steps_per_execution,
        "jit_compile": "auto" if FLAGS.jit_compile is None else FLAGS.jit_compile,
    }


def run_command(argv, script, work):
    """Do what a training script is for, and say how it ended.

    Args:
        argv: absl's, with nothing but the script's name.
        script: the module's name.
        work: function that returns the contents of `config.json`, or None where there are none.  A
            ValueError, a FileNotFoundError or a `preemption.CannotGoOn` ends with its one line.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    # Where TensorFlow leaves oneDNN off (processors without AVX-512) training is three times slower.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    from zoo.training import preemption  # Keras, and so the backend, only now

    config = None
    try:
        config = work()
    except (ValueError, FileNotFoundError, preemption.CannotGoOn) as error:
        raise SystemExit(f"{script}: {error}") from None
    except preemption.Preempted as stopped:
        logging.info("%s; the same command goes on", stopped)
    if config:
        logging.info("test: %s", config["metrics"])


def main(argv):
    """Entry point of absl."""
    run_command(argv, "zoo.training.train", _train)


def _train():
    from zoo.training import distribution, run

    recipe = recipe_from_flags()
    if FLAGS.dry_run:
        from zoo.training import dry_run

        devices = FLAGS.num_devices or 1
        print(dry_run.report(recipe, num_devices=devices, remat=FLAGS.remat).text())
        return None
    check_folders()
    try:
        return run.train(
            recipe, FLAGS.data_dir, pathlib.Path(FLAGS.output_dir),
            command=" ".join(["python -m zoo.training.train", *deciding_flags()]),
            tensorboard=FLAGS.tensorboard, limit=FLAGS.limit, remat=FLAGS.remat,
            placement=distribution.place(FLAGS.strategy, FLAGS.num_devices), **compile_options(),
        )  # fmt: skip
    except run.WorkerLost as error:
        logging.error("%s", error)
        logging.flush()
        os._exit(75)  # EX_TEMPFAIL, and no waiting for the others at the exit


def deciding_flags():
    """The flags given that decide the result, without this machine's folders."""
    for name in ("recipe", "limit", *(field.name for field in dataclasses.fields(recipes.Recipe))):
        if name in FLAGS and FLAGS[name].present:
            yield FLAGS[name].serialize()


if __name__ == "__main__":
    app.run(main)
