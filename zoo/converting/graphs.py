"""The graph of a functional Keras model as a flat list of steps, and what each step is for."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import keras

from zoo import kernel_uses
from zoo.layers import keras_internals

KERNELS = {
    keras.layers.Conv2D: "conv",
    keras.layers.Dense: "dense",
    keras.layers.DepthwiseConv2D: "depthwise_conv",
}

_OURS = ("images", "preprocess", "tile", "hyperparameters", "members")  # layers that conversion adds


@dataclasses.dataclass(eq=False)
class Step:
    """One call of a layer or operation.

    Attributes:
        operation: the source's layer or operation; it is not changed.
        args, kwargs: the arguments of the call, with this list's own symbolic tensors.
        outputs: list of symbolic tensors.
        name: str, unique in the list for each operation.
        path: names of the models around the operation, and its own.
        changes: dict, how the copy's configuration differs. Default: {}.
        fresh: bool, whether the copy starts from new weights. Default: False.
        dropped: bool, whether the step only passes its input on (a final softmax). Default: False.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list
    name: str
    path: tuple
    changes: dict = dataclasses.field(default_factory=dict)
    fresh: bool = False
    dropped: bool = False

    @property
    def inputs(self) -> list:
        """The symbolic tensors among the arguments."""
        given = keras.tree.flatten((self.args, self.kwargs))
        return [value for value in given if isinstance(value, keras.KerasTensor)]

    @property
    def key(self) -> tuple:
        """A key that is the same for all steps that use one copied layer."""
        return id(self.operation), tuple(sorted(self.changes)), self.fresh

    @property
    def weighted(self) -> bool:
        """Whether the operation has weights."""
        return self.fresh or bool(getattr(self.operation, "weights", ()))

    @property
    def kernel(self) -> bool:
        """Whether the operation has a matrix of weights: neither activation nor normalisation."""
        return self.fresh or any(len(w.shape) > 1 for w in getattr(self.operation, "weights", ()))

    def filled(self, values: dict) -> tuple:
        """(args, kwargs) with `values[id(tensor)]` in place of each symbolic tensor.

        Args:
            values: dict from a symbolic tensor's `id` to its value.

        Returns:
            A tuple and a dictionary.
        """

        def fill(x):
            return values[id(x)] if isinstance(x, keras.KerasTensor) else x

        return keras.tree.map_structure(fill, self.args), keras.tree.map_structure(fill, self.kwargs)

    def macs(self) -> int:
        """Multiply-accumulates of the operation's kernels for one image."""
        inputs = self.inputs[0].shape if self.inputs else ()
        return kernel_uses.macs(self.operation, inputs, self.outputs[0].shape)


@dataclasses.dataclass
class Graph:
    """A model as steps in an order of computation, from `images` to `output`.

    Attributes:
        name: str, the model's.
        images: symbolic tensor (B, H, W, C), the input.
        steps: list of `Step`.
        output: symbolic tensor, the last step's.
    """

    name: str
    images: keras.KerasTensor
    steps: list
    output: keras.KerasTensor

    def producer(self, tensor: keras.KerasTensor) -> Step | None:
        """The step that a tensor comes from; None for the images.

        Args:
            tensor: one of the graph's symbolic tensors.

        Returns:
            A `Step` or None.
        """
        return next((s for s in self.steps if any(tensor is out for out in s.outputs)), None)


def is_graph(layer: Any) -> bool:
    """Tell whether a layer is a functional or sequential model that computes its graph and nothing else.

    Args:
        layer: a layer or operation.

    Returns:
        A bool; False for a model that is not built or has a `call` of its own.
    """
    graphs = isinstance(layer, keras.Model) and hasattr(layer, "inputs") and bool(layer.built)
    return graphs and bool(layer.inputs) and type(layer).call in _graph_calls()


def graph_of(model: keras.Model) -> Graph:
    """Return the steps of a model; models inside it are replaced by their steps.

    Args:
        model: a functional or sequential model of one input and one output.

    Returns:
        A `Graph` with its own symbolic tensors.
    """
    images = _like(model.inputs[0])
    steps, names = [], dict.fromkeys(_OURS)
    outputs = _walk(model, [images], (), None, steps, names)
    return Graph(model.name, images, steps, outputs[0])


def _walk(model, inputs, path, training, steps, names):
    """Append a model's steps for some inputs; returns its outputs."""
    values = {id(tensor): value for tensor, value in zip(model.inputs, inputs)}
    for node in _ordered(model.inputs, model.outputs):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(values)
        if is_graph(operation):
            mode = kwargs.pop("training", None)
            given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
            inner = (*path, operation.name)
            outputs = _walk(operation, given, inner, training if mode is None else mode, steps, names)
        else:
            if training is not None and "training" in getattr(
                operation, "call_signature_parameters", ()
            ):
                kwargs.setdefault("training", training)
            outputs = _outputs(node, args, kwargs)
            name = _name(operation, path, names)
            steps.append(Step(operation, args, kwargs, outputs, name, (*path, operation.name)))
        values.update((id(tensor), value) for tensor, value in zip(node.outputs, outputs))
    return [values[id(tensor)] for tensor in model.outputs]


def _outputs(node, args, kwargs):
    """Symbolic outputs of a call; of the sizes that a model inside has left open, those that are known."""
    outputs = [_like(tensor) for tensor in node.outputs]
    if any(None in tensor.shape[1:] for tensor in outputs):
        try:
            made = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
        except (TypeError, ValueError, NotImplementedError):
            return outputs
        outputs = [_like(tensor) for tensor in made]
    return outputs


