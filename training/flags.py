"""The flags that all training scripts share, and how a script begins and ends."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator

from absl import flags

from zoo.data.presence import check_present
from zoo.onednn import switch_onednn_on
from zoo.training import recipes
from zoo.training.start import check_folders, measured

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "recipe",
    None,
    "DATASET_METHOD_BACKBONE, see training/recipes.py, or docs/recipes.md",
    required=True,
)
flags.DEFINE_string("data_dir", None, "folder of the data sets")
flags.DEFINE_string("output_dir", None, "folder of this run")
flags.DEFINE_integer("steps_per_execution", 1, "training steps in one compiled call", lower_bound=1)
flags.DEFINE_bool("jit_compile", None, "compile with XLA (default: Keras's choice)")
flags.DEFINE_string(
    "strategy", "none", "none, mirrored, multi_worker, tpu (tf.distribute) or data_parallel (JAX)"
)
flags.DEFINE_integer("num_devices", None, "devices of this machine (default: all GPUs, or one CPU)")
flags.DEFINE_bool("dry_run", False, "report what the run will take, and stop; needs no data")
flags.DEFINE_bool("remat", False, "gradient checkpointing: less memory, a third more time")
flags.DEFINE_bool("tensorboard", True, "write TensorBoard events, where TensorBoard is installed")
flags.DEFINE_integer(
    "limit", None, "train and test on only this many images, for a trial run", lower_bound=1
)


def _field_helps() -> dict[str, str]:
    """Return what the docstring of `Recipe` says of each field, in one line each."""
    section = inspect.getdoc(recipes.Recipe).split("Args:\n")[1].split("\nRaises:")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    # What the docstring gives is the default of a field that the recipe does not set.
    return {
        name: " ".join(text.split()).replace("Default:", "Default: the recipe's, else")
        for name, text in entries
    }


_HELPS = _field_helps()
_TYPES = {"int": flags.DEFINE_integer, "float": flags.DEFINE_float, "bool": flags.DEFINE_bool,
          "str": flags.DEFINE_string}  # fmt: skip
for _field in dataclasses.fields(recipes.Recipe):
    if _field.name in ("dataset", "method", "backbone"):
        continue
    _type = getattr(_field.type, "__name__", _field.type)
    if _type == "tuple":
        flags.DEFINE_list(_field.name, None, _HELPS[_field.name])
    else:
        _TYPES[_type](_field.name, None, _HELPS[_field.name])


def set_default(name: str, value: float) -> None:
    """Give a field of the recipe a default of this script, which takes the place of the recipe's.

    Args:
        name: str, the field and its flag.
        value: the default.
    """
    FLAGS.set_default(name, value)
    FLAGS[name].help = FLAGS[name].help.partition(" Default:")[0]  # absl adds the new one


def recipe_from_flags() -> recipes.Recipe:
    """Return the recipe that --recipe names, with the fields that other flags override.

    Returns:
        `zoo.training.recipes.Recipe`.

    Raises:
        ValueError: if the recipe is unknown, or --milestones are not numbers.
    """
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
            raise ValueError(f"--milestones takes numbers separated by commas: {error}") from None
    return dataclasses.replace(recipe, **given)


def compile_options() -> dict:
    """Return the arguments of `compile` that flags give, for `run.train` and similar functions.

    Returns:
        dict with `steps_per_execution` and `jit_compile`.
    """
    return {
        "steps_per_execution": FLAGS.steps_per_execution,
        "jit_compile": "auto" if FLAGS.jit_compile is None else FLAGS.jit_compile,
    }


def check_inputs() -> None:
    """Check the recipe, the folders and that the data set is there, before a backend is imported.

    Raises:
        ValueError: if the recipe is unknown or a folder is not given.
        FileNotFoundError: if the data set is missing.
    """
    recipe = recipe_from_flags()
    if FLAGS.dry_run:
        return
    check_folders("data_dir", "output_dir")
    if "://" not in FLAGS.data_dir:
        check_present(recipe.dataset, FLAGS.data_dir)


def check_whole_networks() -> None:
    """Check the flags and inputs of a script whose workers train whole networks.

    Raises:
        ValueError: if a flag cannot be used there, the recipe is unknown or a folder is not given.
        FileNotFoundError: if the data set is missing.
    """
    check_flags(FLAGS.strategy, FLAGS.num_devices, FLAGS.dry_run, FLAGS.remat)
    check_inputs()


def run_command(
    script: str, work: Callable[[], dict | None], check: Callable[[], None] = check_inputs
) -> None:
    """Do the work of a training script, and report how it ended.

    Args:
        script: str, the name of the module.
        work: function that returns the contents of `config.json`, or None if there are none.
        check: function that is called first, without a backend. Default: `check_inputs`.

    Raises:
        Exception: what `work` and `check` raise, which `start` reports, except for
            `preemption.Preempted`, after which the script has done what it could.
    """
    check()
    switch_onednn_on()
    from zoo.training.loop import preemption  # Keras, and so the backend, only now

    try:
        config = work()
    except preemption.Preempted as stopped:
        print(f"{script}: {stopped}; the same command resumes", file=sys.stderr)
        return
    if config:
        print(f"test: {measured(config)}")


def deciding_flags() -> Iterator[str]:
    """Yield the given flags that decide the result, without the folders of this machine.

    Returns:
        Iterator of str, such as "--epochs=30".
    """
    for name in ("recipe", "limit", *(field.name for field in dataclasses.fields(recipes.Recipe))):
        if name in FLAGS and FLAGS[name].present:
            yield FLAGS[name].serialize()


def check_flags(
    strategy: str, num_devices: int | None, dry_run: bool = False, remat: bool = False
) -> None:
    """Refuse flags of `zoo.training.train` that cannot be used when each worker trains whole networks.

    Args:
        strategy: str, the flag --strategy.
        num_devices: int or None, the flag --num_devices.
        dry_run: bool, the flag --dry_run. Default: False.
        remat: bool, the flag --remat. Default: False.

    Raises:
        ValueError: with one line that names the alternative.
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
