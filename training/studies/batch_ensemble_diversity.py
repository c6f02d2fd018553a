"""Is a BatchEnsemble a single model, and does the answer depend on how it is implemented?

    KERAS_BACKEND=jax python -m zoo.training.studies.batch_ensemble_diversity --workers=2 \\
        --data_dir=DATA --output_dir=OUT

The study trains an MLP 64-32-16 on MNIST, with five seeds each: a single network; BatchEnsemble of ranks
1 to 7, with every member on every image ("tile") or batches divided among members ("split"), and fast
weights drawn as random signs or from a normal distribution; as controls BatchEnsemble whose members
start equal; Packed-Ensembles, MIMO, and a deep ensemble.  All ensembles have four members, and all runs
the same batches and number of updates.  DATA holds `mnist` and `fashion_mnist`.

Cost: 170 runs, 30 minutes on two cores with JAX, which is the fastest here; any Keras backend works.
Result: OUT/report.json, OUT/report.md and OUT/diversity.png, with accuracy, calibration, and the
diversity of members in function and parameter space; `--docs=docs/batch_ensemble_study.md` also puts the
tables and the picture there.

A finished run is a file in OUT/runs: a stopped study resumes when it is started again, more `--seeds`
use the finished runs, and other processes with the same command join in.
"""

import os
import pathlib
import sys

from absl import flags

from zoo.data.presence import check_present
from zoo.training import queue_flags
from zoo.training.start import start

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "folder of the data sets", required=True)
flags.DEFINE_string("output_dir", None, "folder of this study", required=True)
flags.DEFINE_integer("workers", 1, "processes, each with one thread", lower_bound=1)
flags.DEFINE_integer("seeds", 5, "runs of a configuration", lower_bound=1)
flags.DEFINE_list("configurations", [], "names of those to run (default: all)")
flags.DEFINE_integer("epochs", 4, "passes over the training images", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "images per update", lower_bound=4)
flags.DEFINE_float("learning_rate", 2e-3, "initial learning rate of Adam", lower_bound=0.0)
flags.DEFINE_integer("limit", 0, "images of each split for a trial run, 0 for all", lower_bound=0)
flags.DEFINE_string("docs", None, "a document with markers for the tables")
flags.DEFINE_bool("report", True, "write the report when all runs are finished")
queue_flags.define_heartbeat(20)

# Another process with this one's flags, which leaves the report to this one.
_WORKER = [sys.executable, "-m", "zoo.training.studies.batch_ensemble_diversity"]
_ALONE = ["--workers=1", "--noreport"]


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    folder = pathlib.Path(FLAGS.output_dir)
    for dataset in ("mnist", "fashion_mnist"):
        check_present(dataset, FLAGS.data_dir)
    _before_backend(folder)
    # Keras, and so the backend, only now.
    from zoo.training.studies.diversity_runs import Settings
    from zoo.training.studies.diversity_study import study

    study(
        FLAGS.data_dir, folder,
        Settings(epochs=FLAGS.epochs, batch_size=FLAGS.batch_size,
                 learning_rate=FLAGS.learning_rate, limit=FLAGS.limit),
        FLAGS.seeds, FLAGS.configurations, heartbeat=FLAGS.heartbeat, docs=FLAGS.docs,
        report=FLAGS.report, others=[_WORKER + sys.argv[1:] + _ALONE] * (FLAGS.workers - 1),
    )  # fmt: skip


def _before_backend(folder):
    """Set what backends read at import: one thread for each worker, and a shared compilation cache."""
    if FLAGS.workers > 1:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.setdefault(name, "1")
        threads = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ.setdefault("XLA_FLAGS", threads)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder.absolute() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


if __name__ == "__main__":
    start(main, "zoo.training.studies.batch_ensemble_diversity")
