"""Make an ensemble of sparse tickets (FreeTickets; Liu et al., 2022, arXiv 2106.14568).

    python -m zoo.training.tickets --recipe=fashion_mnist_edst_tickets_lenet --num_members=3 \\
        --sparsity=0.8 --data_dir=DATA --output_dir=RUN

--procedure=edst (for recipes of edst_tickets): one training run; a third of it explores connections at the
full learning rate, the rest brings out M tickets one after the other, between which 80 % of the
connections hop.  For recipes of dst_tickets M runs, each from its own seed: dst trains connections along with
weights; static leaves them where they were drawn; pruned trains dense networks, prunes and fine-tunes
them; lottery prunes them, goes back to the weights of an early step and trains again.

Cost: edst that of `python -m zoo.training.train` with the same epochs, dst and static M times that; pruned
M * (1 + fine_tuning) times, lottery almost 2 * M times.  Masked weights cost as much time as others.
Result: RUN is what `zoo.training.train` leaves, with `tickets` in `config.json`, weights stored as bit
mask and values; `zoo.load("edst_tickets_lenet", weights="RUN")` loads it.

The published setting for CIFAR is --epochs=450 (edst, M=3) or --epochs=250 (dst), --schedule=step
--milestones=0.5,0.748 --factor=0.1 --warm_up=0 --every=1000 --drop_fraction=0.5
--drop_schedule=constant --moving=1 --reset_dense_layers.

Networks that are trained apart have the seeds --seed, --seed + 1, ...: take seeds M apart for ensembles that
share no member.  A stopped run goes on from its last epoch when started again, and another worker with
the same command takes the next network of dst, static, pruned and lottery.
"""

import dataclasses
import pathlib

from absl import app, flags

from zoo.training import flags as common

FLAGS = flags.FLAGS
flags.DEFINE_enum("procedure", None, ["dst", "edst", "static", "pruned", "lottery"],
                  "default: edst for recipes of edst_tickets, else dst")  # fmt: skip
flags.DEFINE_float("sparsity", None, "S, share of zeros in all kernels together")
flags.DEFINE_enum("distribution", "erk", ["erk", "uniform"], "of the weights that exist, over layers")
flags.DEFINE_enum("growth", "rigl", ["set", "rigl", "momentum"], "where connections grow")
flags.DEFINE_integer("every", 100, "DeltaT, steps between topology updates", lower_bound=1)
flags.DEFINE_float("drop_fraction", 0.3, "r, of a layer's connections at an update")
flags.DEFINE_enum("drop_schedule", "cosine", ["constant", "cosine"], "of the drop fraction")
flags.DEFINE_float("moving", 0.75, "share of a ticket's training in which connections move")
flags.DEFINE_bool("reset_dense_layers", False, "zero small weights of dense layers at updates, too")
flags.DEFINE_float("exploration", 1 / 3, "edst: share of the training before the first ticket")
flags.DEFINE_float("hop_fraction", 0.8, "edst: q, of a layer's connections between two tickets")
flags.DEFINE_enum("ramp", "constant", ["constant", "polynomial"], "pruned: at once, or over half of it")
flags.DEFINE_float("fine_tuning", 0.5, "pruned: share of the recipe's epochs")
flags.DEFINE_float("fine_tuning_rate", 0.01, "pruned: learning rate, times the peak")
flags.DEFINE_float("rewind", 0.05, "lottery: share of the dense training that is not done again")
flags.DEFINE_string(
    "storage", None, "URL of a database for Optuna (default: an SQLite file in the folder)"
)
flags.DEFINE_integer(
    "heartbeat", 60, "seconds between a worker's signs of life; dead after three without", lower_bound=1
)
FLAGS.set_default("held_out", 0.1)
flags.adopt_module_key_flags(common)


def recipe_and_options():
    """The recipe and the `TicketOptions` of the flags."""
    from zoo.training.sparse_tickets.phases import TicketOptions

    recipe = common.recipe_from_flags()
    if FLAGS.sparsity is not None:
        parts = [*filter(None, [recipe.arguments]), f"sparsity={FLAGS.sparsity}"]
        recipe = dataclasses.replace(recipe, arguments=",".join(parts))
    procedure = FLAGS.procedure or ("edst" if recipe.method == "edst_tickets" else "dst")
    names = [field.name for field in dataclasses.fields(TicketOptions)][1:]
    return recipe, TicketOptions(procedure, **{name: FLAGS[name].value for name in names})


def main(argv):
    """Entry point of absl."""
    common.run_command(argv, "zoo.training.tickets", _work)


def _work():
    import optuna

    from zoo.training.sparse_tickets import ensemble

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    common.check_flags(FLAGS.strategy, FLAGS.num_devices, FLAGS.dry_run, FLAGS.remat)
    common.check_folders()
    recipe, options = recipe_and_options()
    return ensemble.ticket_ensemble(
        recipe, FLAGS.data_dir, pathlib.Path(FLAGS.output_dir), options, storage=FLAGS.storage,
        heartbeat=FLAGS.heartbeat, limit=FLAGS.limit,
        command=" ".join(["python -m zoo.training.tickets", *_deciding_flags()]),
        compile_options=common.compile_options(),
    )  # fmt: skip


def _deciding_flags():
    """The flags given that decide the result, without this machine's folders."""
    from zoo.training.sparse_tickets.phases import TicketOptions

    yield from common.deciding_flags()
    for name in ("sparsity", *(field.name for field in dataclasses.fields(TicketOptions))):
        if FLAGS[name].present:
            yield FLAGS[name].serialize()


if __name__ == "__main__":
    app.run(main)
