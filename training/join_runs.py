"""Join single networks that were trained separately, on one machine or several, into a deep ensemble.

    for seed in 0 1 2 3; do
      python -m zoo.training.train --recipe=cifar10_single_resnet20 --seed=$seed --data_dir=DATA \\
          --output_dir=RUNS/$seed
    done
    python -m zoo.training.join_runs --runs=RUNS/0,RUNS/1,RUNS/2,RUNS/3 --data_dir=DATA --output_dir=RUN

Cost: one pass over the test images.  Result: RUN is what `zoo.training.train` leaves;
`zoo.load("deep_ensemble_resnet20", weights="RUN")` loads it.  Members are loaded from the float16 files.
"""

from absl import flags

from zoo.training.ensembles.joined_runs import join_runs
from zoo.training.start import measured, start

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    config = join_runs(
        FLAGS.runs, FLAGS.data_dir, FLAGS.output_dir, FLAGS.limit,
        f"python -m zoo.training.join_runs --runs={','.join(['RUN'] * len(FLAGS.runs))}",
    )  # fmt: skip
    print(f"test: {measured(config)}")


def _define_flags():
    """Define the flags only when this is the script, because other scripts use the same names."""
    flags.DEFINE_list(
        "runs", None, "output folders of zoo.training.train, of single networks", required=True
    )
    flags.DEFINE_string("data_dir", None, "folder of the data set", required=True)
    flags.DEFINE_string("output_dir", None, "folder of the ensemble", required=True)
    flags.DEFINE_integer("limit", None, "the --limit of the runs", lower_bound=1)


if __name__ == "__main__":
    _define_flags()
    start(main, "zoo.training.join_runs")
