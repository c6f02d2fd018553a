"""Counts of a training step against sums by hand, and the cost model's times against its formulas."""

import dataclasses
import math

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import counts, methods
from zoo.layers import BatchEnsembleDense, BatchNormalization, MemberLogits, TileMembers
from zoo.training import recipes
from zoo.training.cost import time_model
from zoo.training.cost.step_cost import StepCost, step_cost
from zoo.training.cost.time_model import Link, Machine
from zoo.training.loop import dry_run

MACHINE = Machine(1e12, 0.5, 8, Link(1e-6, 1e11), Link(5e-6, 1e10))


pytestmark = pytest.mark.usefixtures("quick_initializers")


def small(norm=True):
    """8x8x3 -> convolution to 6x6x4 -> (normalisation) -> rectifier -> pool to 3x3x4 -> 5 logits."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    x = BatchNormalization(name="norm")(x) if norm else x
    x = keras.layers.MaxPooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dense(5, name="head")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(images, keras.layers.Reshape((1, 5))(x))


def counted(method, backbone="resnet20", shape=(32, 32, 3), **options):
    keras.utils.clear_session()
    return step_cost(zoo.build(method, backbone, 10, shape).network, **options)


def recipe(name="cifar10_packed_lenet", **fields):
    return dataclasses.replace(recipes.recipe(name), **fields)


def test_a_small_network_by_hand():
    found = step_cost(small())
    trainable = (27 * 4 + 4) + 2 * 4 + (36 * 5 + 5)
    macs = 36 * 27 * 4 + 36 * 5
    kept = 8 * 8 * 3 + 6 * 6 * 4 + 6 * 6 * 4 + 3 * 3 * 4  # image, before norm, rectified, pooled
    assert found == StepCost(
        trainable=trainable, parameters=trainable + 8, weight_bytes=4 * (trainable + 8),
        gradient_bytes=4 * trainable, existing_bytes=4 * trainable, places=0, tensors=6, macs=macs,
        macs_again=0, activation_bytes=4 * kept, statistics=(8,),
    )  # fmt: skip
    assert found.training_flops == 6 * macs
    assert found.statistics_bytes == 2 * 8 * 4


def test_activations_have_the_dtype_of_the_computation_and_gradients_that_of_weights():
    whole = step_cost(small())
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = step_cost(small())
    assert half.activation_bytes * 2 == whole.activation_bytes
    assert half.gradient_bytes == whole.gradient_bytes


def test_members_that_are_rows_multiply_work_and_activations():
    images = keras.Input((8, 8, 3))
    x = TileMembers(3)(keras.layers.Flatten()(images))
    x = BatchEnsembleDense(7, 3)(x)
    found = step_cost(keras.Model(images, MemberLogits(3)(x)))
    assert found.macs == 3 * 192 * 7
    # What comes in, what is scaled, and what the kernel makes of it: each three times.
    assert found.activation_bytes == 4 * 3 * (192 + 192 + 7)


@pytest.mark.slow
def test_batches_that_are_shared_out_do_not():
    tiled = counted(methods.BatchEnsemble(4))
    split = counted(methods.BatchEnsemble(4, training_mode="split"))
    assert tiled.macs == 4 * split.macs and tiled.activation_bytes == 4 * split.activation_bytes
    assert tiled.gradient_bytes == split.gradient_bytes
    assert counted(methods.MCDropout(4)).macs == counted(methods.Single()).macs
    twice = counted(methods.MIMO(2, batch_repetitions=2))
    assert twice.macs == 2 * counted(methods.MIMO(2)).macs


@pytest.mark.fast("method2")
@pytest.mark.parametrize(
    "method", [methods.Single(), methods.Packed(4), methods.BatchEnsemble(4), methods.HyperBatch(4)]
)
def test_what_trains_as_it_answers_costs_what_cost_counts(method):
    network = zoo.build(method, "resnet20", 10, (16, 16, 3)).network
    found = step_cost(network)
    assert found.macs == counts.macs(network)
    assert (found.trainable, found.parameters) == counts.parameters(network)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "gamma"), [(2, 1), (2, 2), (1, 1), (3, 1), (4, 1)])
def test_packed_sends_alpha_squared_by_m_gamma_of_the_gradient(alpha, gamma):
    """In layers where the rule holds for all: between stem and head, without those that keep gamma 1."""

    def body(method):
        network = zoo.build(method, "resnet18").network
        return sum(
            math.prod(layer.kernel.shape)
            for layer in network.layers
            if layer.name.endswith("_2_conv") and layer.name >= "stage3"  # 64 channels a group and more
        )

    ratio = body(methods.Packed(4, alpha=alpha, gamma=gamma)) / body(methods.Single())
    assert ratio == alpha**2 / (4 * gamma)
    if gamma == 1:  # then it holds for the whole body, and all but exactly with stem, head and vectors
        sent = counted(methods.Packed(4, alpha=alpha), "resnet18").gradient_bytes
        assert sent / counted(methods.Single(), "resnet18").gradient_bytes == pytest.approx(
            ratio, rel=0.01
        )


@pytest.mark.slow
def test_shared_weights_send_one_network_and_fast_weights():
    single, shared = counted(methods.Single()), counted(methods.BatchEnsemble(4))
    network = zoo.build(methods.BatchEnsemble(4), "resnet20").network
    fast = sum(
        math.prod(w.shape) for layer in network.layers for w in getattr(layer, "fast_weights", ())
    )
    assert shared.gradient_bytes - single.gradient_bytes == 4 * (fast + 3 * 10)  # head's biases
    assert counted(methods.DeepEnsemble(3)).gradient_bytes == 3 * single.gradient_bytes


def test_tickets_send_masked_zeros_and_need_not():
    network = zoo.build(methods.Tickets(2, sparsity=0.8), "lenet").network
    found = step_cost(network)
    assert found.gradient_bytes == 4 * counts.parameters(network)[0]
    assert found.existing_bytes == 4 * counts.nonzeros(network)
    kernels = [layer.kernel for layer in network.layers if getattr(layer, "kernel", None) is not None]
    assert found.places == sum(math.prod(kernel.shape) for kernel in kernels)


@pytest.mark.slow
@pytest.mark.parametrize("method", [methods.Single(), methods.BatchEnsemble(4), methods.Packed(4)])
def test_rematerialisation_saves_memory_and_costs_at_most_a_forward_pass(method):
    plain, again = counted(method), counted(method, remat=True)
    assert again.activation_bytes < 0.5 * plain.activation_bytes
    assert plain.macs_again == 0 < again.macs_again < again.macs
    assert plain.training_flops < again.training_flops < plain.training_flops * 4 / 3
    assert dataclasses.replace(again, macs_again=0, activation_bytes=plain.activation_bytes) == plain


def test_report_of_a_recipe_by_hand():
    found = dry_run.report(recipe(batch_size=96, epochs=3, held_out=0.1), num_devices=4)
    network = zoo.build(methods.Packed(4), "lenet").network
    per_image = step_cost(network)
    trainable, parameters = counts.parameters(network)
    assert (found.trainable, found.parameters) == (trainable, parameters)
    assert found.steps_per_epoch == 45_000 // 96 and found.steps == 3 * found.steps_per_epoch
    assert found.forward_macs == 96 * counts.macs(network)
    assert found.training_flops == 6 * found.forward_macs
    assert found.gradient_exchange_bytes == 2 * 3 / 4 * 4 * trainable
    assert found.memory_bytes == 4 * (parameters + 2 * trainable) + 24 * per_image.activation_bytes
    assert f"{trainable:,} trainable" in found.text() and "24 on each of 4 devices" in found.text()


def test_reports_answer_to_what_they_are_asked():
    one = dry_run.report(recipe(batch_size=64))
    assert one.exchange_bytes == 0
    more = [dry_run.report(recipe(batch_size=64), num_devices=n) for n in (2, 8, 64)]
    memory = [one.memory_bytes, *(report.memory_bytes for report in more)]
    assert memory == sorted(memory, reverse=True) and len(set(memory)) == 4
    sent = [report.exchange_bytes for report in more]
    assert sent == sorted(sent) and sent[-1] < 2 * one.gradient_bytes
    assert dry_run.report(recipe(batch_size=64, momentum=0.0)).slot_bytes == 0
    half = dry_run.report(recipe(batch_size=64, precision="mixed_bfloat16"))
    assert half.activation_bytes * 2 == one.activation_bytes
    assert keras.config.dtype_policy().name == "float32"
    unknown = dry_run.report(recipe(dataset="own", batch_size=64), (16, 16, 1), 7)
    assert unknown.steps is None and "unknown" in unknown.text()


# A step of two normalised convolutions and a dense layer, compiled by XLA for two devices: how many numbers its
# all-reduces take, and how many are counted.
COMPILED = """
import math, re
import jax, keras, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from zoo.layers import BatchNormalization
from zoo.training.cost.step_cost import step_cost

