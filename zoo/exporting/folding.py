"""Networks rewritten for inference only: `folded(network)`."""

import collections
import dataclasses
import functools
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.exporting import fold_rules
from zoo.layers.keras_internals import graph_nodes
from zoo.layers.nested_layers import all_layers

TOLERANCE = 1e-4
HALF = ("float16", "bfloat16")
# What hands its input on at inference, in the same order of channels.
_PASSING = (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.AlphaDropout,
    layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization, layers.Identity,
)  # fmt: skip
_SKIPPED, _ONCE = "skipped", "once"  # in place of a layer of the copy


def folded(network: keras.Model) -> keras.Model:
    """Copy a network into one with the same outputs, separate weights and fewer operations.

    A batch normalisation is at inference factor * x + offset, with factor = gamma / sqrt(variance +
    epsilon) and offset = beta - mean * factor. It is multiplied into the convolution or dense layer
    before it,

        factor * (x @ kernel + bias) + offset = x @ (kernel * factor) + (bias * factor + offset),

    in BatchEnsemble and hyper-batch layers into each member's s and bias. That is done where only the
    normalisation uses the layer's output, both are called once and the layer has no activation;
    elsewhere, as after a sum, the normalisation stays. MIMO's stem, which at inference sees M copies of
    an image, sees it once, with the sum of its kernels. Models inside the network are folded, too.

    Args:
        network: a functional or sequential `keras.Model` of ordinary layers (`zoo.layers.densify` a
            sparse one); any other is returned as it is.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: for a layer that cannot be copied, or where the copy's outputs for random images
            differ from the network's by more than 1e-4 of their largest absolute value, or of 1 if that
            is less.
    """
    if not _is_graph(network):
        return network
    copy = _copy(network)
    if any(_varies(layer) for layer in all_layers(network)):
        _check(_copy(network, _comparable, fold=False), _copy(copy, _comparable, fold=False))
    else:
        _check(network, copy)
    return copy