def _ordered(inputs, outputs):
    """The nodes between symbolic tensors, each after those whose outputs it takes."""
    done = {keras_internals.inbound_node(tensor): False for tensor in inputs}  # whether to compute it
    stack = [keras_internals.inbound_node(tensor) for tensor in reversed(outputs)]
    while stack:
        before = map(keras_internals.inbound_node, reversed(stack[-1].input_tensors))
        missing = [node for node in before if node not in done]
        if stack[-1] in done or not missing:
            done.setdefault(stack.pop(), True)
        else:
            stack.extend(missing)
    return [node for node, computed in done.items() if computed]


def _name(operation, path, names):
    """The operation's name, with those of the models around it where another one has it already."""
    name, outer = operation.name, list(path)
    while names.setdefault(name, operation) is not operation:
        name = f"{outer.pop()}_{name}" if outer else f"{name}_"
    return name


@functools.cache
def _graph_calls():
    images = keras.Input((1,))
    return {keras.Sequential.call, type(keras.Model(images, images)).call}


def rows_of(graph: Graph, training: bool, rows: int = 1) -> Iterator[tuple]:
    """Follow how many rows of the batch each image has, step by step.

    Args:
        graph: a `Graph`.
        training: bool, in training or at inference. A layer that changes the number of rows has a method
            `row_factor(training)`.
        rows: int, rows of the images. Default: 1.

    Yields:
        (step, rows that go in, rows that come out), ints or fractions.
    """
    counts = {id(graph.images): rows}
    for step in graph.steps:
        given = max([1, *(counts[id(tensor)] for tensor in step.inputs)])
        factor = getattr(step.operation, "row_factor", None)
        made = given * factor(training) if factor else given
        counts.update((id(tensor), made) for tensor in step.outputs)
        yield step, given, made


def _like(tensor):
    return keras.KerasTensor(tensor.shape, tensor.dtype)


# What steps are for


def is_softmax(step: Step) -> bool:
    """Tell whether a step is a softmax over the last axis and nothing else.

    Args:
        step: a `Step`.

    Returns:
        A bool.
    """
    operation, rank = step.operation, len(step.outputs[0].shape)
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.softmax
    named = isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "Softmax"
    return named and getattr(operation, "axis", None) in (-1, rank - 1)


def passes(step: Step) -> bool:
    """Tell whether a step may stand between a head and the output.

    Args:
        step: a `Step`.

    Returns:
        A bool; True for a linear or log-softmax activation, a reshaping, dropout and an identity, after which
        a softmax would be the same.
    """
    operation = step.operation
    if isinstance(operation, keras.layers.Activation):
        return operation.activation in (keras.activations.linear, keras.activations.log_softmax)
    passing = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout, keras.layers.Identity)
    return isinstance(operation, passing)


def check_merged(step: Step, method: Any) -> None:
    """Check that a layer's kernel is a variable, not one with an update of low rank (LoRA) beside it.

    Args:
        step: a `Step`.
        method: the `Method` that is to replace the layer.

    Raises:
        ValueError: for a layer with LoRA.
    """
    if getattr(step.operation, "lora_enabled", False):
        raise ValueError(
            f"{step.name} has LoRA enabled, which {method.name} cannot take over: save and load the weights, which "
            "merges the update, into a model without it; or take deep_ensemble"
        )


def tail(graph: Graph) -> list:
    """Return the steps from the output back to the head, which is the last of them.

    Args:
        graph: a `Graph`.

    Returns:
        A list of `Step`s: reshapings, dropout and a softmax, then the head, if there is one.
    """
    found, step = [], graph.producer(graph.output)
    while step is not None and len(step.inputs) == 1 and (passes(step) or is_softmax(step)):
        found.append(step)
        step = graph.producer(step.inputs[0])
    return found if step is None else [*found, step]


def roles(graph: Graph) -> dict:
    """Return the role of each step with a kernel: "stem", "shortcut", "head" or "hidden".

    Stems read the images, the head makes the logits, and a shortcut is a 1x1 convolution beside the
    branch of a residual block: other steps use its input, too, and only an addition uses its output.

    Args:
        graph: a `Graph`.

    Returns:
        {`Step`: role}.
    """
    takers = {}
    for step in graph.steps:
        for tensor in step.inputs:
            takers.setdefault(id(tensor), []).append(step)
    early, found = {id(graph.images)}, {}
    for step in graph.steps:
        reads_images = all(id(tensor) in early for tensor in step.inputs)
        if not step.kernel:
            early |= {id(out) for out in step.outputs} if reads_images else set()
        elif reads_images:
            found[step] = "stem"
        else:
            found[step] = "shortcut" if _is_shortcut(step, takers) else "hidden"
    if found:
        found[list(found)[-1]] = "head"
    return found


def head_alone(graph: Graph, found: dict, method: Any) -> Step | None:
    """Return the head, which a method gives a width of its own.

    Args:
        graph: a `Graph`.
        found: its `roles`.
        method: the `Method` that is to replace it.

    Returns:
        The `Step`; None in a graph without kernels.

    Raises:
        ValueError: for a layer that is called elsewhere, too.
    """
    head = next((step for step, role in found.items() if role == "head"), None)
    if head and any(step.key == head.key for step in graph.steps if step is not head):
        raise ValueError(
            f"{head.name} is the head of {graph.name} and is called before its end, too, so {method.name} cannot "
            "change its width; take deep_ensemble or batch_ensemble"
        )
    return head


def _is_shortcut(step, takers):
    pointwise = getattr(step.operation, "kernel_size", None) == (1, 1)
    if not pointwise or len(takers.get(id(step.inputs[0]), ())) < 2:
        return False
    after = takers.get(id(step.outputs[0]), ())
    while len(after) == 1 and not after[0].kernel:
        if type(after[0].operation).__name__ == "Add":
            return True
        after = takers.get(id(after[0].outputs[0]), ())
    return False
