"""Gradient checkpointing: blocks of a network are computed twice so that their insides are not kept.

A training step keeps every layer's activations until the backward pass has used them, M times as many
where the members of an ensemble are rows of the batch.  `rematerialize` cuts a functional network into
segments and keeps only what crosses the cuts; the backward pass computes each segment again (Chen et
al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174).  Checkpointing single layers
saves nothing in residual networks, because most memory is taken by what lies between layers.
"""

import functools
import itertools
from typing import Any

import keras
from keras import ops

from zoo.layers.keras_internals import flatten_layers, take_losses
from zoo.training.memory import graph_cuts


def rematerialize(network: keras.Model) -> "Rematerialized":
    """Return a network that computes the same with the same layers, but trains in less memory.

    With `training=True` all segments but the last run as pure functions of their inputs and variables,
    and the backend's checkpointing computes them again in the backward pass.  Random layers draw the
    same numbers both times; moving statistics, states of generators and losses that layers add are
    updated once. Inference is unchanged.  A training step takes about a third more time: one more
    forward pass.

    What depends on no trained variable (scaling, tiling, MIMO's shuffling, draws of hyperparameters) is
    computed once.  A layer after that must not keep tensors in its attributes, and Keras's masks do not
    cross cuts.  On JAX nothing is saved on a CPU: its compiler merges both computations.

    Args:
        network: functional `keras.Model`.

    Returns:
        A `Rematerialized` with the same inputs, outputs, layers and order of variables. Its own weights
        file fits `network`, too.

    Raises:
        ValueError: if the model is not functional or cannot be cut. The first step raises it if a layer
            assigns to variables that are not its own, such as a generator shared by all layers.

    References:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174.
    """
    if not (isinstance(network, keras.Model) and hasattr(network, "operations")):
        raise ValueError(
            f"only functional models can be cut; {network.name} is a {type(network).__name__}"
        )
    return Rematerialized(network.input, network.output, name=network.name)


@keras.saving.register_keras_serializable(package="zoo")
class Rematerialized(keras.Model):
    """A functional model that trains with gradient checkpointing; see `rematerialize`.

    Args:
        inputs: Keras tensors, as in `keras.Model`.
        outputs: Keras tensors, as in `keras.Model`.
        name: str or None. Default: None.
        kwargs: further arguments of `keras.Model`.

    Raises:
        ValueError: if no cut saves memory.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)
        # Variables are handed to segments as they are; their layers cast them.
        self.autocast, self.dtype_policy = False, "float32"
        self._plan = _Plan(self.inputs, self.outputs)
        if len(self.segments) < 2:
            raise ValueError(
                f"{self.name} has no place to cut it that saves memory; train without rematerialisation"
            )

    @property
    def segments(self) -> list[list[str]]:
        """Names of the layers in each segment; all segments but the last are computed again."""
        return [[node.operation.name for node in part.nodes] for part in self._plan.segments]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        values = {
            id(tensor): ops.convert_to_tensor(value, dtype=tensor.dtype)
            for tensor, value in zip(self.inputs, keras.tree.flatten(inputs))
        }
        self._plan.run(values)
        outputs = [values[id(tensor)] for tensor in self.outputs]
        return keras.tree.pack_sequence_as(self.output, outputs)


class _Plan:
    """The segments of a network, in a class in which Keras does not look for layers."""

    def __init__(self, inputs, outputs):
        nodes = graph_cuts.ordered(inputs, outputs)
        trained = graph_cuts.reached_by_training(nodes)
        untrained = [node for node in nodes if node not in trained]
        trained = [node for node in nodes if node in trained]
        places = graph_cuts.best_cuts(*graph_cuts.costs(trained, outputs))
        parts = [trained[start:end] for start, end in itertools.pairwise(places)]
        self.once, *self.segments = (_Segment(part, nodes, outputs) for part in (untrained, *parts))

    def run(self, values):
        """Compute all; `values`, by tensors' ids, has the network's inputs and is given the rest."""
        self.once.compute(values)
        for segment in self.segments[:-1]:
            segment.compute_twice(values)
        self.segments[-1].compute(values)  # its insides are needed at once


class _Segment:
    """Some nodes of a network's graph, with the tensors that enter and leave, layers and variables."""

    def __init__(self, nodes, network, outputs):
        self.nodes = nodes
        inside = set(nodes)
        elsewhere = [tensor for node in network if node not in inside for tensor in node.input_tensors]
        used = set(map(id, [*elsewhere, *outputs]))
        made = _unique(tensor for node in nodes for tensor in node.outputs)
        self.outputs = [tensor for tensor in made if id(tensor) in used]
        made = set(map(id, made))
        needed = _unique(tensor for node in nodes for tensor in node.input_tensors)
        self.inputs = [tensor for tensor in needed if id(tensor) not in made]
        own = [node.operation for node in nodes if isinstance(node.operation, keras.Layer)]
        self.layers = _unique(inner for layer in own for inner in flatten_layers(layer))
        self.variables = _unique(variable for layer in own for variable in layer.variables)
        self.body = _Body(functools.partial(_run, nodes, self.inputs, self.outputs), name="segment")

    def compute(self, values):
        """Compute as Keras does."""
        if self.nodes:
            self._give(values, self.body(self._take(values), training=True))

    def compute_twice(self, values):
        """Compute without keeping what is inside; assign and add once what the layers would."""
        # A copy, because PyTorch assigns in place what the backward pass is going to need.
        held = [
            variable.value if variable.trainable else ops.copy(variable.value)
            for variable in self.variables
        ]
        checkpoint = CHECKPOINTS[keras.backend.backend()]
        (outputs, losses), assigned = checkpoint(self._pure, self._take(values), held)
        self._give(values, outputs)
        for index, value in assigned.items():
            self.variables[index].assign(value)
        for index, added in losses.items():
            self.layers[index].add_loss(added)

    def _take(self, values):
        return [values[id(tensor)] for tensor in self.inputs]

    def _give(self, values, outputs):
        values.update((id(tensor), output) for tensor, output in zip(self.outputs, outputs))

    def _pure(self, inputs, held):
        """((outputs, {layer's index: losses}), {variable's index: new value}), without side effects."""
        with keras.StatelessScope(zip(self.variables, held), collect_losses=True) as scope:
            before = dict(scope.state_mapping)
            outputs = self.body(list(inputs), training=True)
        if scope.state_mapping.keys() != before.keys():
            raise ValueError(
                f"a layer of {self.layers[0].name} to {self.layers[-1].name} assigns to a variable that is "
                "not its own, as random layers without a generator do; train without rematerialisation"
            )
        after = enumerate(scope.get_current_value(variable) for variable in self.variables)
        assigned = {i: new for i, new in after if new is not before[id(self.variables[i])]}
        return (outputs, self._added(scope.losses)), assigned

    def _added(self, losses):
        """{layer's index: losses that it added}; Keras is made to forget them."""
        added = {}
        for index, layer in enumerate(self.layers):
            own = take_losses(layer, losses)
            if own:
                added[index] = own
        return added


