"""Train one model of the zoo, on one device or many.

    python -m zoo.training.train --recipe=cifar10_packed_resnet20 --data_dir=DATA --output_dir=RUN
    python -m zoo.training.train ... --strategy=mirrored --num_devices=8      all GPUs of a machine
    python -m zoo.training.train ... --strategy=multi_worker                  the same on each machine
    KERAS_BACKEND=jax python -m zoo.training.train ... --strategy=data_parallel

Several machines find each other by TF_CONFIG or SLURM's variables.  --batch_size is that of all devices
together, so a run gives the same weights on any number of them.  --dry_run reports what a run will cost:
parameters, memory per device, FLOPs and bytes per step; it needs neither data nor devices.

DATA holds TensorFlow Datasets' prepared folders or `.npz` files (see docs/datasets.md).  Every field of
the recipe is a flag: `--epochs=30 --alpha=3`.  A run that was stopped resumes from its last epoch when
the same command is started again; at SIGTERM it saves at once and exits with 0.  RUN ends up with
`config.json` and weights ready for `saved_models/`, `log.csv`, and TensorBoard events if TensorFlow is
the backend.  Any Keras backend can be used (KERAS_BACKEND); with `.npz` data TensorFlow is imported only
if it is the backend.
"""

import os
import pathlib
import sys

from absl import flags

from zoo.training import flags as common
from zoo.training.start import start

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(common)


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    common.run_command("zoo.training.train", _work)


def _work():
    from zoo.training.devices import choose
    from zoo.training.loop import run

    recipe = common.recipe_from_flags()
    if FLAGS.dry_run:
        from zoo.training.loop import dry_run

        devices = FLAGS.num_devices or 1
        print(dry_run.report(recipe, num_devices=devices, remat=FLAGS.remat).text())
        return None
    try:
        return run.train(
            recipe, FLAGS.data_dir, pathlib.Path(FLAGS.output_dir),
            command=" ".join(["python -m zoo.training.train", *common.deciding_flags()]),
            tensorboard=FLAGS.tensorboard, limit=FLAGS.limit, remat=FLAGS.remat,
            placement=choose.place(FLAGS.strategy, FLAGS.num_devices), **common.compile_options(),
        )  # fmt: skip
    except run.WorkerLost as error:
        print(f"zoo.training.train: {error}", file=sys.stderr, flush=True)
        os._exit(75)  # EX_TEMPFAIL, and no waiting for the others at the exit


if __name__ == "__main__":
    start(main, "zoo.training.train")
