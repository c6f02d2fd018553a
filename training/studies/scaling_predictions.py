"""The numbers behind docs/scaling.md: costs of methods, the assumed machine, and predictions."""

import keras

import zoo
from zoo import methods
from zoo.precision import precision as policy
from zoo.step_cost import StepCost, step_cost
from zoo.training.cost.time_model import Link, Machine, StepTime, step_time

DEVICES, SHARES = (8, 64, 512), (0.2, 0.4)

# Name in the tables: (constructor for the large network, for the small one, formula of the gradient's size).
METHODS = {
    "single": ("Single()", "Single()", "1"),
    "packed": ("Packed(4, alpha=2, gamma=1)",) * 2 + ("alpha² / (M gamma) = 1",),
    "packed, gamma 2": ("Packed(4, alpha=2, gamma=2)",) * 2 + ("alpha² / (M gamma) = 1/2, where gamma holds",),
    "batch_ensemble": ("BatchEnsemble(4)",) * 2 + ("1 + fast weights",),
    "batch_ensemble, split": ('BatchEnsemble(4, training_mode="split")',) * 2 + ("1 + fast weights",),
    "mimo": ("MIMO(2)", "MIMO(3)", "1 + wider stem and head"),
    "hyper_batch": ("HyperBatch(4)",) * 2 + ("2 + fast weights",),
    "masksembles": ("Masksembles(4)",) * 2 + ("1",),
    "mc_dropout": ("MCDropout(4)",) * 2 + ("1",),
    "deep_ensemble": ("DeepEnsemble(4)",) * 2 + ("M; members apart: 1, and 0 from M devices",),
    "dst_tickets": ("Tickets(4, sparsity=0.8)",) * 2 + ("M sent, M (1 - S) needed",),
}  # fmt: skip
# Backbone, shape, classes, training images, batch of strong scaling.
NETWORKS = {
    "ResNet-50 at 224": ("resnet50", (224, 224, 3), 1000, 1_281_167, 4096),
    "ResNet-18 at 32": ("resnet18", (32, 32, 3), 10, 50_000, 4096),
}
WEAK_BATCH, MEMBERS, MEMORY = 128, 4, 80e9
PREDICTED = ("single", "packed", "packed, gamma 2", "batch_ensemble", "mimo", "hyper_batch",
             "deep_ensemble", "deep_ensemble, members apart", "dst_tickets")  # fmt: skip

# What is assumed of 8 NVIDIA H100 SXM a node, one 400 Gb/s InfiniBand port each: (value, unit, source).
ASSUMED = {
    "bfloat16 peak, dense": (989e12, "FLOP/s", "NVIDIA's table of the H100 SXM, 1,979 TFLOP/s with sparsity and half of it "
                             "without, read in https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html"),
    "memory": (MEMORY, "bytes", "the same"),
    "NVLink, each direction": (450e9, "bytes/s", "the same: 900 GB/s, both directions together"),
    "InfiniBand, each direction": (50e9, "bytes/s", "eight single-port ConnectX-7 of 400 Gb/s a DGX H100, "
                                   "https://docs.nvidia.com/dgx-basepod/reference-architecture-infrastructure-"
                                   "foundation-enterprise-ai/latest/core-components.html"),
    "latency of NVLink": (1.9e-6, "s", "NCCL's own model, ring with LL128: hwLat in src/graph/tuning.cc of "
                          "https://github.com/NVIDIA/nccl (commit 01afd20)"),
    "latency of InfiniBand": (4.0e-6, "s", "the same"),
    "CPU cores a GPU": (14, "", "112 cores a DGX H100, as above"),
}  # fmt: skip
# Minutes to 75.9 % of NVIDIA's MXNet ResNet-50 v1.5 in MLPerf Training 3.0, by number of H100.
MLPERF = {8: 13.466, 64: 2.664, 512: 0.509}


def assumed_machine(share: float) -> Machine:
    """Return the machine of `ASSUMED`.

    Args:
        share: float in (0, 1], the share of its peak that training achieves.

    Returns:
        `Machine`.
    """
    value = {name: given for name, (given, _, _) in ASSUMED.items()}
    return Machine(
        peak=value["bfloat16 peak, dense"],
        share=share,
        devices_a_node=8,
        inside=Link(value["latency of NVLink"], value["NVLink, each direction"]),
        between=Link(value["latency of InfiniBand"], value["InfiniBand, each direction"]),
    )


def measured_machine(parameters: dict, kind: str, flops: float) -> Machine:
    """Return the measured machine of two workers.

    Args:
        parameters: dict in scaling_parameters.json.
        kind: "processes" or "devices", the kind of the two workers.
        flops: float, FLOP/s of a worker.

    Returns:
        `Machine`.
    """
    link = parameters["exchange"][kind]
    return Machine(flops, 1.0, 2, Link(link["latency"], link["bandwidth"]))


def costs(network: str, precision: str = "mixed_bfloat16") -> dict[str, StepCost]:
    """Count what each method costs.

    Args:
        network: str, a name in `NETWORKS`.
        precision: str, the dtype policy. Default: "mixed_bfloat16".

    Returns:
        dict from method to `StepCost`.
    """
    backbone, shape, classes, _, _ = NETWORKS[network]
    counted = {}
    for name, texts in METHODS.items():
        keras.utils.clear_session()
        method = eval(texts[list(NETWORKS).index(network)], vars(methods))
        with policy(precision):
            counted[name] = step_cost(zoo.build(method, backbone, classes, shape).network)
    return counted


def times(counted: dict, name: str, devices: int, batch: float, share: float) -> StepTime:
    """Predict the time of a method's step on the assumed machine.

    Args:
        counted: dict from `costs`.
        name: str, the method.
        devices: int, all devices.
        batch: float, images on each device.
        share: float in (0, 1], the share of the peak that training achieves.

    Returns:
        `StepTime`.
    """
    machine = assumed_machine(share)
    if name.endswith(", members apart"):
        # A member has every M-th device, and so M times the images on each for the same global batch.
        return step_time(counted["single"], machine, max(1, devices // MEMBERS), batch * MEMBERS)
    return step_time(counted[name], machine, devices, batch)


def efficiencies(
    counted: dict, name: str, devices: int, batch: float, share: float
) -> tuple[float, float]:
    """Predict the share of a step that is compute.

    Args:
        counted: dict from `costs`.
        name: str, the method.
        devices: int, all devices.
        batch: float, images on each device.
        share: float in (0, 1], the share of the peak that training achieves.

    Returns:
        (with gradients exchanged after the backward pass, with gradients exchanged during it).
    """
    step = times(counted, name, devices, batch, share)
    return step.compute / step.in_turn, step.compute / step.overlapped


def validation(parameters: dict) -> list[tuple]:
    """Compare predicted and measured steps on two processes.

    Args:
        parameters: dict in scaling_parameters.json.

    Returns:
        List of (backbone, batch, seconds on one process, predicted `StepTime` on two, seconds measured
        on two).
    """
    rows = []
    steps = parameters["steps"]
    for backbone, batch in steps["batch"].items():
        cost = step_cost(zoo.build(zoo.methods.Single(), backbone).network)
        alone = steps["one_process"][backbone]
        machine = measured_machine(parameters, "processes", batch * cost.training_flops / alone)
        predicted = step_time(cost, machine, 2, batch)
        rows.append((backbone, batch, alone, predicted, steps["two_processes"][backbone]))
    return rows
