"""Workers that share whole networks, in scripts beside members: one dies, some flags do not go."""

import pytest

from helpers.workers import checksums, recipe_of, three_workers
from zoo.training.flags import check_flags
from zoo.training.sparse_tickets import ensemble
from zoo.training.sparse_tickets.phases import TicketOptions


@pytest.mark.slow
def test_two_workers_go_on_with_the_tickets_of_a_third(mnist, tmp_path):
    flags = ["--recipe=mnist_dst_tickets_mlp", "--held_out=0.2", "--sparsity=0.7", "--every=4"]
    found = three_workers("tickets", mnist, tmp_path / "shared", *flags)
    recipe = recipe_of("dst_tickets", held_out=0.2, arguments="sparsity=0.7", num_members=3)
    options = TicketOptions("dst", every=4)
    plain = {"jit_compile": False}
    ensemble.ticket_ensemble(recipe, mnist, tmp_path / "alone", options, compile_options=plain)
    assert checksums(tmp_path / "shared") == checksums(tmp_path / "alone")
    assert "".join(found).count("epoch 1/3   33%") == 3


def test_devices_are_not_for_whole_networks(raises_line):
    check_flags("none", None)
    check_flags("none", 1)
    for given, pattern in (
        (("mirrored", 2), "--strategy=mirrored.*once for each device"),
        (("none", 2), "--num_devices=2.*once for each device"),
        (("none", None, True), "--dry_run.*zoo.training.train"),
        (("none", None, False, True), "--remat"),
    ):
        with raises_line(ValueError, pattern):
            check_flags(*given)


SCRIPTS = """
import importlib, sys
import zoo.training
from absl import flags
for script in ("members", "hyper_deep", "tickets"):
    for name in list(flags.FLAGS):
        delattr(flags.FLAGS, name)
    if sys.modules.pop("zoo.training.flags", None):
        del zoo.training.flags
    module = importlib.import_module(f"zoo.training.{script}")
    flags.FLAGS([script, "--recipe=mnist_single_mlp", "--strategy=mirrored"])
    try:
        module.main([script])
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_the_scripts_refuse_strategies(forked_python):
    lines = forked_python("-c", SCRIPTS, KERAS_BACKEND="jax").stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("--strategy=mirrored spreads") for line in lines)
