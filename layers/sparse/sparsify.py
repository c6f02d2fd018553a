"""`sparsify` and `densify`: a model of ordinary layers as one of sparse layers, and back."""

import math
import warnings
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from zoo.layers import packed, packed_convolutions
from zoo.layers.initializers import undrawn
from zoo.layers.keras_internals import child_layers, has_own_variables
from zoo.layers.nested_layers import all_layers
from zoo.layers.sparse import block_masks
from zoo.layers.sparse import layers as sparse
from zoo.layers.sparse.densities import DISTRIBUTIONS, nonzero_counts

SPARSE = {
    layers.Dense: sparse.SparseDense,
    layers.Conv2D: sparse.SparseConv2D,
    layers.DepthwiseConv2D: sparse.SparseDepthwiseConv2D,
    packed.PackedDense: sparse.SparsePackedDense,
    packed_convolutions.PackedConv1D: sparse.SparsePackedConv1D,
    packed_convolutions.PackedConv2D: sparse.SparsePackedConv2D,
}
_OWN_ARGUMENTS = ("sparsity", "seed", "block_shape")
_ORDINARY = {sparse_class: ordinary for ordinary, sparse_class in SPARSE.items()}


def sparsify(
    model: keras.Model, sparsity: float, distribution: str = "erk", *, skip: Sequence[str] = (),
    depthwise: bool = False, criterion: str = "random", seed: int = 0,
    block_shape: tuple[int, int] | None = None,
) -> keras.Model:  # fmt: skip
    """Return a model with sparse kernels and the weights and names of a given one.

    Dense, Conv2D and packed layers become sparse layers. Layers that are sparse already get new masks.
    Biases, normalisations and all other layers stay. As published, the first layer, 1x1 shortcuts and
    the classifier are masked like the rest, though Erdos-Renyi-Kernel leaves most of them dense. Masked
    weights become zero, the others keep their values.

    Args:
        model: `keras.Model` whose layers are in its configuration: functional, sequential, of
            `keras.applications` or an `EnsembleClassifier`. It is not changed.
        sparsity: float S in [0, 1), the share of zeros in all masked kernels together.
        distribution: str, "erk" for denser small kernels (see `erk_densities`; for packed kernels the
            shape inside a member counts), or "uniform". Default: "erk".
        skip: sequence of str, names of layers that stay dense. Default: ().
        depthwise: bool, whether to mask DepthwiseConv2D too, which published networks do not. Default:
            False.
        criterion: str, which weights stay: "random", or "magnitude" for those with the largest absolute
            values. Default: "random".
        seed: int, seed of the random masks. Default: 0.
        block_shape: (outputs, inputs) such as (1, 4), to mask Dense layers in whole blocks (by
            "magnitude", those with the largest mean absolute values stay), which training keeps (see
            `SparseDense`). Other layers are masked weight by weight. Default: None.

    Returns:
        A new model of the same class, compiled like the given one. The number of non-zeros of all masked
        kernels together is exactly the rounded (1 - S) * size; with blocks it is less than one block
        away.

    Raises:
        ValueError: for a sparsity out of range, a model with nothing to mask or whose layers are not in
            its configuration, an unknown distribution, criterion or layer name, or blocks that do not
            divide a kernel.

    References:
        Evci et al., Rigging the Lottery, ICML 2020, arXiv 1911.11134; Liu et al., Deep Ensembling with
        No Overhead for either Training or Testing, ICLR 2022, arXiv 2106.14568.

    Example:
        >>> dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> sparse = zoo.layers.sparsify(dense, 0.75)
        >>> int(np.count_nonzero(sparse.get_weights()[0]))
        20
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution must be {' or '.join(DISTRIBUTIONS)}; got {distribution!r}")
    if criterion not in ("random", "magnitude"):
        raise ValueError(f'criterion must be "random" or "magnitude"; got {criterion!r}')
    block_shape = block_masks.checked(block_shape)
    chosen = _chosen(model, skip, depthwise)
    each_blocks = [block_shape if isinstance(layer, layers.Dense) else None for layer in chosen]
    for layer, of_blocks in zip(chosen, each_blocks):
        block_masks.grid(layer.kernel.shape, of_blocks, layer.name)
    shapes = [_shape(layer) for layer in chosen]
    groups = [math.prod(layer.kernel.shape) // math.prod(s) for layer, s in zip(chosen, shapes)]
    counts = _counts(shapes, groups, DISTRIBUTIONS[distribution], sparsity)
    counts = _in_blocks(counts, [math.prod(of_blocks or (1,)) for of_blocks in each_blocks])
    plans = {}
    for index, (layer, count, of_blocks) in enumerate(zip(chosen, counts, each_blocks)):
        layer_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        plans[id(layer)] = (_mask(layer, count, criterion, layer_seed, of_blocks), layer_seed, of_blocks)

    def values(old, new):
        stored = _stored(old)
        if id(old) in plans:
            mask, new.seed, new.block_shape = plans[id(old)]
            new.sparsity = 1 - int(mask.sum()) / mask.size
            stored[0] = np.where(mask, stored[0], 0)
            last = len(stored) - 1 if isinstance(old, sparse.Sparse) else len(stored)
            stored[last:] = [mask]
        return stored

    return _rebuilt(model, {id(layer): SPARSE.get(type(layer), type(layer)) for layer in chosen}, values)


def densify(model: keras.Model) -> keras.Model:
    """Return a model of ordinary layers that computes the same as a sparse one, with zeros.

    Args:
        model: `keras.Model` with sparse layers, as `sparsify` returns it. It is not changed.

    Returns:
        A new model of the same class and names, compiled like the given one.

    Raises:
        ValueError: for a model without sparse layers.

    Example:
        >>> dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> again = zoo.layers.densify(zoo.layers.sparsify(dense, 0.75))
        >>> type(again.layers[0]).__name__, int(np.count_nonzero(again.get_weights()[0]))
        ('Dense', 20)
    """
    chosen = sparse.sparse_layers(model)
    if not chosen:
        raise ValueError(f"{model.name} has no sparse layers to make dense")

    def values(old, new):
        stored = _stored(old)
        if isinstance(old, sparse.Sparse):
            mask = stored.pop()
            stored[0] = np.where(mask, stored[0], 0)
        return stored

    return _rebuilt(model, {id(layer): _ORDINARY[type(layer)] for layer in chosen}, values)


def _chosen(model, skip, depthwise):
    """The layers to mask, each once."""
    found = all_layers(model)
    unknown = set(skip) - {layer.name for layer in found}
    if unknown:
        raise ValueError(
            f"skip names layers that {model.name} does not have: {', '.join(sorted(unknown))}"
        )
    chosen = [
        layer
        for layer in found
        if (type(layer) in SPARSE or isinstance(layer, sparse.Sparse))
        and layer.name not in skip
        and (depthwise or type(layer) is not layers.DepthwiseConv2D)
        and not getattr(layer, "lora_enabled", False)
        and not getattr(layer, "quantization_mode", None)
    ]
    if not chosen:
        raise ValueError(
            f"{model.name} has nothing to mask: no Dense or Conv2D layer that skip={tuple(skip)} leaves"
        )
    unbuilt = [layer.name for layer in chosen if not layer.built]
    if unbuilt:
        raise ValueError(f"{unbuilt[0]} of {model.name} has no weights yet; build the model first")
    return chosen


def _shape(layer):
    """Shape of a kernel; of a packed one, inside a group, and of its stem, that of a member."""
    shape = tuple(layer.kernel.shape)
    if not hasattr(layer, "num_members"):
        return shape
    members = layer.num_members if shape[0] == 1 else 1  # a stem has them side by side in one group
    return (*shape[1:-1], shape[-1] // members)


def _counts(shapes, groups, distribution, sparsity):
    """Non-zeros of each kernel of so many groups of a shape."""
    each = [index for index, count in enumerate(groups) for _ in range(count)]
    densities = distribution([shapes[index] for index in each], sparsity)
    layer_densities = [densities[each.index(index)] for index in range(len(shapes))]
    return nonzero_counts([(g, *shape) for g, shape in zip(groups, shapes)], layer_densities)


def _in_blocks(counts, sizes):
    """Numbers of blocks of such sizes that come as near to numbers of weights as whole blocks do."""
    counts, sizes = np.array(counts), np.array(sizes)
    found = np.maximum(counts // sizes, 1)
    left = counts - found * sizes
    # What rounding down has left goes to the layers that lost most of a block.
    for index in np.argsort(-left / sizes, kind="stable"):
        if sizes[index] > 1 and left.sum() >= sizes[index] > left[index] > 0:
            left[index] -= sizes[index]
            found[index] += 1
    return [int(count) for count in found]


def _mask(layer, count, criterion, seed, block_shape):
    """A mask with so many blocks."""
    if criterion == "random":
        drawn = sparse.random_mask(block_masks.grid(layer.kernel.shape, block_shape), count, seed)
        return block_masks.spread(drawn, block_shape)
    magnitudes = block_masks.means(keras.ops.convert_to_numpy(layer.kernel), block_shape)
    mask = np.zeros(magnitudes.size, bool)
    mask[np.argpartition(magnitudes.ravel(), -count)[-count:]] = True
    return block_masks.spread(mask.reshape(magnitudes.shape), block_shape)


def _stored(layer):
    """A layer's own values as it saves them: kernel, bias if any, and of a sparse layer last the mask."""
    store = {}
    layer.save_own_variables(store)
    return [keras.ops.convert_to_numpy(store[str(index)]) for index in range(len(store))]