class _Body(keras.layers.Layer):
    """A segment's computation, a layer so that those inside know of `training` in the backward pass."""

    def __init__(self, function, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.function, self.built = function, True

    def call(self, inputs, training=None):
        return self.function(inputs)


def _run(nodes, inputs, outputs, values):
    values = dict(zip(map(id, inputs), values))
    for node in nodes:
        arguments, options = node.arguments.fill_in(values)
        results = keras.tree.flatten(node.operation(*arguments, **options))
        values.update((id(tensor), result) for tensor, result in zip(node.outputs, results))
    return [values[id(tensor)] for tensor in outputs]


def _unique(items):
    return list({id(item): item for item in items}.values())


# One checkpoint a backend: function(inputs, held) -> (differentiable, others), computed again


def _jax(function, inputs, held):
    import jax

    return jax.checkpoint(function)(inputs, held)


def _torch(function, inputs, held):
    from torch.utils import checkpoint

    # Keras's layers would turn the exception that stops early into another one.
    with checkpoint.set_checkpoint_early_stop(False):
        return checkpoint.checkpoint(function, inputs, held, use_reentrant=False)


def _tensorflow(function, inputs, held):
    import tensorflow as tf

    given = [tf.convert_to_tensor(value) for value in (*inputs, *held)]
    places = range(len(given))
    floating = [place for place in places if given[place].dtype.is_floating]

    def compute(sources):
        replaced = {**dict(enumerate(given)), **dict(zip(floating, sources))}
        values = [replaced[place] for place in places]
        return function(values[: len(inputs)], values[len(inputs) :])

    @tf.custom_gradient
    def checkpointed(*sources):
        results = compute([tf.stop_gradient(source) for source in sources])  # not on any tape

        def gradient(*upstream):
            later = _nothing_after(upstream)
            again = [
                source + tf.cast(later, source.dtype) if place < len(inputs) else source
                for place, source in zip(floating, sources)
            ]
            with tf.GradientTape() as tape:
                tape.watch(again)
                targets = tf.nest.flatten(compute(again)[0])
            pairs = [pair for pair in zip(targets, upstream) if pair[0].dtype.is_floating]
            targets, upstream = zip(*pairs)
            return tape.gradient(
                targets, again, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )

        return results, gradient

    (outputs, losses), assigned = checkpointed(*(given[place] for place in floating))
    # Grappler of TensorFlow 2.21 takes the first of an operation's outputs for each of them where it
    # moves a max pooling before the activation it follows.  These now come from one operation each.
    return ([tf.ensure_shape(output, output.shape) for output in outputs], losses), assigned


def _nothing_after(tensors):
    """Zero, computed from tensors so that neither Grappler nor XLA can tell.

    Added to a segment's inputs it keeps the second computation from being merged with the first, or done
    before the backward pass arrives, as `tf.recompute_grad` does.
    """
    import tensorflow as tf

    first = [tf.reshape(x, [-1])[:1] for x in tensors if x is not None and x.dtype.is_floating]
    total = tf.add_n([tf.reduce_sum(tf.cast(x, "float32")) for x in first])
    return tf.where(total == total, 0.0, float("nan"))


CHECKPOINTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
