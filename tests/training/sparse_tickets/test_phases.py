"""The phases of tickets: the paper's tables, learning rates, hops, and what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from zoo.training import recipes
from zoo.training.loop import from_recipe
from zoo.training.sparse_tickets.ensemble import ticket_method
from zoo.training.sparse_tickets.phases import TicketOptions, drop_fraction, plan, sequential_phases

RECIPE = dataclasses.replace(
    recipes.recipe("cifar10_edst_tickets_wide_resnet28_10"), epochs=450, warm_up=0.0, held_out=0.1
)


def rates(schedule, steps):
    return [float(ops.convert_to_numpy(schedule(step))) for step in steps]


def test_edst_is_the_table_of_the_paper():
    """Wide ResNet, M=3: learning rate .1 to epoch 150, then .01 and .001 by 50; hops after 250 and 350."""
    table = [
        (phase.start, phase.stop, phase.factor, phase.ticket, phase.hop)
        for phase in sequential_phases(450, 3, 150)
    ]
    assert table == [
        (0, 150, 1.0, None, False),
        (150, 200, 0.1, 0, False),
        (200, 250, 0.01, 0, False),
        (250, 300, 0.1, 1, True),
        (300, 350, 0.01, 1, False),
        (350, 400, 0.1, 2, True),
        (400, 450, 0.01, 2, False),
    ]


def test_edst_of_seven_tickets_is_the_papers_too():
    phases = sequential_phases(850, 7, 150)
    assert [p.start for p in phases if p.hop] == [250, 350, 450, 550, 650, 750]
    assert {p.stop - p.start for p in phases[1:]} == {50}


@pytest.mark.slow
def test_the_learning_rate_of_edst_follows_its_phases():
    made = plan(RECIPE, 10, TicketOptions("edst"), 3)
    expected = [0.1] * 150 + ([0.01] * 50 + [0.001] * 50) * 3
    np.testing.assert_allclose(rates(made.rate, range(0, 4500, 10)), expected, rtol=1e-5)
    assert rates(made.rate, [1499, 1500, 2499, 2500]) == pytest.approx([0.1, 0.01, 0.001, 0.01])
    assert made.windows == [(1500, 2500), (2500, 3500), (3500, 4500)]
    assert made.epochs == 450 and made.dense_steps == 0


@given(st.integers(1, 9), st.integers(0, 400), st.integers(18, 5000))
def test_phases_follow_on_each_other(num_members, exploration, more):
    steps = exploration + more
    phases = sequential_phases(steps, num_members, exploration)
    assert phases[0].start == 0 and phases[-1].stop == steps
    for before, after in itertools.pairwise(phases):
        assert before.stop == after.start and before.start < before.stop
    assert sum(phase.hop for phase in phases) == num_members - 1
    assert {phase.ticket for phase in phases} - {None} == set(range(num_members))


def test_warm_up_is_a_share_of_the_exploration():
    recipe = dataclasses.replace(RECIPE, warm_up=0.5)
    made = plan(recipe, 10, TicketOptions("edst"), 3)
    assert rates(made.rate, [0, 374, 749, 1000]) == pytest.approx([0.1 / 750, 0.05, 0.1, 0.1])


@pytest.mark.parametrize("procedure", ["dst", "static"])
def test_networks_trained_apart_follow_the_recipe(procedure):
    recipe = dataclasses.replace(
        RECIPE, epochs=250, schedule="step", milestones=(0.5, 0.748), factor=0.1
    )
    made = plan(recipe, 10, TicketOptions(procedure), 3)
    expected = [0.1] * 125 + [0.01] * 62 + [0.001] * 63
    np.testing.assert_allclose(rates(made.rate, range(0, 2500, 10)), expected, rtol=1e-5)
    assert made.windows == [(0, 2500)] and made.epochs == 250


@pytest.mark.slow
def test_lottery_tickets_go_back():
    recipe = dataclasses.replace(RECIPE, epochs=20, schedule="cosine", warm_up=0.1)
    made = plan(recipe, 10, TicketOptions("lottery", rewind=0.05), 3)
    own = from_recipe.learning_rate(recipe, 10)
    assert (made.dense_steps, made.rewound_to, made.epochs) == (200, 10, 39)
    np.testing.assert_allclose(rates(made.rate, range(200)), rates(own, range(200)))
    np.testing.assert_allclose(rates(made.rate, range(200, 390)), rates(own, range(10, 200)), atol=1e-7)
    assert made.windows == [(200, 390)]
    twin = type(made.rate).from_config(made.rate.get_config())
    assert rates(twin, [5, 250]) == rates(made.rate, [5, 250])


def test_pruned_tickets_are_chosen_when_they_are_sparse():
    recipe = dataclasses.replace(RECIPE, epochs=20)
    made = plan(recipe, 10, TicketOptions("pruned", fine_tuning=0.5), 3)
    assert (made.windows, made.epochs) == ([(200, 300)], 30)
    assert rates(made.rate, [200, 299]) == pytest.approx([0.001, 0.001])
    made = plan(recipe, 10, TicketOptions("pruned", ramp="polynomial", every=20), 3)
    assert [(p.name, p.start, p.stop) for p in made.phases] == [
        ("dense", 0, 200), ("pruning", 200, 240), ("ticket", 240, 300)
    ]  # fmt: skip
    assert made.windows == [(240, 300)]


def test_connections_move_in_the_first_share_of_a_ticket():
    phases = sequential_phases(450, 3, 150)
    constant = drop_fraction(TicketOptions("edst", drop_fraction=0.5, drop_schedule="constant"), phases)
    moving = [step for step in range(1, 451) if constant(step) == 0.5]
    expected = [*range(1, 113), *range(151, 225), *range(251, 325), *range(351, 425)]
    assert moving == expected
    assert {constant(step) for step in range(451)} == {0.0, 0.5}
    always = drop_fraction(TicketOptions("edst", drop_schedule="constant", moving=1), phases)
    assert [s for s in range(1, 451) if not always(s)] == [150, 250, 350, 450]
    never = drop_fraction(TicketOptions("edst", moving=0), phases)
    assert not any(never(step) for step in range(451))
    cosine = drop_fraction(TicketOptions("edst", drop_fraction=0.5, moving=1), phases)
    assert cosine(75) == pytest.approx(0.25) and cosine(151) > 0.49 and cosine(249) < 0.001


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("procedure", "best"), ("distribution", "normal"), ("growth", "fast"), ("drop_schedule", "linear"),
        ("ramp", "steep"), ("drop_fraction", 1.5), ("hop_fraction", -0.1), ("moving", 2), ("exploration", 1.0),
        ("rewind", 1), ("every", 0), ("fine_tuning", 0), ("fine_tuning_rate", -1.0),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(field, value, raises_line):
    with raises_line(ValueError, f"{field}.*{value}"):
        TicketOptions(**{field: value})


def test_too_short_a_training_is_refused(raises_line):
    with raises_line(ValueError, "5 steps after exploration.*3 tickets"):
        sequential_phases(8, 3, 3)
    short = dataclasses.replace(RECIPE, epochs=2)
    with raises_line(ValueError, "every=100 steps.*10 steps of fine-tuning"):
        plan(short, 10, TicketOptions("pruned", ramp="polynomial"), 1)


@pytest.mark.parametrize(
    ("method", "procedure", "arguments", "match"),
    [
        ("edst_tickets", "dst", "", "take the recipe cifar10_dst_tickets"),
        ("dst_tickets", "edst", "", "take the recipe cifar10_edst_tickets"),
        ("single", "dst", "", "not one of single"),
        ("dst_tickets", "dst", "alpha=3", "no argument alpha"),
        ("dst_tickets", "dst", "sparsity=1.0", "sparsity"),
    ],
)
def test_recipes_that_make_no_tickets_are_refused(method, procedure, arguments, match, raises_line):
    recipe = dataclasses.replace(RECIPE, method=method, arguments=arguments)
    with raises_line(ValueError, match):
        ticket_method(recipe, TicketOptions(procedure))


def test_number_and_sparsity_of_tickets_come_from_the_recipe():
    recipe = dataclasses.replace(RECIPE, num_members=7, arguments="sparsity=0.9")
    method = ticket_method(recipe, TicketOptions("edst"))
    assert (method.name, method.num_members, method.sparsity) == ("edst_tickets", 7, 0.9)
