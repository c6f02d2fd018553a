"""The sparse networks of a ticket ensemble: trained by a plan, once, and kept."""

import dataclasses

from keras import ops

from zoo import counts, weights
from zoo.latency import conditions, latencies
from zoo.layers import TopologyUpdates, sparsify
from zoo.layers.sparse.pruning import MagnitudePruning
from zoo.training.ensembles.network_store import TrainedNetworks
from zoo.training.loop import from_recipe, run
from zoo.training.pruning_schedules import constant_sparsity, polynomial_decay
from zoo.training.sparse_tickets.callbacks import Hops, KeepTickets, Rewind
from zoo.training.sparse_tickets.phases import drop_fraction, plan


class TicketNetworks(TrainedNetworks):
    """A folder with one folder a training run (see `TrainedNetworks`), with ticket{k}.weights.h5 in it.

    Args:
        folder: of all runs.
        recipe: of the ensemble; run s trains with the recipe's seed + s.
        ticket_options: `TicketOptions`.
        method: `zoo.methods.Tickets`.
        splits, classes, options: as in `TrainedNetworks`.
    """

    def __init__(self, folder, recipe, ticket_options, method, splits, classes, options=None):
        single = dataclasses.replace(recipe, method="single", num_members=0, arguments="")
        super().__init__(folder, single, splits, classes, options)
        self.ticket_options, self.method = ticket_options, method
        self.steps_per_epoch = len(splits[0]) // recipe.batch_size
        self.plan = plan(single, self.steps_per_epoch, ticket_options, method.num_members)

    def blank(self, recipe=None):
        """A sparse network before training; one that is pruned begins dense."""
        recipe = recipe or self.recipe
        return self._make(recipe, self.splits[0].images.shape[1:], self.classes)

    def _make(self, recipe, input_shape, classes):
        sparsity = 0.0 if self.plan.dense_steps else self.method.sparsity
        model = from_recipe.model_of(recipe, input_shape, classes)
        return sparsify(model, sparsity, self.ticket_options.distribution, seed=recipe.seed)

    def fit(self, recipe, configuration, folder, callbacks):
        keep = KeepTickets(folder, self.splits[1], self.plan.windows)
        model, seconds = run.train_model(
            dataclasses.replace(recipe, epochs=self.plan.epochs), self.splits, self.classes, folder,
            [*callbacks, keep, *self._changes(recipe, folder)], self.options, make=self._make,
            rate=self.plan.rate,
        )  # fmt: skip
        weights.load_file(model, folder / f"ticket{len(self.plan.windows) - 1}.weights.h5")
        details = [
            {"held_out_accuracy": round(float(accuracy), 5), "step": int(step)}
            for accuracy, step in ops.convert_to_numpy(keep.best)
        ]
        return model, seconds, {"tickets": details}

    def _changes(self, recipe, folder):
        """The callbacks that change which weights exist."""
        options, phases, late = self.ticket_options, self.plan.phases, self.plan.dense_steps
        if options.procedure == "static":
            return []
        if late:
            pruning = MagnitudePruning(self._ramp())
            early = self.plan.rewound_to
            return [pruning] if early is None else [pruning, Rewind(folder / "early.npz", early, late)]
        updates = TopologyUpdates(
            options.growth, tuple(self.splits[0]), options.every, drop_fraction(options, phases),
            reset_dense_layers=options.reset_dense_layers, batch_size=recipe.batch_size,
            seed=recipe.seed,
        )  # fmt: skip
        hops = [phase.start for phase in phases if phase.hop]
        return [Hops(hops, updates, options.hop_fraction), updates] if hops else [updates]

    def _ramp(self):
        """A schedule of TensorFlow Model Optimization: all at once, or over half of the fine-tuning."""
        sparsity, every = self.method.sparsity, self.ticket_options.every
        ramps = [phase for phase in self.plan.phases if phase.name == "pruning"]
        if ramps:
            return polynomial_decay(0.0, sparsity, ramps[0].start, ramps[0].stop, frequency=every)
        return constant_sparsity(sparsity, self.plan.dense_steps, self.plan.dense_steps)

    def tickets(self, names):
        """The M sparse networks of the runs of such names."""
        models = []
        for name in names:
            for index in range(len(self.plan.windows)):
                with from_recipe.precision(self.recipe.precision):
                    model = self.blank()
                weights.load_file(model, self.folder / name / f"ticket{index}.weights.h5")
                models.append(model)
        return models

    def check(self):
        """Fail before training for what would fail in it.

        Raises:
            ValueError: for topology updates that never happen, or a network with nothing to mask.
        """
        with from_recipe.precision(self.recipe.precision):
            model = self.blank()
        for callback in self._changes(self.recipe, self.folder):
            if isinstance(callback, TopologyUpdates):
                callback.set_model(model)
                callback.set_params({"epochs": self.plan.epochs, "steps": self.steps_per_epoch})
                callback.on_train_begin()
                callback.on_epoch_begin(0)

    def details(self, model, chosen):
        """What `config.json` says of the tickets: how they came about, and what they cost.

        Args:
            model: the ensemble.
            chosen: step and held-out accuracy of each ticket.
        """
        options, method, moving = self.ticket_options, self.method, self._moving()
        with from_recipe.precision(self.recipe.precision):
            dense = from_recipe.model_of(self.recipe, self.splits[0].images.shape[1:], self.classes)
        times = latencies({"tickets": model, "dense": dense}, batch_sizes=[1])
        return {
            "kind": options.procedure,
            "sparsity": method.sparsity,
            "distribution": options.distribution,
            **({"growth": options.growth, "update_every": options.every} if moving else {}),
            **counts.ticket_costs(model.network, dense.network, **self._epochs()),
            "latency_ms": {name: round(of[1], 3) for name, of in times.items()},
            "latency_on": conditions(),
            "phases": [dataclasses.asdict(phase) for phase in self.plan.phases],
            "tickets": chosen,
            "options": dataclasses.asdict(options),
        }

    def _moving(self):
        return self.ticket_options.procedure in ("dst", "edst")

    def _epochs(self):
        """How long all members together are trained, for `zoo.counts.training_flops`."""
        runs = 1 if self.ticket_options.procedure == "edst" else self.method.num_members
        dense = self.plan.dense_steps / self.steps_per_epoch
        masked = self.plan.phases[-1].stop / self.steps_per_epoch - dense
        batches = {"set": 0, "rigl": 1, "momentum": 10}[self.ticket_options.growth]
        return {
            "epochs": runs * masked,
            "dense_epochs": runs * dense,
            "recipe_epochs": self.recipe.epochs,
            "update_every": self.ticket_options.every if self._moving() else None,
            "update_batches": batches,
        }