def in_float32(config: Any) -> Any:
    """Return a layer's configuration without half precision, in which LiteRT does not compute.

    Args:
        config: dict, a Keras configuration, or a part of one.

    Returns:
        A copy.
    """
    if isinstance(config, (list, tuple)):
        return type(config)(map(in_float32, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"].endswith(HALF):
        return "float32"
    return {key: in_float32(value) for key, value in config.items()}


def _varies(layer):
    """Whether answers differ by more than float32's rounding: in half precision, or as they are drawn."""
    return layer.compute_dtype in HALF or getattr(layer, "consistent", True) is False


def _comparable(config):
    config = in_float32(config)
    return {**config, "consistent": True} if "consistent" in config else config


def _check(network, copy):
    rng = np.random.default_rng(0)
    shapes = [[size or 64 for size in x.shape[1:]] for x in network.inputs]
    images = [rng.uniform(0, 255, (3, *shape)).astype("float32") for shape in shapes]
    expected, given = (
        [keras.ops.convert_to_numpy(y).astype("float64") for y in keras.tree.flatten(answers)]
        for answers in (
            model(images[0] if len(images) == 1 else images, training=False) for model in (network, copy)
        )
    )
    for one, other in zip(expected, given, strict=True):
        difference, limit = np.abs(one - other).max(), TOLERANCE * max(1, np.abs(one).max())
        if not difference <= limit:
            raise ValueError(
                f"{network.name} folded answers differently, by {difference:.2g} (at most {limit:.2g} is "
                "rounding): export it with optimize=False"
            )


@functools.cache
def _graphs():
    x = keras.Input((1,))
    return keras.Sequential, type(keras.Model(x, x))


def _is_graph(layer):
    """Whether a layer is a model that is its graph: functional or sequential, without its own `call`."""
    return type(layer) in _graphs() and bool(layer.built)


@dataclasses.dataclass
class _Plan:
    """What becomes of the layers of a graph, by their id."""

    norms: dict = dataclasses.field(default_factory=dict)  # the normalisation to multiply into each
    stems: dict = dataclasses.field(default_factory=dict)  # how many copies of its input each has seen
    gone: set = dataclasses.field(default_factory=set)  # normalisations
    expands: set = dataclasses.field(default_factory=set)  # what made the copies
    open: set = dataclasses.field(default_factory=set)  # models to be folded


class _Wiring:
    """Who gives and who takes each tensor of a graph."""

    def __init__(self, graph):
        self.nodes = [node for node in graph_nodes(graph) if not node.is_input]
        self.calls = collections.Counter(id(node.operation) for node in self.nodes)
        self.producer = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self.takers = collections.defaultdict(list)
        for node in self.nodes:
            for tensor in node.input_tensors:
                self.takers[id(tensor)].append(node)
        for tensor in graph.outputs:
            self.takers[id(tensor)].append(None)

    def once(self, node):
        return self.calls[id(node.operation)] == 1

    def source(self, tensors):
        """The node that gives exactly these tensors, each to one taker, maybe by way of passing layers."""
        node = self.producer.get(id(tensors[0]))
        if node is None or [id(x) for x in node.outputs] != [id(x) for x in tensors]:
            return None
        if any(len(self.takers[id(tensor)]) > 1 for tensor in tensors):
            return None
        passes = type(node.operation) in _PASSING or getattr(node.operation, "passes_inputs", False)
        if passes and _plainly_called(node):
            return self.source(node.input_tensors)
        return node

    def stem(self, expand):
        """The node to which alone a MIMO network's entrance gives copies of images; or None."""
        images, rows = expand.outputs
        if not all(taker and _needs_no_rows(taker.operation) for taker in self.takers[id(rows)]):
            return None
        takers = self.takers[id(images)]
        while len(takers) == 1 and takers[0] and type(takers[0].operation) is layers.Flatten:
            takers = self.takers[id(takers[0].outputs[0])]
        taker = takers[0] if len(takers) == 1 else None
        if taker is None or type(taker.operation) not in (layers.Conv2D, layers.Dense):
            return None
        plain = (
            fold_rules.has_plain_kernel(taker.operation) and getattr(taker.operation, "groups", 1) == 1
        )
        return taker if plain and self.once(taker) else None


def _needs_no_rows(layer):
    """Whether a layer takes which image each member sees in each row for training alone."""
    return getattr(layer, "rows_in_training_alone", False)


def _plainly_called(node):
    """Whether a layer was called with its inputs alone, and not told to train."""
    given = [value for value in node.arguments.kwargs.values() if value not in (None, False)]
    return len(node.arguments.args) == 1 and not given


def _plan(graph):
    wiring, plan, special = _Wiring(graph), _Plan(), set()
    for node in wiring.nodes:
        operation = node.operation
        if not _plainly_called(node):
            special.add(id(operation))
        elif _is_graph(operation):
            plan.open.add(id(operation))
        elif type(operation) in fold_rules.NORMS and wiring.once(node):
            _plan_norm(plan, wiring, node)
        elif getattr(operation, "channel_copies", 1) > 1 and wiring.once(node):
            stem = wiring.stem(node)
            if stem:
                plan.stems[id(stem.operation)] = operation.channel_copies
                plan.expands.add(id(operation))
    plan.open -= special
    return plan


def _plan_norm(plan, wiring, node):
    before = wiring.source(node.input_tensors)
    if before is None or not wiring.once(before):
        return
    if fold_rules.fits(before.operation, node.operation, len(node.input_tensors[0].shape)):
        plan.norms[id(before.operation)] = node.operation
        plan.gone.add(id(node.operation))


def _copy(network, change=lambda config: config, fold=True):
    """A functional copy of a graph, with its layers' configurations changed, and folded or not."""
    ends = network.input, network.output
    if isinstance(network, keras.Sequential):  # whose ends are those of its last call
        ends = network.inputs[0], network.outputs[0]
    graph = keras.Model(*ends, name=network.name)  # not compiled
    plan = _plan(graph) if fold else _Plan()
    twins = []

    def twin(layer):
        if id(layer) in plan.gone:
            return _SKIPPED
        if id(layer) in plan.expands:
            return _ONCE
        if id(layer) in plan.open or (not fold and _is_graph(layer)):
            return _copy(layer, change, fold)
        made = _twin(layer, change, id(layer) in plan.norms)
        twins.append((layer, made))
        return made

    copy = keras.models.clone_model(graph, clone_function=twin, call_function=_call)
    for layer, made in twins:
        norm, copies = plan.norms.get(id(layer)), plan.stems.get(id(layer), 1)
        if norm is None and copies == 1:
            _load(layer, made)
        else:
            fold_rules.assign(made, fold_rules.values(layer, norm, copies))
    return copy


def _twin(layer, change, biased):
    """A new layer of a layer's configuration, with a bias if that is asked for."""
    try:
        config = change(layer.get_config())
        return type(layer).from_config({**config, "use_bias": True} if biased else config)
    except (TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{layer.name} cannot be copied to be folded: {reason}") from None


def _call(layer, *args, **kwargs):
    """How the copy calls its layers."""
    if layer is _SKIPPED:
        return args[0]
    if layer is _ONCE:
        return args[0], args[0]  # the latter for the rows, which nobody takes
    if _needs_no_rows(layer) and isinstance(args[0], (list, tuple)):
        return layer(args[0][0])
    return layer(*args, **kwargs)


def _load(layer, twin):
    """Copy the weights of a layer and of the layers inside it."""
    if not isinstance(layer, keras.Layer):
        return
    for part, other in zip(all_layers(layer), all_layers(twin), strict=True):
        store = {}
        part.save_own_variables(store)
        other.load_own_variables({key: keras.ops.convert_to_numpy(store[key]) for key in store})
