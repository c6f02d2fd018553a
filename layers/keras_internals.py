"""The one file that uses private attributes of Keras, TensorFlow and Optuna.

Each function was checked on keras 3.15.1, tensorflow 2.21.0 and optuna 5.0.0, and says why there is no
public way.  A release that renames something is repaired here.  tests/test_private_attributes.py finds uses
elsewhere.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

# Layers and models


def child_layers(layer: Any) -> list:
    """The layers directly inside a layer, in order (keras 3.15.1; `layers` is public on models only)."""
    return list(layer._layers)


def flatten_layers(layer: Any) -> list:
    """A layer and all inside it, each once (keras 3.15.1; public `layers` stops at the first level)."""
    return layer._flatten_layers()


def has_own_variables(layer: Any) -> bool:
    """Whether a layer has variables outside its sublayers (keras 3.15.1; `variables` includes theirs)."""
    return bool(layer._trainable_variables or layer._non_trainable_variables)


def take_losses(layer: Any, losses: list) -> list:
    """Those of some losses that a layer added, which it then forgets (keras 3.15.1; `losses` cannot be cleared)."""
    own = [loss for loss in losses if id(loss) in layer._loss_ids]
    layer._loss_ids.difference_update(map(id, own))
    return own


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Let variables that are made within have a shape and take no memory (keras 3.15.1).

    `keras.StatelessScope` keeps a list of such variables and gives them values when the next scope ends, which
    only `global_state` prevents. They are of no use afterwards.
    """
    from keras.src.backend.common import global_state

    name = "uninitialized_variables"
    waiting = list(global_state.get_global_attribute(name, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(name, waiting)


def trace(model: Any, inputs: Any) -> None:
    """Call a model for the shape of its answer, computing nothing (keras 3.15.1; public ways skip `call`)."""
    from keras.src import backend

    backend.compute_output_spec(lambda tensors: model(tensors, training=False), inputs)


def compiled_loss(model: Any) -> Any:
    """The loss a model was compiled with, or None (keras 3.15.1; `loss` is what was passed in)."""
    return model._compile_loss


def loss_per_replica(model: Any, loss: Any) -> Any:
    """An added loss as `compute_loss` counts it under `tf.distribute` (keras 3.15.1; done only inside)."""
    return model._aggregate_additional_loss(loss)


# The graph of a functional model


def graph_nodes(network: Any) -> list:
    """All nodes of a functional model's graph (keras 3.15.1; none of a network's nodes are public)."""
    return list(itertools.chain(*network._nodes_by_depth.values()))


def inbound_node(tensor: Any) -> Any:
    """The node that a symbolic tensor comes from (keras 3.15.1; a tensor's history is not public)."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


# Optimisers


def variable_key(optimizer: Any, variable: Any) -> Any:
    """What an optimiser knows a variable by (keras 3.15.1; steps may get other objects)."""
    return optimizer._var_key(variable)


def exempt_from_weight_decay(optimizer: Any, keys: Iterable) -> None:
    """Give variables, by key, no weight decay (keras 3.15.1; publicly only before build)."""
    decays = optimizer._use_weight_decay
    optimizer._use_weight_decay = lambda v: variable_key(optimizer, v) not in keys and decays(v)


def parallel_update_step(optimizer: Any) -> Callable | None:
    """PyTorch's step of all variables at once, or None (keras 3.15.1; `update_step` is not called then)."""
    return getattr(optimizer, "_parallel_update_step", None)


def set_parallel_update_step(optimizer: Any, step: Callable) -> None:
    """Replace PyTorch's step of all variables at once (keras 3.15.1; `update_step` is not called then)."""
    optimizer._parallel_update_step = step


def nadam_schedule(optimizer: Any) -> Any:
    """Nadam's product of momenta, shared by all variables, or None (keras 3.15.1; not public)."""
    return getattr(optimizer, "_u_product", None)


def optimizer_slots(optimizer: Any, variable: Any) -> list:
    """The variables that an optimizer keeps for each weight of a variable, such as momentum.

    Checked on keras 3.15.1: slots are in no public place, but an attribute per kind holds a list of them in
    the order of the trained variables.

    Args:
        optimizer: `keras.optimizers.Optimizer` or None.
        variable: `keras.Variable` that the optimizer trains.

    Returns:
        List of `keras.Variable` of the variable's shape; empty before the optimizer is built.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if optimizer is None or not optimizer.built:
        return []
    index = optimizer._get_variable_index(variable)
    count = len(optimizer._trainable_variables)
    kinds = [kind for kind in vars(optimizer).values() if isinstance(kind, list) and len(kind) == count]
    return [
        kind[index]
        for kind in kinds
        if kind[index] is not variable and getattr(kind[index], "shape", None) == variable.shape
    ]


# tf.distribute


def distribute_strategy(model: Any) -> Any:
    """The strategy a model trains under, or None (keras 3.15.1; the public one cannot be None)."""
    return getattr(model, "_distribute_strategy", None)


def symbolic_build(model: Any, batch: Any) -> None:
    """Build a compiled model for a batch (keras 3.15.1; publicly only inside `fit`)."""
    model._symbolic_build(data_batch=batch)


def in_multi_worker_mode(strategy: Any) -> bool:
    """Whether a strategy spans several workers (tensorflow 2.21.0; not public)."""
    return strategy.extended._in_multi_worker_mode()


# LiteRT


def measure_ranges_only(converter: Any) -> None:
    """Make a converter measure ranges without quantising (tensorflow 2.21.0; experimental, not public)."""
    converter._experimental_calibrate_only = True


def litert_quantized(measured: bytes, **options: Any) -> bytes:
    """Quantise a measured file (tensorflow 2.21.0; the public converter takes no denylist)."""
    from tensorflow.lite.python.convert import mlir_quantize

    return mlir_quantize(measured, **options)


def litert_sparsified(content: bytes) -> bytes:
    """Encode a file's sparse kernels (tensorflow 2.21.0; publicly only while converting)."""
    from tensorflow.lite.python.convert import mlir_sparsify

    return mlir_sparsify(content)


def frozen(function: Any) -> Any:
    """A concrete function with its variables and captured tensors as constants (tensorflow 2.21.0; publicly only v1)."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=False)


# Optuna


def record_heartbeat(study: Any, trial: Any) -> None:
    """Tell other workers now that a trial is alive (optuna 5.0.0; publicly only a thread does, later)."""
    study._storage.record_heartbeat(trial._trial_id)