images = x = keras.Input((8, 8, 3))
for filters in (4, 6):
    x = keras.layers.ReLU()(BatchNormalization()(keras.layers.Conv2D(filters, 3)(x)))
network = keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
same, shared = (NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec(*axes))
                for axes in ((), ("batch",)))

def loss(trained, others, images, targets):
    logits, others = network.stateless_call(trained, others, images, training=True)
    return jax.numpy.sum(logits * targets), others

step = jax.jit(jax.value_and_grad(loss, has_aux=True), in_shardings=(same, same, shared, shared),
               out_shardings=same)
values = [[v.value for v in variables]
          for variables in (network.trainable_variables, network.non_trainable_variables)]
given = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((8, 8, 8, 3), (8, 5))]
numbers = 0
for line in step.lower(*values, *given).compile().as_text().splitlines():
    reduced = re.match(r"\\s*(?:ROOT )?%?[\\w.-]+ = (.*?) all-reduce(?:-start)?\\(", line)
    for shape in re.findall(r"f32\\[([\\d,]*)\\]", reduced[1]) if reduced else ():
        numbers += math.prod(map(int, filter(None, shape.split(","))))
cost = step_cost(network)
print("NUMBERS", 4 * numbers, cost.gradient_bytes + cost.statistics_bytes)
"""


@pytest.mark.slow
def test_a_compiled_step_reduces_the_bytes_that_are_counted(forked_python):
    pytest.importorskip("jax")
    devices = "--xla_force_host_platform_device_count=2"
    process = forked_python("-c", COMPILED, KERAS_BACKEND="jax", XLA_FLAGS=devices)
    reduced, counted = map(int, process.stdout.split("NUMBERS")[1].split())
    assert counted == 3516  # by hand: (112 + 8 + 222 + 12 + 485) * 4 and 2 * 2 * (4 + 6) * 4
    assert reduced == counted + 4  # the loss


BAD = [
    (lambda: dry_run.report(recipe(dataset="own")), "'own'"),
    (lambda: dry_run.report(recipe(batch_size=100), num_devices=3), "100.*3"),
    (lambda: dry_run.report(recipe(), num_devices=0), "num_devices.*0"),
    (lambda: dry_run.report(recipe(), num_devices=2.0), "num_devices.*2.0"),
    (lambda: dry_run.report(recipe(), num_examples=127), "128.*127"),
    (lambda: dry_run.report(recipe(method="wrong")), "wrong"),
    (lambda: Link(-1e-6, 1e9), "latency.*-1e-06"),
    (lambda: Link(0, 0), "bandwidth"),
    (lambda: Machine(1e12, 1.5, 8, Link(0, 1)), "share.*1.5"),
    (lambda: Machine(1e12, 0.5, 0, Link(0, 1)), "devices_a_node.*0"),
    (lambda: time_model.all_reduce(12, 1, MACHINE), "12.*8"),
    (lambda: time_model.all_reduce(0, 1, MACHINE), "devices.*0"),
    (lambda: time_model.all_reduce(2, 1, Machine(1, 1, 1, Link(0, 1))), "2 devices.*1"),
    (lambda: time_model.step_time(step_cost(small()), MACHINE, 1, 0), "batch_a_device.*0"),
]


@pytest.mark.parametrize(("make", "pattern"), BAD)
def test_nonsense_is_refused_in_one_line(make, pattern, raises_line):
    with raises_line(ValueError, pattern):
        make()


def test_all_reduces_by_hand():
    link = Link(2e-6, 1e9)
    assert time_model.ring(4, 8e6, link) == pytest.approx(6 * 2e-6 + 2 * 3 / 4 * 8e6 / 1e9)
    assert time_model.tree(5, 8e6, link) == pytest.approx(2 * 3 * (2e-6 + 8e-3))
    # Inside 14 hops and 7/4 of the bytes; between two nodes an eighth of the bytes each.
    inside = 14 * 1e-6 + 14 / 8 * 8e6 / 1e11
    between = 2 * (5e-6 + 1e6 / 2 / 1e10)
    assert time_model.hierarchical(16, 8e6, MACHINE) == pytest.approx(inside + between)
    assert time_model.all_reduce(1, 8e6, MACHINE) == 0


def test_a_step_by_hand():
    found = step_cost(small())
    step = time_model.step_time(found, dataclasses.replace(MACHINE, images_per_second=1e9), 2, 32)
    assert step.compute == pytest.approx(32 * found.training_flops / 5e11)
    assert step.statistics == pytest.approx(2 * 2 * (1e-6 + 32 / 2 / 1e11))
    assert step.gradient == pytest.approx(2 * (1e-6 + found.gradient_bytes / 2 / 1e11))
    assert step.input == pytest.approx(32e-9)
    assert step.in_turn == step.compute + step.statistics + step.gradient
    assert step.overlapped < step.in_turn
    starved = time_model.step_time(found, dataclasses.replace(MACHINE, images_per_second=10), 2, 32)
    assert starved.in_turn == starved.overlapped == 3.2


@settings(max_examples=60, deadline=None)
@given(
    devices=st.sampled_from([1, 2, 4, 8, 16, 64, 512]),
    size=st.integers(0, 10**9),
    more=st.integers(0, 10**9),
)
def test_exchanges_take_longer_for_more_bytes_and_more_devices(devices, size, more):
    taken = time_model.all_reduce(devices, size, MACHINE)
    assert 0 <= taken <= time_model.all_reduce(devices, size + more, MACHINE)
    if devices > 1:  # no way is faster than all bytes but one device's, there and back, by the best link
        assert taken >= 2 * (devices - 1) / devices * size / MACHINE.inside.bandwidth
    if 8 <= devices < 512:
        assert taken <= time_model.all_reduce(devices * 8, size, MACHINE)
