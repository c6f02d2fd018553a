"""The sparse networks of a ticket ensemble: each is trained once, by a plan, and kept."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import keras
from keras import ops

from zoo import counts, methods, weights
from zoo.classifier import EnsembleClassifier
from zoo.latency import conditions, latencies
from zoo.layers import TopologyUpdates, sparsify
from zoo.layers.sparse.pruning import MagnitudePruning
from zoo.precision import precision
from zoo.training.ensembles.network_store import NetworkStore
from zoo.training.loop import from_recipe, run
from zoo.training.pruning_schedules import constant_sparsity, polynomial_decay
from zoo.training.recipes import Recipe
from zoo.training.sparse_tickets.callbacks import Hops, KeepTickets, Rewind
from zoo.training.sparse_tickets.phases import TicketOptions, drop_fraction, plan


class TicketNetworks(NetworkStore):
    """A `NetworkStore` with one folder per training run, which also has ticket{k}.weights.h5.

    Args:
        folder: str or path of the folder of all runs.
        recipe: `zoo.training.recipes.Recipe` of the ensemble; run s trains with the recipe's seed + s.
        ticket_options: `TicketOptions`.
        method: `zoo.methods.Tickets`.
        splits: (training, held out, test), from `from_recipe.load_splits`.
        classes: int K, from `from_recipe.load_splits`.
        options: dict or None, further arguments of `compile`. Default: None.
    """

    keeps_diverged = False  # every ticket is part of the ensemble

    def __init__(
        self,
        folder: str | os.PathLike,
        recipe: Recipe,
        ticket_options: TicketOptions,
        method: methods.Tickets,
        splits: tuple,
        classes: int,
        options: dict | None = None,
    ):
        single = dataclasses.replace(recipe, method="single", num_members=0, arguments="")
        super().__init__(folder, single, splits, classes, options)
        self.ticket_options, self.method = ticket_options, method
        self.steps_per_epoch = len(splits[0]) // recipe.batch_size
        self.plan = plan(single, self.steps_per_epoch, ticket_options, method.num_members)

    def blank(self, recipe: Recipe | None = None) -> EnsembleClassifier:
        """Build a sparse network as it is before training; one that will be pruned is dense.

        Args:
            recipe: `zoo.training.recipes.Recipe` of a single network, or None for that of run 0.
                Default: None.

        Returns:
            `zoo.classifier.EnsembleClassifier`.
        """
        recipe = recipe or self.recipe
        return self._make(recipe, self.splits[0].images.shape[1:], self.classes)

    def _make(self, recipe, input_shape, classes):
        sparsity = 0.0 if self.plan.dense_steps else self.method.sparsity
        model = from_recipe.model_of(recipe, input_shape, classes)
        return sparsify(model, sparsity, self.ticket_options.distribution, seed=recipe.seed)

    def train_one(
        self,
        recipe: Recipe,
        configuration: dict,
        folder: pathlib.Path,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> tuple[EnsembleClassifier, float, dict]:
        """Train one network by the plan, and keep its tickets.

        Args:
            recipe: `zoo.training.recipes.Recipe` of this network.
            configuration: dict that is ignored.
            folder: `pathlib.Path` of the attempt's folder.
            callbacks: sequence of Keras callbacks.

        Returns:
            (model with the last ticket's weights, seconds, dict with the entry "tickets" of
            `result.json`).
        """
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

    def tickets(self, names: list[str]) -> list[EnsembleClassifier]:
        """Load all tickets of some networks, in order.

        Args:
            names: list of names of networks.

        Returns:
            List of `zoo.classifier.EnsembleClassifier`.
        """
        models = []
        for name in names:
            for index in range(len(self.plan.windows)):
                with precision(self.recipe.precision):
                    model = self.blank()
                weights.load_file(model, self.folder / name / f"ticket{index}.weights.h5")
                models.append(model)
        return models

    def check(self) -> None:
        """Fail before training if training would fail.

        Raises:
            ValueError: if topology updates would never happen, or the network has nothing to mask.
        """
        with precision(self.recipe.precision):
            model = self.blank()
        for callback in self._changes(self.recipe, self.folder):
            if isinstance(callback, TopologyUpdates):
                callback.set_model(model)
                callback.set_params({"epochs": self.plan.epochs, "steps": self.steps_per_epoch})
                callback.on_train_begin()
                callback.on_epoch_begin(0)

    def details(self, model: EnsembleClassifier, chosen: list[dict]) -> dict:
        """Describe the tickets for `config.json`: how they were trained, and what they cost.

        Args:
            model: `zoo.classifier.EnsembleClassifier` of all tickets.
            chosen: list of dicts of each ticket's step and held-out accuracy.

        Returns:
            dict.
        """
        options, method, moving = self.ticket_options, self.method, self._moving()
        with precision(self.recipe.precision):
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
