"""The one file that uses private attributes of Keras, TensorFlow and Optuna.

Each function was checked on keras 3.15.1, tensorflow 2.21.0 and optuna 5.0.0, and says why there is no
public way.  A release that renames something is repaired here.  tests/test_private_attributes.py finds uses
elsewhere.
"""

import contextlib
import itertools
from collections.abc import Callable, Container, Iterator
from typing import Any

import keras

# Layers and models


def child_layers(layer: Any) -> list:
    """Return the layers directly inside a layer (keras 3.15.1; `layers` is public on models only).

    Args:
        layer: `keras.layers.Layer` or `keras.Model`.

    Returns:
        List of `keras.layers.Layer`, in the order of the layer.
    """
    return list(layer._layers)


def flatten_layers(layer: Any) -> list:
    """Return a layer and all layers inside it (keras 3.15.1; public `layers` stops at the first level).

    Args:
        layer: `keras.layers.Layer` or `keras.Model`.

    Returns:
        List of `keras.layers.Layer`, each once.
    """
    return layer._flatten_layers()


def has_own_variables(layer: Any) -> bool:
    """Tell whether a layer has variables outside its sublayers (keras 3.15.1; `variables` includes theirs).

    Args:
        layer: `keras.layers.Layer`.

    Returns:
        A bool.
    """
    return bool(layer._trainable_variables or layer._non_trainable_variables)


def take_losses(layer: Any, losses: list) -> list:
    """Return the losses that a layer added, and make it forget them (keras 3.15.1; `losses` cannot be cleared).

    Args:
        layer: `keras.layers.Layer`.
        losses: list of tensors, of this layer and others, such as a `keras.StatelessScope` collects.

    Returns:
        List of those tensors in `losses` that the layer itself added.
    """
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
    """Call a model on symbolic tensors, computing nothing (keras 3.15.1; public ways skip `call`).

    Args:
        model: `keras.Model`.
        inputs: what the model takes: a `keras.KerasTensor`, or a structure of them.

    Raises:
        Exception: whatever the model's call raises.
    """
    from keras.src import backend

    backend.compute_output_spec(lambda tensors: model(tensors, training=False), inputs)


def compiled_loss(model: Any) -> Any:
    """Return the loss that a model was compiled with (keras 3.15.1; public `loss` is what was passed in).

    Args:
        model: `keras.Model`.

    Returns:
        Function of (labels, outputs, sample weights), or None if the model has no compiled loss.
    """
    return model._compile_loss


def loss_per_replica(model: Any, loss: Any) -> Any:
    """Return an added loss as `compute_loss` counts it (keras 3.15.1; publicly only inside `compute_loss`).

    Args:
        model: `keras.Model`.
        loss: tensor of any shape, one of `model.losses`.

    Returns:
        Scalar tensor: the sum, divided by the number of replicas under `tf.distribute`.
    """
    return model._aggregate_additional_loss(loss)


# The graph of a functional model


def graph_nodes(network: Any) -> list:
    """Return all nodes of a functional model's graph (keras 3.15.1; no node of a model is public).

    Args:
        network: functional `keras.Model`.

    Returns:
        List of nodes, those of the inputs among them.
    """
    return list(itertools.chain(*network._nodes_by_depth.values()))


def inbound_node(tensor: Any) -> Any:
    """Return the node that a symbolic tensor comes from (keras 3.15.1; a tensor's history is not public).

    Args:
        tensor: `keras.KerasTensor` of a functional model's graph.

    Returns:
        The node, with its `operation`, `arguments`, `input_tensors` and `outputs`.
    """
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