def _rebuilt(model, classes, values):
    """The model with layers of other classes (by id), loaded with `values(old layer, new layer)`."""
    pairs = []
    with undrawn():
        new = _from_config(model, classes)
    _pair(model, new, pairs, set())
    for old, twin in pairs:
        if type(twin) is not classes.get(id(old), type(old)):
            raise ValueError(
                f"{old.name} of {model.name} is not in the model's configuration; build the model of "
                "functional or sequential parts, or of the layers of zoo.layers at once"
            )
    for old, twin in pairs:
        if old.weights and not _is_container(old):
            twin.load_own_variables({str(i): value for i, value in enumerate(values(old, twin))})
    return new


def _is_container(layer):
    return not has_own_variables(layer)


def _from_config(model, classes):
    config = keras.saving.serialize_keras_object(model)
    compiling = config.pop("compile_config", None)
    flat = all_layers(model)
    wanted = {(type(x).__name__, x.name): classes[id(x)] for x in flat if id(x) in classes}
    # Keras knows its own, among which a layer and an operation may have one name, such as Add.
    own = [type(layer) for layer in flat if not type(layer).__module__.startswith("keras.")]
    known = {layer.__name__: layer for layer in own if layer not in SPARSE}
    with keras.saving.custom_object_scope(known):
        # The model is in this process already, so what it consists of is as safe as it was.
        new = keras.saving.deserialize_keras_object(_replaced(config, wanted), safe_mode=False)
        if model.compiled:
            _compile(new, compiling)
    return new


