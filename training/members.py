"""Train the members of a deep ensemble separately, with any number of workers, and join them.

    python -m zoo.training.members --recipe=cifar10_deep_ensemble_resnet20 --num_members=4 \\
        --data_dir=DATA --output_dir=RUN

Member m is the network that `python -m zoo.training.train --recipe=cifar10_single_resnet20` trains with
the seed --seed + m; choose seeds M apart for ensembles that share no member.  Start the same command
once for each device, on this machine or on others that share RUN and a database
(`--storage=postgresql://...`); each worker takes the next member from a queue.  A stopped run resumes
when it is started again.  If a worker dies, another resumes its member and repeats at most one epoch.

    python -m zoo.training.members ... --member=$SLURM_ARRAY_TASK_ID

trains one member without a queue or a database, for job arrays (SLURM; indexed jobs of Kubernetes:
$JOB_COMPLETION_INDEX).  The last one to finish joins the ensemble.  When the array has ended, the same
command without --member trains the members that are missing and joins the ensemble.

Cost: M trainings, and a pass of all members over the test images.  Workers exchange nothing. Result: RUN
is what `zoo.training.train` leaves, with `joined` in `config.json` telling how each member was trained;
`zoo.load("deep_ensemble_resnet20", weights="RUN")` loads it.  RUN/members keeps every member as its own
run would have left it.
"""

import pathlib

from absl import flags

from zoo.training import flags as common
from zoo.training import queue_flags
from zoo.training.start import start

FLAGS = flags.FLAGS
flags.DEFINE_integer("member", None, "train only this member, 0 ... M - 1, without a queue")
queue_flags.define_storage()
queue_flags.define_heartbeat()
flags.adopt_module_key_flags(common)


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    common.run_command("zoo.training.members", _work, _check)


def _check():
    common.check_flags(FLAGS.strategy, FLAGS.num_devices, FLAGS.dry_run)
    common.check_inputs()


def _work():
    import optuna

    from zoo.training.ensembles import deep_ensemble

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return deep_ensemble.member_ensemble(
        common.recipe_from_flags(), FLAGS.data_dir, pathlib.Path(FLAGS.output_dir),
        member=FLAGS.member, storage=FLAGS.storage, heartbeat=FLAGS.heartbeat, limit=FLAGS.limit,
        command=" ".join(["python -m zoo.training.members", *common.deciding_flags()]),
        options={
            **common.compile_options(), "tensorboard": FLAGS.tensorboard, "remat": FLAGS.remat,
        },
    )  # fmt: skip


if __name__ == "__main__":
    start(main, "zoo.training.members")
