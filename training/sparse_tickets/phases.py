"""How sparse tickets come about: the phases of each procedure, as a table of training steps."""

import dataclasses
import itertools
import math

from zoo.layers.sparse.densities import DISTRIBUTIONS
from zoo.layers.sparse.topology import GROWTH, check_fraction
from zoo.training.loop import from_recipe
from zoo.training.loop.learning_rates import Rewound, WarmUpSteps

PROCEDURES = ("dst", "edst", "static", "pruned", "lottery")
DROPS = ("constant", "cosine")
RAMPS = ("constant", "polynomial")


@dataclasses.dataclass(frozen=True)
class TicketOptions:
    """What is done beside the recipe.

    Fields: `procedure`, of `PROCEDURES`; `distribution` of the non-zeros, "erk" or "uniform"; `growth`,
    `every` (DeltaT), `drop_fraction` (r) and `reset_dense_layers` as in `zoo.layers.TopologyUpdates`;
    `drop_schedule`, "constant" or "cosine" over a stretch of training, of which connections move
    during the first `moving` share; for edst `exploration`, share of all steps, and `hop_fraction` (q);
    for pruned and lottery `ramp`, TensorFlow Model Optimization's ConstantSparsity or PolynomialDecay,
    `fine_tuning`, share of the recipe's epochs that follow the dense training, `fine_tuning_rate`,
    times the peak learning rate, and `rewind`, share of the dense training that is not done again.

    Raises:
        ValueError: for a field that is out of range.
    """

    procedure: str = "dst"
    distribution: str = "erk"
    growth: str = "rigl"
    every: int = 100
    drop_fraction: float = 0.3
    drop_schedule: str = "cosine"
    moving: float = 0.75
    reset_dense_layers: bool = False
    exploration: float = 1 / 3
    hop_fraction: float = 0.8
    ramp: str = "constant"
    fine_tuning: float = 0.5
    fine_tuning_rate: float = 0.01
    rewind: float = 0.05

    def __post_init__(self):
        for name, known in (
            ("procedure", PROCEDURES),
            ("distribution", tuple(DISTRIBUTIONS)),
            ("growth", GROWTH),
            ("drop_schedule", DROPS),
            ("ramp", RAMPS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}"
                )
        for name in ("drop_fraction", "hop_fraction", "moving"):
            check_fraction(getattr(self, name), name)
        for name in ("exploration", "rewind"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1); got {getattr(self, name)!r}")
        if not self.every >= 1:
            raise ValueError(f"every must be an integer >= 1; got {self.every!r}")
        if not (self.fine_tuning > 0 and self.fine_tuning_rate > 0):
            raise ValueError(
                f"fine_tuning and fine_tuning_rate must be positive; got {self.fine_tuning!r} and "
                f"{self.fine_tuning_rate!r}"
            )


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Fields: `name`; steps `start` to `stop`, the latter not included; `factor` of the peak learning rate,
    None for the recipe's own schedule; `ticket`, the number of the ticket that the best weights within
    become, or None; `hop`, whether connections hop as it begins.
    """

    name: str
    start: int
    stop: int
    factor: float | None = None
    ticket: int | None = None
    hop: bool = False


def sequential_phases(steps, num_members, exploration):
    """EDST's phases (Liu et al., 2022, algorithm 2, and its code for CIFAR).

    Exploration at the full learning rate; then of each ticket one half (rounded up) at a tenth and one at
    a hundredth of it.  Between tickets connections hop.

    Args:
        steps: of all training, in any unit: with epochs this is the paper's table.
        num_members: M tickets.
        exploration: steps of it.

    Returns:
        A list of 1 + 2 * M `Phase`s.

    Raises:
        ValueError: for fewer than two steps a ticket.
    """
    ends = [
        exploration + round(index * (steps - exploration) / num_members)
        for index in range(num_members + 1)
    ]
    if min(b - a for a, b in itertools.pairwise(ends)) < 2:
        raise ValueError(
            f"{steps - exploration} steps after exploration are too few for {num_members} tickets; "
            "train longer, or explore less"
        )
    phases = [Phase("exploration", 0, exploration, 1.0)] if exploration else []
    for ticket, (start, stop) in enumerate(itertools.pairwise(ends)):
        middle = start + math.ceil((stop - start) / 2)
        phases.append(Phase(f"ticket {ticket}, coarse", start, middle, 0.1, ticket, hop=ticket > 0))
        phases.append(Phase(f"ticket {ticket}, fine", middle, stop, 0.01, ticket))
    return phases


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one training run does.

    Fields: `epochs`, of all its phases; `rate`, a learning rate schedule; `phases`; `rewound_to`, the step
    whose weights come back as the dense phase ends, or None.
    """

    epochs: int
    rate: object
    phases: list
    rewound_to: int | None = None

    @property
    def dense_steps(self):
        """Steps before anything is masked."""
        return self.phases[0].stop if self.phases[0].name == "dense" else 0

    @property
    def windows(self):
        """(start, stop) of the steps that each ticket is chosen from."""
        tickets = {phase.ticket for phase in self.phases} - {None}
        return [
            (min(p.start for p in own), max(p.stop for p in own))
            for own in ([p for p in self.phases if p.ticket == ticket] for ticket in sorted(tickets))
        ]


