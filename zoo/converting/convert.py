"""`zoo.convert`: which way a model is converted, and what is refused before anything is built."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras

from zoo import methods
from zoo.checks import check_dense
from zoo.classifier import EnsembleClassifier
from zoo.composing import compile_default
from zoo.converting import cut, dropouts, graphs, heads, zoo_models
from zoo.converting.asked import HookBuilder
from zoo.converting.copies import Copies
from zoo.converting.narrow import Narrow
from zoo.converting.preprocessing import checked_preprocessing, preprocess
from zoo.converting.rows import Rows
from zoo.layers import sparsify
from zoo.layers.sparse.layers import sparse_layers
from zoo.methods.tiled import Tiled

_SHARING = (Tiled, methods.HyperBatch)
_HOOKS = ("conv", "depthwise_conv", "dense", "norm", "per_member", "expand", "members", "layer_factory")


def convert(
    model: keras.Model,
    method: methods.Method | str,
    spread: float = 0.05,
    seed: int = 0,
    *,
    tile_at: str | float | None = None,
    preprocessing: str | keras.Layer | Callable | None = None,
    num_classes: int | None = None,
    from_logits: bool | None = None,
    activation: str | None = None,
    name: str | None = None,
) -> EnsembleClassifier:
    """Start an ensemble from one trained classifier: this zoo's, `keras.applications`' or your own.

    The layers of a functional or sequential model are replaced one by one by the method's. Kernels,
    biases and normalisations are kept; where each member has its own, they become M copies. With
    `spread=0`, MC dropout's rate 0 and Masksembles' scale 1 every member answers as the original does,
    but then members of BatchEnsemble and of deep ensembles without new heads stay equal in training.

    BatchEnsemble, MC dropout and Masksembles change Dense, Conv2D and DepthwiseConv2D layers; all other
    layers are shared. `MCDropout(rate=None)` changes the model's own dropout layers instead. Layers
    before `tile_at` are computed once for all members.

    Packed-Ensembles with alpha != M or gamma > 1, MIMO and methods of your own start from new weights in
    layers whose shapes they change. A warning names some; the result's `new_weights` lists them all.

    Args:
        model: a functional or sequential `keras.Model` from images (B, H, W, C) to logits or softmax
            probabilities (B, K), or with `num_classes` to features (B, C); or a single
            `EnsembleClassifier`.
        method: a method of `zoo.methods`, or its name for the default arguments. `BatchEnsemble`,
            `MCDropout`, `Masksembles`, `HyperBatch`, `DeepEnsemble`, `Packed` with alpha = num_members
            and gamma = 1, `Tickets` and `Single` keep all weights.
        spread: float >= 0, the standard deviation around one of BatchEnsemble's factors, and of the
            factors by which the kernels of a deep ensemble's members are multiplied. Default: 0.05.
        seed: int, the seed of that draw. Default: 0.
        tile_at: where the part that members share ends: the name of a layer, "head", or a float in
            [0, 1], the share of the multiply-accumulates that is computed once, such as 0.8. Default:
            None, that of the method, or the input.
        preprocessing: how pixel values in [0, 255] become the model's input, inside the network: None,
            "tf", "torch" or "caffe" as in `keras.applications`, a `preprocess_input` function or another
            that scales and shifts channels, or a Keras layer. Default: None.
        num_classes: int >= 2, for a new head of so many classes. Default: None, the model's own head.
        from_logits: bool, whether the model gives logits. Default: None, decided by its last activation:
            a softmax gives probabilities, anything else logits.
        activation: None or "softmax", see `EnsembleClassifier`. Default: None, that of a given
            `EnsembleClassifier`.
        name: str, the Keras name of the result. Default: None, `<method>_<model>`.

    Returns:
        A compiled `EnsembleClassifier`, to be fine-tuned with `fit`. It has a `spec` if `zoo.build`
        could make it. Its attribute `new_weights` lists the names of the layers that start from new
        weights.

    Raises:
        ValueError: for a model that is not a graph of layers, a layer that the method cannot take, or an
            argument out of range.

    Example:
        >>> user = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
        ...                          keras.layers.Dense(3, activation="softmax")])
        >>> model = zoo.convert(user, "batch_ensemble", spread=0)
        >>> images = np.ones((1, 8, 8, 1), "uint8") * 100
        >>> expected = user.predict(images, verbose=0)
        >>> np.allclose(zoo.predict(model, images).probabilities, expected, atol=1e-5)
        True
    """
    method = methods.instance(method)
    if not spread >= 0:
        raise ValueError(f"spread must be >= 0; got {spread!r}")
    kept: dict[str, Any] = {}
    if isinstance(model, EnsembleClassifier):
        single, model = model, _network_of_single(model)
        kept = {"resize": single.resize}
        if num_classes in (None, single.num_classes):
            kept["class_names"] = single.class_names
        activation = activation or single.activation
        plain = tile_at is preprocessing is num_classes is None and single.spec
        if plain and isinstance(method, _SHARING):
            rebuilt = zoo_models.rebuilt(single, method, spread, seed, activation=activation, name=name)
            rebuilt.new_weights = []
            return rebuilt
    graph = heads.with_logits(_graph(model), num_classes, from_logits)
    into = checked_preprocessing(preprocessing, graph.images.shape[-1])
    builder = _builder(graph, method, tile_at)
    network = builder.build(functools.partial(preprocess, into), spread, seed)
    if isinstance(method, methods.Tickets):
        network = sparsify(network, method.sparsity, criterion="magnitude", seed=seed)
    if builder.new_weights and isinstance(builder, (Narrow, HookBuilder)):
        warnings.warn(_new_weights(method, builder.new_weights), stacklevel=2)
    name = name or f"{method.name}_{model.name}"
    converted = EnsembleClassifier(network, activation, method.member_loss, name=name, **kept)
    converted.new_weights = builder.new_weights
    return compile_default(converted)


def _new_weights(method, names):
    shown = ", ".join([*names[:4], "..."] if len(names) > 5 else names)
    return (
        f"{method.name} starts {len(names)} layers from new weights, because their shapes differ: {shown} "
        "(the model's new_weights has all); train it longer than a model that keeps its weights"
    )


def _network_of_single(model):
    """The network of a single EnsembleClassifier, giving logits (B, K)."""
    ends = [layer for layer in model.network.layers if layer.name == "members"]
    single = (model.spec or {}).get("method", {}).get("name") == "single" or model.spec is None
    if not (single and model.num_members == 1 and ends):
        raise ValueError(
            "zoo.convert takes a single model from zoo.load, zoo.build or zoo.convert, or any Keras classifier"
        )
    check_dense([model], "zoo.convert")
    name = model.spec["backbone"] if model.spec else model.name.removeprefix("single_")
    return keras.Model(model.network.input, ends[0].input, name=name)


def _graph(model):
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"zoo.convert takes a single model from zoo.load or a Keras classifier; got {model!r}"
        )
    if not graphs.is_graph(model):
        raise ValueError(
            f"{model.name} ({type(model).__name__}) is not a built functional or sequential model, so its layers "
            "cannot be read; build it of keras.Input and layers"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"{model.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; take one of each"
        )
    shape = model.inputs[0].shape
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            f"{model.name} takes {shape}, not images (B, H, W, C) of one size; build it with such an input_shape"
        )
    if sparse_layers(model):
        raise ValueError("zoo.convert would lose a sparse model's masks; pass zoo.layers.densify(model)")
    return graphs.graph_of(model)


def _builder(graph, method, tile_at):
    """What builds the network, after all checks."""
    if not isinstance(method, _SHARING) and not _makes_copies(method):
        if tile_at is not None:
            raise ValueError(
                f"the members of {method.name} are separate from the first layer on; leave tile_at out"
            )
        return HookBuilder(graph, method)
    start = _start(graph, method, tile_at)
    if isinstance(method, _SHARING):
        return Rows(graph, method, start)
    whole = isinstance(method, methods.Single) or (method.alpha, method.gamma) == (method.num_members, 1)
    return Copies(graph, method.num_members, start) if whole else Narrow(graph, method, start)


def _start(graph, method, tile_at):
    """The index of the first step that members need not share."""
    own = dropouts.draws_own(method)
    if tile_at is None:
        stage = method.tile_at if isinstance(method, Tiled) else 0
        if stage not in (0, 1, "head"):
            raise ValueError(
                f"tile_at={stage} is a stage of this zoo's backbones; pass zoo.convert's tile_at, a layer's "
                "name or a share of the MACs"
            )
        if stage == 1 and not own:
            return _after_stem(graph)
        tile_at = None if own and stage == 1 else stage
    if not own:
        return cut.position(graph, tile_at)
    start = dropouts.start(graph, tile_at)
    dropouts.check(graph, start)
    return start


def _makes_copies(method):
    """Whether members are networks side by side, by `Packed`'s own hooks or those of a single network."""
    base = methods.Packed if isinstance(method, methods.Packed) else methods.Single
    return isinstance(method, base) and all(
        getattr(type(method), hook) is getattr(base, hook) for hook in _HOOKS
    )


def _after_stem(graph):
    """The index of the first step with a kernel that does not read the images."""
    found = graphs.roles(graph)
    later = (i for i, step in enumerate(graph.steps) if found.get(step, "stem") != "stem")
    return next(later, 0)