# Optimisers


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Return the key by which an optimiser knows a variable (keras 3.15.1; steps may get other objects).

    Args:
        optimizer: `keras.optimizers.Optimizer`.
        variable: `keras.Variable`, or what an update step gets in its place.

    Returns:
        A key for dictionaries.
    """
    return optimizer._var_key(variable)


def exempt_from_weight_decay(optimizer: Any, keys: Container) -> None:
    """Give some variables no weight decay (keras 3.15.1; publicly only before build).

    Args:
        optimizer: `keras.optimizers.Optimizer`, which is changed.
        keys: set or dict of the variables' keys, from `variable_key`.
    """
    decays = optimizer._use_weight_decay
    optimizer._use_weight_decay = lambda v: variable_key(optimizer, v) not in keys and decays(v)


def parallel_update_step(optimizer: Any) -> Callable | None:
    """Return PyTorch's step of all variables at once (keras 3.15.1; `update_step` is not called then).

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        Function of (gradients, variables, learning rate), or None if the optimiser has none.
    """
    return getattr(optimizer, "_parallel_update_step", None)


def set_parallel_update_step(optimizer: Any, step: Callable) -> None:
    """Replace PyTorch's step of all variables at once (keras 3.15.1; `update_step` is not called then).

    Args:
        optimizer: `keras.optimizers.Optimizer`, which is changed.
        step: function of (gradients, variables, learning rate).
    """
    optimizer._parallel_update_step = step


def nadam_schedule(optimizer: Any) -> Any:
    """Return Nadam's product of momenta, which all variables share (keras 3.15.1; not public).

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        Scalar `keras.Variable`, or None for other optimisers.
    """
    return getattr(optimizer, "_u_product", None)


def optimizer_slots(optimizer: Any, variable: Any) -> list:
    """The variables that an optimiser keeps for each weight of a variable, such as momentum.

    Checked on keras 3.15.1: slots are in no public place, but an attribute per kind holds a list of them in
    the order of the trained variables.

    Args:
        optimizer: `keras.optimizers.Optimizer` or None.
        variable: `keras.Variable` that the optimiser trains.

    Returns:
        List of `keras.Variable` of the variable's shape; empty before the optimiser is built.
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
    """Return the strategy that a model trains under (keras 3.15.1; the public one cannot be None).

    Args:
        model: `keras.Model`.

    Returns:
        `tf.distribute.Strategy`, or None for a model that was made outside the scope of one.
    """
    return getattr(model, "_distribute_strategy", None)


def symbolic_build(model: Any, batch: Any) -> None:
    """Build a compiled model for a batch (keras 3.15.1; publicly only inside `fit`).

    Args:
        model: `keras.Model`, compiled.
        batch: what a step of `fit` takes, such as (images, labels); only shapes and types count.
    """
    model._symbolic_build(data_batch=batch)


def in_multi_worker_mode(strategy: Any) -> bool:
    """Tell whether a strategy spans several workers (tensorflow 2.21.0; not public).

    Args:
        strategy: `tf.distribute.Strategy`.

    Returns:
        A bool.
    """
    return strategy.extended._in_multi_worker_mode()


# LiteRT


def measure_ranges_only(converter: Any) -> None:
    """Make a converter measure ranges without quantising (tensorflow 2.21.0; experimental, not public).

    Args:
        converter: `tf.lite.TFLiteConverter`, which is changed.
    """
    converter._experimental_calibrate_only = True


def litert_quantized(measured: bytes, **options: Any) -> bytes:
    """Quantise a LiteRT file with measured ranges (tensorflow 2.21.0; the public converter takes no denylist).

    Args:
        measured: bytes, what a converter gives after `measure_ranges_only`.
        options: arguments of TensorFlow's `mlir_quantize`, such as `denylisted_ops`, a list of str.

    Returns:
        Bytes of the quantised file.
    """
    from tensorflow.lite.python.convert import mlir_quantize

    return mlir_quantize(measured, **options)


def litert_sparsified(content: bytes) -> bytes:
    """Encode the sparse kernels of a LiteRT file as such (tensorflow 2.21.0; publicly only while converting).

    Args:
        content: bytes of a file.

    Returns:
        Bytes of the encoded file.
    """
    from tensorflow.lite.python.convert import mlir_sparsify

    return mlir_sparsify(content)


def frozen(function: Any) -> Any:
    """Return a concrete function with constants for its variables and captured tensors.

    Checked on tensorflow 2.21.0: publicly this exists only in the v1 API.

    Args:
        function: concrete function of `tf.function`.

    Returns:
        A concrete function of the same inputs and outputs.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=False)


# Optuna


def record_heartbeat(study: Any, trial: Any) -> None:
    """Tell other workers now that a trial is alive (optuna 5.0.0; publicly only a thread does, later).

    Args:
        study: `optuna.Study` whose storage keeps heartbeats, such as `optuna.storages.RDBStorage`.
        trial: `optuna.Trial` of the study.
    """
    study._storage.record_heartbeat(trial._trial_id)
