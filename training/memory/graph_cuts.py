"""Split the graph of a functional Keras model so that its backward pass needs little memory."""

import itertools
import math

import keras

from zoo.layers.keras_internals import inbound_node


def ordered(inputs: list, outputs: list) -> list:
    """Sort the nodes between symbolic tensors, each after the nodes whose outputs it takes.

    Args:
        inputs: list of Keras tensors.
        outputs: list of Keras tensors that are computed from `inputs`.

    Returns:
        List of nodes of the graph.
    """
    done = {inbound_node(tensor): False for tensor in inputs}  # whether it is to be computed
    stack = [inbound_node(tensor) for tensor in reversed(outputs)]
    while stack:
        missing = [n for n in map(inbound_node, reversed(stack[-1].input_tensors)) if n not in done]
        if stack[-1] in done or not missing:
            done.setdefault(stack.pop(), True)
        else:
            stack.extend(missing)
    return [node for node, computed in done.items() if computed]


def reached_by_training(nodes: list) -> set:
    """Find the nodes whose outputs depend on a trained variable, and so have gradients.

    Args:
        nodes: list of nodes, in order of computation.

    Returns:
        Set of some of the nodes.
    """
    reached = set()
    for node in nodes:
        own = getattr(node.operation, "trainable_variables", ())
        if own or not reached.isdisjoint(map(inbound_node, node.input_tensors)):
            reached.add(node)
    return reached


def costs(nodes: list, outputs: list) -> tuple[list[int], list[int]]:
    """Count the bytes that each node makes, and those that cross a cut before it.

    Args:
        nodes: list of n nodes of a graph, in order of computation. What other nodes make is not counted.
        outputs: list of Keras tensors, the outputs of the graph.

    Returns:
        (n sizes of the nodes' outputs, n + 1 sizes of what crosses a cut before each node and after the
        last), all in bytes an image.
    """
    last_use = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.input_tensors}
    last_use |= {id(tensor): len(nodes) for tensor in outputs}
    sizes, crossing, rows = [], [0] * (len(nodes) + 1), {}  # rows of each tensor in a training step
    for i, node in enumerate(nodes):
        factor = getattr(node.operation, "row_factor", lambda training: 1)(True)
        made = factor * max([1, *(rows.get(id(tensor), 1) for tensor in node.input_tensors)])
        rows.update((id(tensor), made) for tensor in node.outputs)
        sizes.append(int(made * sum(map(_bytes, node.outputs))))
        for tensor in node.outputs:
            for cut in range(i + 1, last_use.get(id(tensor), i) + 1):
                crossing[cut] += int(made * _bytes(tensor))
    return sizes, crossing


def _bytes(tensor):
    digits = "".join(filter(str.isdigit, keras.backend.standardize_dtype(tensor.dtype)))
    return math.prod(size or 1 for size in tensor.shape) * int(digits or 8) // 8


def best_cuts(sizes: list[int], crossing: list[int], tries: int = 64) -> list[int]:
    """Choose the cuts of a sequence of computations that let the backward pass need the least memory.

    The memory is what crosses the cuts, and all that is inside the largest segment:
    min over cuts of sum_c crossing[c] + max over segments of sum_i sizes[i].

    Args:
        sizes: list of n numbers, the size of what each computation makes.
        crossing: list of n + 1 numbers, the size of what is made before a computation and used by it or
            later.
        tries: int, how many sizes of the largest segment are tried, or all if there are fewer. Default:
            64.

    Returns:
        List of indices 0 = c_0 < ... < c_S = n; all but the last are the first computations of segments.
    """
    if not sizes:
        return [0]
    until = [0, *itertools.accumulate(sizes)]
    pairs = itertools.combinations(until, 2)
    limits = sorted({end - start for start, end in pairs if end - start >= max(sizes)})
    some = {round(i * (len(limits) - 1) / (tries - 1)) for i in range(tries)}
    plans = [_cheapest_cuts(until, crossing, limits[i]) for i in sorted(some)]

    def memory(cuts):
        largest = max(until[end] - until[start] for start, end in itertools.pairwise(cuts))
        return sum(crossing[cut] for cut in cuts[1:-1]) + largest

    return min(plans, key=memory)


def _cheapest_cuts(until, crossing, limit):
    """Cuts that the least crosses, of those between which no more than a limit is made."""
    best = [(0, 0)]  # for each end: what crosses all cuts before it, where the last segment begins
    for end in range(1, len(until)):
        options = []
        for start in range(end - 1, -1, -1):
            if until[end] - until[start] > limit:
                break
            options.append((best[start][0] + (crossing[start] if start else 0), start))
        best.append(min(options, key=lambda option: (option[0], -option[1])))  # the later one of equals
    cuts = [len(until) - 1]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return cuts[::-1]