def plan(recipe, steps_per_epoch, options, num_members):
    """The plan of one run of a procedure.

    Args:
        recipe: whose epochs are those of one dense network.
        steps_per_epoch: number of batches.
        options: `TicketOptions`.
        num_members: M, which edst finds in this run; others run M times.

    Raises:
        ValueError: where there are too few steps for it.
    """
    steps = recipe.epochs * steps_per_epoch
    rate = from_recipe.learning_rate(recipe, steps_per_epoch)
    if options.procedure == "edst":
        phases = sequential_phases(steps, num_members, round(options.exploration * steps))
        return Plan(recipe.epochs, _stepped(recipe, phases), phases)
    if options.procedure in ("dst", "static"):
        return Plan(recipe.epochs, rate, [Phase("ticket", 0, steps, ticket=0)])
    if options.procedure == "lottery":
        to = round(options.rewind * steps)
        phases = [Phase("dense", 0, steps), Phase("ticket", steps, 2 * steps - to, ticket=0)]
        return Plan(2 * recipe.epochs, Rewound(rate, steps, to), phases, to)
    more = max(1, round(options.fine_tuning * recipe.epochs))
    stop = steps + more * steps_per_epoch
    rate = Rewound(rate, steps, None, options.fine_tuning_rate * recipe.learning_rate)
    phases = [Phase("dense", 0, steps), Phase("ticket", steps, stop, ticket=0)]
    if options.ramp == "polynomial":
        pruned = steps + max(1, (stop - steps) // 2 // options.every) * options.every
        if pruned >= stop:
            raise ValueError(
                f"every={options.every} steps is too long for pruning within half of {stop - steps} steps "
                "of fine-tuning; lower it, or fine-tune longer"
            )
        phases = [phases[0], Phase("pruning", steps, pruned), Phase("ticket", pruned, stop, ticket=0)]
    return Plan(recipe.epochs + more, rate, phases)


def _stepped(recipe, phases):
    """Constant learning rates, one a phase, after a warm-up that is the recipe's share of the first."""
    factors = [phase.factor for phase in phases]
    return WarmUpSteps(
        recipe.learning_rate * factors[0],
        [phase.start for phase in phases[1:]],
        [after / before for before, after in itertools.pairwise(factors)],
        round(recipe.warm_up * phases[0].stop),
    )


def drop_fraction(options, phases):
    """The fraction of connections to drop at a step: a function for `TopologyUpdates`.

    Connections move in the first share `options.moving` of exploration and of each ticket.
    """
    stretches = {}
    for phase in phases:
        start, stop = stretches.get(phase.ticket, (phase.start, phase.stop))
        stretches[phase.ticket] = min(start, phase.start), max(stop, phase.stop)

    def fraction(step):
        for start, stop in stretches.values():
            if start < step <= stop:
                passed = (step - start) / (options.moving * (stop - start) or 1)
                if passed >= 1:
                    return 0.0
                if options.drop_schedule == "constant":
                    return options.drop_fraction
                return options.drop_fraction / 2 * (1 + math.cos(math.pi * passed))
        return 0.0

    return fraction
