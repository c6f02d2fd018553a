"""Flags of all training scripts, and how a script begins and ends."""

import dataclasses
import os

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
    from zoo.training.loop import preemption  # Keras, and so the backend, only now

    config = None
    try:
        config = work()
    except (ValueError, FileNotFoundError, preemption.CannotGoOn) as error:
        raise SystemExit(f"{script}: {error}") from None
    except preemption.Preempted as stopped:
        logging.info("%s; the same command goes on", stopped)
    if config:
        logging.info("test: %s", config["metrics"])


def deciding_flags():
    """The flags given that decide the result, without this machine's folders."""
    for name in ("recipe", "limit", *(field.name for field in dataclasses.fields(recipes.Recipe))):
        if name in FLAGS and FLAGS[name].present:
            yield FLAGS[name].serialize()


def check_flags(strategy, num_devices, dry_run=False, remat=False):
    """Refuse flags of `zoo.training.train` that do not go with workers that share whole networks.

    Raises:
        ValueError: one line that names the alternative.
    """
    if strategy != "none" or num_devices not in (None, 1):
        given = f"--num_devices={num_devices}" if strategy == "none" else f"--strategy={strategy}"
        raise ValueError(
            f"{given} spreads one network over devices, and workers share whole networks here; leave it "
            "out and start this command once for each device"
        )
    if dry_run:
        raise ValueError("--dry_run is for one network; ask python -m zoo.training.train")
    if remat:
        raise ValueError("--remat is for python -m zoo.training.train and members; leave it out")
