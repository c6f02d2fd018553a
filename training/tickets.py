"""Train an ensemble of sparse tickets (FreeTickets; Liu et al., 2022, arXiv 2106.14568).

    python -m zoo.training.tickets --recipe=fashion_mnist_edst_tickets_lenet --num_members=3 \\
        --sparsity=0.8 --data_dir=DATA --output_dir=RUN

--procedure=edst (for recipes of edst_tickets) is one training run: a third of it explores connections at
the full learning rate, and the rest makes M tickets one after the other, between which 80 % of the
connections are dropped and regrown.  The other procedures (for recipes of dst_tickets) are M runs, each
with its own seed: dst trains connections along with weights; static keeps the connections that were drawn
at the start; pruned trains dense networks, prunes them and fine-tunes them; lottery prunes trained
networks, returns to the weights of an early step and trains again.

Cost: edst costs as much as `python -m zoo.training.train` with the same epochs, dst and static M times
that, pruned M * (1 + fine_tuning) times, lottery almost 2 * M times.  Masked weights cost as much time
as others. Result: RUN is what `zoo.training.train` leaves, with `tickets` in `config.json`, and weights
stored as bit mask and values; `zoo.load("edst_tickets_lenet", weights="RUN")` loads it.

The published setting for CIFAR is --epochs=450 (edst, M=3) or --epochs=250 (dst), --schedule=step
--milestones=0.5,0.748 --factor=0.1 --warm_up=0 --every=1000 --drop_fraction=0.5
--drop_schedule=constant --moving=1 --reset_dense_layers.

The M runs have the seeds --seed, --seed + 1, ...; choose seeds M apart for ensembles that share no
member. A stopped run resumes from its last epoch when it is started again.  Another worker with the same
command takes the next network of dst, static, pruned and lottery.
"""

import dataclasses
import pathlib

from absl import flags

from zoo.training import flags as common
from zoo.training import queue_flags
from zoo.training.start import start

FLAGS = flags.FLAGS
flags.DEFINE_enum("procedure", None, ["dst", "edst", "static", "pruned", "lottery"],
                  "default: edst for recipes of edst_tickets, else dst")  # fmt: skip
flags.DEFINE_float("sparsity", None, "S, share of zeros in all kernels together")
flags.DEFINE_enum("distribution", "erk", ["erk", "uniform"], "how non-zeros are distributed over layers")
flags.DEFINE_enum("growth", "rigl", ["set", "rigl", "momentum"], "how new connections are chosen")
flags.DEFINE_integer("every", 100, "DeltaT, steps between topology updates", lower_bound=1)
flags.DEFINE_float("drop_fraction", 0.3, "r, fraction of a layer's connections that an update drops")
flags.DEFINE_enum("drop_schedule", "cosine", ["constant", "cosine"], "schedule of the drop fraction")
flags.DEFINE_float(
    "moving",
    0.75,
    "dst, edst: share of a ticket's training with topology updates, from its start; edst: of exploration, too",
)
flags.DEFINE_bool("reset_dense_layers", False, "zero small weights of dense layers at updates, too")
flags.DEFINE_float("exploration", 1 / 3, "edst: share of the training before the first ticket")
flags.DEFINE_float(
    "hop_fraction", 0.8, "edst: fraction of connections dropped and regrown between tickets (q)"
)
flags.DEFINE_enum("ramp", "constant", ["constant", "polynomial"],
                  "pruned: at once, or over half of the fine-tuning")  # fmt: skip
flags.DEFINE_float("fine_tuning", 0.5, "pruned: epochs of fine-tuning, as a share of the recipe's")
flags.DEFINE_float("fine_tuning_rate", 0.01, "pruned: learning rate of fine-tuning, times the peak")
flags.DEFINE_float("rewind", 0.05, "lottery: share of the dense training that is not repeated")
queue_flags.define_storage()
queue_flags.define_heartbeat()
common.set_default("held_out", 0.1)
flags.adopt_module_key_flags(common)


def recipe_and_options() -> tuple:
    """Return the recipe and the options that the flags give.

    Returns:
        (`zoo.training.recipes.Recipe`, `zoo.training.sparse_tickets.phases.TicketOptions`).

    Raises:
        ValueError: if a flag is out of range.
    """
    from zoo.training.sparse_tickets.phases import TicketOptions

    recipe = common.recipe_from_flags()
    if FLAGS.sparsity is not None:
        parts = [*filter(None, [recipe.arguments]), f"sparsity={FLAGS.sparsity}"]
        recipe = dataclasses.replace(recipe, arguments=",".join(parts))
    procedure = FLAGS.procedure or ("edst" if recipe.method == "edst_tickets" else "dst")
    names = [field.name for field in dataclasses.fields(TicketOptions)][1:]
    return recipe, TicketOptions(procedure, **{name: FLAGS[name].value for name in names})


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    common.run_command("zoo.training.tickets", _work, common.check_whole_networks)


def _work():
    import optuna

    from zoo.training.sparse_tickets import ensemble

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recipe, options = recipe_and_options()
    return ensemble.ticket_ensemble(
        recipe, FLAGS.data_dir, pathlib.Path(FLAGS.output_dir), options, storage=FLAGS.storage,
        heartbeat=FLAGS.heartbeat, limit=FLAGS.limit,
        command=" ".join(["python -m zoo.training.tickets", *_deciding_flags()]),
        compile_options=common.compile_options(),
    )  # fmt: skip


def _deciding_flags():
    """Yield the given flags that decide the result, without the folders of this machine."""
    from zoo.training.sparse_tickets.phases import TicketOptions

    yield from common.deciding_flags()
    for name in ("sparsity", *(field.name for field in dataclasses.fields(TicketOptions))):
        if FLAGS[name].present:
            yield FLAGS[name].serialize()


if __name__ == "__main__":
    start(main, "zoo.training.tickets")
