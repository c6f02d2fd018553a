"""The phases of each procedure that makes sparse tickets, as a table of training steps."""

import dataclasses
import itertools
import math
from collections.abc import Callable

from zoo.layers.sparse.densities import DISTRIBUTIONS
from zoo.layers.sparse.topology import GROWTH, check_fraction
from zoo.training.loop import from_recipe
from zoo.training.loop.learning_rates import Rewound, WarmUpSteps
from zoo.training.recipes import Recipe

PROCEDURES = ("dst", "edst", "static", "pruned", "lottery")
DROPS = ("constant", "cosine")
RAMPS = ("constant", "polynomial")


@dataclasses.dataclass(frozen=True)
class TicketOptions:
    """The options of ticket training beside the recipe.

    Args:
        procedure: str, one of `PROCEDURES`. Default: "dst".
        distribution: "erk" or "uniform", how non-zeros are distributed over layers. Default: "erk".
        growth: str, "set", "rigl" or "momentum", as in `zoo.layers.TopologyUpdates`. Default: "rigl".
        every: int, DeltaT, the steps between topology updates. Default: 100.
        drop_fraction: float r, the fraction of connections that an update moves. Default: 0.3.
        drop_schedule: "constant" or "cosine", how the fraction changes over a stretch.
            Default: "cosine".
        moving: float, the share of a stretch in which connections move. Default: 0.75.
        reset_dense_layers: bool, as in `zoo.layers.TopologyUpdates`. Default: False.
        exploration: float in [0, 1), for edst, the share of all steps before the first ticket. Default:
            1/3.
        hop_fraction: float q, for edst, the fraction of connections that hop between tickets. Default:
            0.8.
        ramp: "constant" or "polynomial", for pruned and lottery, TensorFlow Model Optimization's
            schedule. Default: "constant".
        fine_tuning: float, for pruned, the share of the recipe's epochs after dense training. Default:
            0.5.
        fine_tuning_rate: float, for pruned, the learning rate as a share of its peak. Default: 0.01.
        rewind: float in [0, 1), for lottery, the share of dense training that is not repeated. Default:
            0.05.

    Raises:
        ValueError: if a field is out of range.
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

    Args:
        name: str.
        start: int, its first step.
        stop: int, the step after its last.
        factor: float, times the peak learning rate, or None for the recipe's own schedule.
            Default: None.
        ticket: int, the ticket that the best weights in it become, or None. Default: None.
        hop: bool, whether connections hop when it begins. Default: False.
    """

    name: str
    start: int
    stop: int
    factor: float | None = None
    ticket: int | None = None
    hop: bool = False


def sequential_phases(steps: int, num_members: int, exploration: int) -> list[Phase]:
    """List the phases of EDST (Liu et al., 2022, algorithm 2, and its code for CIFAR).

    Exploration runs at the full learning rate.  Each ticket then has one half (rounded up) at a tenth of
    the rate and one at a hundredth.  Connections hop between tickets.

    Args:
        steps: int, all of training in any unit; in epochs this is the paper's table.
        num_members: int M, the number of tickets.
        exploration: int, the length of the exploration in the same unit.

    Returns:
        List of 2 * M phases, after one of exploration if that is not 0.

    Raises:
        ValueError: if there are fewer than two steps a ticket.
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
    """The plan of one training run.

    Args:
        epochs: int, epochs of all phases together.
        rate: Keras `LearningRateSchedule`.
        phases: list of `Phase`.
        rewound_to: int, the step whose weights are restored when the dense phase ends, or None. Default:
            None.
    """

    epochs: int
    rate: object
    phases: list
    rewound_to: int | None = None

    @property
    def dense_steps(self) -> int:
        """The number of steps before anything is masked."""
        return self.phases[0].stop if self.phases[0].name == "dense" else 0

    @property
    def windows(self) -> list[tuple[int, int]]:
        """(start, stop) of the steps from which each ticket is chosen."""
        tickets = {phase.ticket for phase in self.phases} - {None}
        return [
            (min(p.start for p in own), max(p.stop for p in own))
            for own in ([p for p in self.phases if p.ticket == ticket] for ticket in sorted(tickets))
        ]


def plan(recipe: Recipe, steps_per_epoch: int, options: TicketOptions, num_members: int) -> Plan:
    """Plan one run of a procedure.

    Args:
        recipe: `zoo.training.recipes.Recipe`, whose epochs are those of one dense network.
        steps_per_epoch: int, batches in an epoch.
        options: `TicketOptions`.
        num_members: int M; one run of edst makes all M tickets, the other procedures run M times.

    Returns:
        `Plan`.

    Raises:
        ValueError: if there are too few steps.
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
        epochs = math.ceil(phases[-1].stop / steps_per_epoch)
        return Plan(epochs, Rewound(rate, steps, to), phases, to)
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


def drop_fraction(options: TicketOptions, phases: list[Phase]) -> Callable[[int], float]:
    """Return the fraction of connections to drop as a function of the step, for `TopologyUpdates`.

    Connections move in the first share `options.moving` of exploration and of each ticket.

    Args:
        options: `TicketOptions`.
        phases: list of `Phase`.

    Returns:
        Function from a step to a float.
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
