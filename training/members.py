"""Make a deep ensemble of networks that are trained apart, by any number of workers.

    python -m zoo.training.members --recipe=cifar10_deep_ensemble_resnet20 --num_members=4 \\
        --data_dir=DATA --output_dir=RUN

Member m is the network of `python -m zoo.training.train --recipe=cifar10_single_resnet20` with the seed
--seed + m: take seeds M apart for ensembles that share no member.  Start the same command as often as
there are devices, on this machine or on others that share RUN and a database
(`--storage=postgresql://...`): each worker takes the next member from a queue.  A stopped run goes on
when it is started again; a worker that dies costs no more than its own unfinished epoch, and its member
is trained by another.

    python -m zoo.training.members ... --member=$SLURM_ARRAY_TASK_ID

trains one member without a queue or a database, for job arrays (SLURM; indexed jobs of Kubernetes:
$JOB_COMPLETION_INDEX).  The last to finish joins the ensemble; the same command without --member does
it, too, after it has trained what is missing, so start that when the array has ended.

Cost: M trainings, and a pass of all members over the test images.  Workers exchange nothing.
Result: RUN is what `zoo.training.train` leaves, with `joined` in `config.json` saying who trained the
members; `zoo.load("deep_ensemble_resnet20", weights="RUN")` loads it.  RUN/members keeps every member as
its own run would have left it.
"""

import pathlib

from absl import app, flags

from zoo.training import flags as common

FLAGS = flags.FLAGS
flags.DEFINE_integer("member", None, "train this one alone, 0 ... M - 1, without a queue")
flags.DEFINE_string(
    "storage", None, "URL of a database for Optuna (default: an SQLite file in the folder)"
)
flags.DEFINE_integer(
    "heartbeat", 60, "seconds between a worker's signs of life; dead after three without", lower_bound=1
)
flags.adopt_module_key_flags(common)


def main(argv):
    """Entry point of absl."""
    common.run_command(argv, "zoo.training.members", _work)


def _work():
    import optuna

    from zoo.training.ensembles import deep_ensemble
    from zoo.training.flags import check_flags

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    check_flags(FLAGS.strategy, FLAGS.num_devices, FLAGS.dry_run)
    common.check_folders()
    return deep_ensemble.member_ensemble(
        common.recipe_from_flags(), FLAGS.data_dir, pathlib.Path(FLAGS.output_dir),
        member=FLAGS.member, storage=FLAGS.storage, heartbeat=FLAGS.heartbeat, limit=FLAGS.limit,
        command=" ".join(["python -m zoo.training.members", *common.deciding_flags()]),
        options={
            **common.compile_options(), "tensorboard": FLAGS.tensorboard, "remat": FLAGS.remat,
        },
    )  # fmt: skip


if __name__ == "__main__":
    app.run(main)