def _compile(model, config):
    try:
        model.compile_from_config(config)
    except (TypeError, ValueError) as error:  # a loss of the user's own that Keras cannot name
        reason = str(error).splitlines()[0]
        warnings.warn(
            f"{model.name} could not be compiled as before ({reason}); compile it again", stacklevel=5
        )


def _replaced(config, wanted):
    """A configuration with other classes for (class name, layer name) wherever they occur."""
    if isinstance(config, (list, tuple)):
        return type(config)(_replaced(value, wanted) for value in config)
    if not isinstance(config, dict):
        return config
    config = {key: _replaced(value, wanted) for key, value in config.items()}
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    new_class = wanted.get((config.get("class_name"), name)) if isinstance(name, str) else None
    if new_class is not None:
        inner = {key: value for key, value in inner.items() if key not in _OWN_ARGUMENTS}
        if issubclass(new_class, sparse.Sparse):
            inner |= {"sparsity": 0.0, "seed": 0}
        registered = keras.saving.get_registered_name(new_class)
        config |= {"module": new_class.__module__, "class_name": new_class.__name__,
                   "registered_name": registered, "config": inner}  # fmt: skip
    return config


def _pair(old, new, pairs, seen):
    """Collect (old layer, new layer), by name where names tell layers apart, else by order."""
    if id(old) in seen:
        return
    seen.add(id(old))
    pairs.append((old, new))
    children, others = child_layers(old), child_layers(new)
    if len(children) != len(others):
        return
    twins = {layer.name: layer for layer in others}
    named = len(twins) == len(others) and set(twins) == {layer.name for layer in children}
    for child, other in zip(children, others):
        _pair(child, twins[child.name] if named else other, pairs, seen)
