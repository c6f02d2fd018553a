"""Train a hyper-deep ensemble (Wenzel et al., 2020, arXiv 2006.13570) of single networks.

    python -m zoo.training.hyper_deep --recipe=fashion_mnist_single_lenet --trials=50 --members=4 \\
        --data_dir=DATA --output_dir=RUN

The command trains the recipe with 50 configurations of hyperparameters from one initialisation, the
first of them the recipe's own.  It chooses greedily, with replacement, up to 4 networks that most lower
the held-out NLL of their mean, trains each of their configurations on 4 seeds, and chooses again among
those.  The chosen networks, repeated as often as they were chosen, are joined into one model.

Cost: at most trials + members * (members - 1) trainings, here 62 times that of
`python -m zoo.training.train --recipe=fashion_mnist_single_lenet`, on 90 % of the images (`--held_out`).
Result: RUN is what `zoo.training.train` leaves, with `hyper_deep` in `config.json` telling what was
chosen, and `search.png`; `zoo.load("hyper_deep_lenet", weights="RUN")` loads it.

A stopped search resumes when it is started again, and another worker with the same command joins it: on
this machine, or on others that share RUN and a database (`--storage=postgresql://...`).  If a worker
dies, another resumes its network and repeats at most one epoch.  The search can be resumed with more
`--trials` or other `--members`.  RUN/networks keeps every network and its held-out predictions.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from zoo.training import flags as common
from zoo.training import queue_flags
from zoo.training.start import start

if TYPE_CHECKING:
    from zoo.training.ensembles.hyper_deep_search import SearchOptions

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", 50, "configurations tried, kappa in the paper")
flags.DEFINE_integer("members", 4, "most different networks in the ensemble, K in the paper")
flags.DEFINE_list(
    "tune", ["l2", "label_smoothing"], "one or more of l2, label_smoothing, learning_rate, dropout"
)
for _name, _range, _help in (
    ("l2", ["0.02", "200"], ": c of c * w in the gradient, times the number of training images"),
    ("label_smoothing", ["1e-5", "0.2"], ""),
    ("learning_rate", ["0.3", "3"], ", times the recipe's"),
    ("dropout", ["0.01", "0.5"], " before the head"),
):
    flags.DEFINE_list(f"{_name}_range", _range, f"log-uniform range LOW,HIGH of {_name}{_help}")
queue_flags.define_storage()
queue_flags.define_heartbeat()
common.set_default("held_out", 0.1)
flags.adopt_module_key_flags(common)


def options_from_flags() -> SearchOptions:
    """Return the search options that the flags give.

    Returns:
        `zoo.training.ensembles.hyper_deep_search.SearchOptions`.

    Raises:
        ValueError: if a range is not LOW,HIGH.
    """
    from zoo.training.ensembles.hyper_deep_search import SearchOptions

    ranges = {}
    for name in ("l2", "label_smoothing", "learning_rate", "dropout"):
        given = FLAGS[f"{name}_range"].value
        try:
            low, high = map(float, given)
        except ValueError:
            raise ValueError(f"--{name}_range takes LOW,HIGH; got {','.join(given)}") from None
        ranges[name] = (low, high)
    return SearchOptions(FLAGS.trials, FLAGS.members, tuple(FLAGS.tune), **ranges)


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    common.run_command("zoo.training.hyper_deep", _work, common.check_whole_networks)


def _work():
    import optuna

    from zoo.training.ensembles import hyper_deep_search

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return hyper_deep_search.search_ensemble(
        common.recipe_from_flags(), FLAGS.data_dir, pathlib.Path(FLAGS.output_dir),
        options_from_flags(), storage=FLAGS.storage, heartbeat=FLAGS.heartbeat, limit=FLAGS.limit,
        command=" ".join(["python -m zoo.training.hyper_deep", *_deciding_flags()]),
        compile_options=common.compile_options(),
    )  # fmt: skip


def _deciding_flags():
    """Yield the given flags that decide the result, without the folders of this machine."""
    yield from common.deciding_flags()
    for name in ("trials", "members", "tune", *(name for name in FLAGS if name.endswith("_range"))):
        if FLAGS[name].present:
            yield FLAGS[name].serialize()


if __name__ == "__main__":
    start(main, "zoo.training.hyper_deep")
