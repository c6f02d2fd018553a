"""The end of a classifier: logits instead of a softmax, and a new head."""

from __future__ import annotations

import numbers

import keras

from zoo.converting import graphs
from zoo.layers.keras_internals import inbound_node

_SOFTMAXES = (
    keras.activations.softmax,
    keras.activations.log_softmax,
)  # a softmax of the latter is the former
_UNITS = {keras.layers.Dense: "units", keras.layers.Conv2D: "filters"}


def with_logits(
    graph: graphs.Graph, num_classes: int | None = None, from_logits: bool | None = None
) -> graphs.Graph:
    """Make a graph of images give logits (B, K): without its softmax, and maybe with a new head.

    With `num_classes`, a linear or softmax Dense or Conv2D layer at the end is replaced by a new one;
    any other model gets a new Dense layer.

    Args:
        graph: a `Graph`; its steps are changed.
        num_classes: int, K of a new head. Default: None, the model's own.
        from_logits: bool, whether the model gives logits; False takes the logarithm of probabilities
            that do not come from a softmax at the end. Default: None, decided by the last activation.

    Returns:
        The graph.

    Raises:
        ValueError: for a model that is not a classifier.
    """
    tail = graphs.tail(graph)
    for step in tail if from_logits is not True else []:
        step.dropped = graphs.is_softmax(step)
    head = tail[-1] if tail else None
    activation = getattr(head and head.operation, "activation", None)
    softmax = from_logits is not True and activation in _SOFTMAXES
    if from_logits is False and not softmax and not any(step.dropped for step in tail):
        return _with_logarithm(graph)
    if softmax and type(head.operation) in graphs.KERNELS:
        head.changes["activation"] = "linear"
    elif softmax:
        raise ValueError(
            f"{head.name} has a softmax of its own but is not a Dense or Conv2D layer; move the softmax to a "
            "Softmax layer after it"
        )
    if from_logits is None and num_classes is None and not any(step.dropped for step in tail):
        _check_unmixed(graph)
    linear = softmax or activation is keras.activations.linear
    if num_classes is not None:
        _replace(graph, head, linear and type(head.operation) in _UNITS, num_classes)
    elif activation is not None and not linear and from_logits is None:
        name = getattr(activation, "__name__", activation)
        raise ValueError(
            f"{head.name} ends {graph.name} with {name}: a classifier gives logits or a softmax; pass "
            "num_classes= for a new head"
        )
    _check_logits(graph, num_classes)
    return graph


def _check_unmixed(graph):
    """Refuse a graph that ends in a sum, mean or pooling of softmaxes, which is a probability without one."""
    waiting, seen = [graph.producer(graph.output)], set()
    while waiting:
        step = waiting.pop()
        if step is None or id(step) in seen:
            continue
        seen.add(id(step))
        inside = getattr(step.operation, "activation", None) is keras.activations.softmax
        if graphs.is_softmax(step) or (inside and "activation" not in step.changes):
            raise ValueError(
                f"{graph.name} has layers between the softmax {step.name} and its output: pass from_logits=False if it "
                "gives probabilities, or True if it gives logits"
            )
        if not step.kernel:
            waiting += [graph.producer(tensor) for tensor in step.inputs]


def _check_logits(graph, num_classes=None):
    shape = graph.output.shape
    if len(shape) != 2 or (num_classes or shape[-1] or 0) < 2:
        raise ValueError(
            f"{graph.name} gives {shape}, not logits (B, K) of K >= 2 classes; pool it to (B, C) and pass "
            "num_classes= for a new head"
        )


def _with_logarithm(graph):
    """Logits of probabilities (B, K)."""
    _check_logits(graph)
    for function in (keras.ops.maximum, keras.ops.log):
        inputs = (graph.output, 1e-30) if function is keras.ops.maximum else (graph.output,)
        made = function(*inputs)
        node = inbound_node(made)
        graph.output = made
        name = f"logits_{node.operation.name}"
        graph.steps.append(graphs.Step(node.operation, inputs, {}, [made], name, (name,)))
    return graph


def _replace(graph, head, replaced, num_classes):
    """A new head of so many classes, in place of the old one or after the features."""
    if not (isinstance(num_classes, numbers.Integral) and num_classes >= 2):
        raise ValueError(f"num_classes must be an integer >= 2; got {num_classes!r}")
    features = graph.output
    if replaced:
        head.changes[_UNITS[type(head.operation)]] = num_classes
        head.fresh = True
        for step in graphs.tail(graph):
            if isinstance(step.operation, keras.layers.Reshape):
                step.changes["target_shape"] = (*step.operation.target_shape[:-1], num_classes)
        return
    if len(features.shape) != 2:
        return  # refused by what follows
    names = {step.name for step in graph.steps}
    layer = keras.layers.Dense(num_classes, name="head" if "head" not in names else "new_head")
    graph.output = keras.KerasTensor((None, num_classes))
    graph.steps.append(
        graphs.Step(layer, (features,), {}, [graph.output], layer.name, (layer.name,), fresh=True)
    )
