"""Trained models joined into one: `ensemble` side by side, `fuse` into a packed network."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from zoo import methods
from zoo.checks import check_dense
from zoo.classifier import EnsembleClassifier
from zoo.composing import build_from_spec, compile_default
from zoo.converting import convert
from zoo.layers import sparse_layers
from zoo.layers.nested_layers import all_layers, copy_weights


def ensemble(
    models: Sequence[keras.Model], name: str = "ensemble", from_logits: bool | None = None
) -> EnsembleClassifier:
    """Join models into one with all their members, side by side, with copied weights.

    Args:
        models: a sequence of `EnsembleClassifier`s of any methods and backbones, or other Keras
            classifiers of images in [0, 255], mixed as you like, of the same input shape and classes.
            `zoo.convert(model, "single", preprocessing=...)` adapts a model with another input range.
        name: str, the Keras name of the result. Default: "ensemble".
        from_logits: bool, whether the other Keras classifiers give logits, not probabilities. Default:
            None, decided by the last activation of each.

    Returns:
        A compiled `EnsembleClassifier`.

    Raises:
        ValueError: for no models, or if input shapes or classes differ, or a model whose layers cannot
            be read.

    Example:
        >>> models = [zoo.build(zoo.methods.Single(), "mlp", input_shape=(8, 8, 1)),
        ...           zoo.build(zoo.methods.Packed(4), "mlp", input_shape=(8, 8, 1))]
        >>> zoo.ensemble(models).num_members
        5
    """
    models = [_classifier(model, from_logits) for model in models]
    models = _checked(models)
    images = keras.Input(models[0].input_shape[1:], name="images")
    logits = []
    for index, model in enumerate(models):
        copy = _copied(model.network, f"member{index + 1}")
        copy_weights(model.network, copy)
        logits.append(copy(images))
    if len(logits) > 1:
        logits = [keras.layers.Concatenate(axis=1, name="members")(logits)]
    network = keras.Model(images, logits[0], name="network")
    model = EnsembleClassifier(
        network,
        models[0].activation,
        class_names=_class_names(models),
        resize=_resize(models),
        name=name,
    )
    return compile_default(model)


def _copied(network, name):
    """A copy of a network without its weights; its layers need not be registered with Keras."""
    # Keras's own are known, and some of its operations have the names of layers.
    own = {
        type(layer).__name__: type(layer)
        for layer in all_layers(network)
        if not type(layer).__module__.startswith("keras.")
    }
    with keras.saving.custom_object_scope(own):
        return keras.Model.from_config({**network.get_config(), "name": name})


def _class_names(models):
    """The class names of the models that have some; they must be the same."""
    named = [model.class_names for model in models if model.class_names]
    if any(names != named[0] for names in named):
        raise ValueError("these models name their classes differently; give them the same class_names")
    return named[0] if named else None


def _resize(models):
    """How the models bring images to their size, which must be the same."""
    ways = {model.resize for model in models}
    if len(ways) > 1:
        raise ValueError(f"these models differ in resize ({', '.join(map(str, ways))}); set one for all")
    return ways.pop()


def _classifier(model: Any, from_logits: bool | None) -> EnsembleClassifier:
    """Any Keras classifier as an `EnsembleClassifier` of one member."""
    if isinstance(model, EnsembleClassifier) or not isinstance(model, keras.Model):
        return model
    return convert(model, "single", from_logits=from_logits)


def fuse(
    models: Sequence[EnsembleClassifier], method: methods.Packed | None = None
) -> EnsembleClassifier:
    """Fuse M trained single networks into one packed network with the same outputs.

    Packed with alpha = M and gamma = 1, it computes M separate networks.

    Args:
        models: a sequence of M >= 1 single models of one architecture, from `zoo.load` or `zoo.build`.
        method: the method of the result: `zoo.methods.Packed(M, alpha=M)`, `DeepEnsemble(M)` or
            `HyperDeep(M)`, three names of one network; for sparse models `Tickets(M)` or
            `SequentialTickets(M)`, with their masks. Default: None, `Packed(M, alpha=M)`.

    Returns:
        A packed `EnsembleClassifier` whose member i is models[i].

    Raises:
        ValueError: for models that are not single networks of one architecture and normalisation,
            or another method.

    Example:
        >>> singles = [zoo.build(zoo.methods.Single(), "mlp", input_shape=(8, 8, 1)) for _ in range(3)]
        >>> fused = zoo.fuse(singles)
        >>> images = np.zeros((2, 8, 8, 1), "uint8")
        >>> members = zoo.predict(fused, images).members
        >>> np.allclose(members[:, 1], zoo.predict(singles[1], images).probabilities, atol=1e-5)
        True
    """
    models = _checked(models)
    specs = [model.spec or {} for model in models]
    if any(spec.get("method") != {"name": "single"} for spec in specs):
        raise ValueError(
            "zoo.fuse takes single models from zoo.load or zoo.build; join others by zoo.ensemble"
        )
    sparse = isinstance(method, methods.Tickets)
    if not sparse:
        check_dense(models, "zoo.fuse")
    elif not all(sparse_layers(model.network) for model in models):
        raise ValueError("tickets are sparse models; make them by zoo.layers.sparsify")
    if any(spec != specs[0] for spec in specs):
        raise ValueError(
            "zoo.fuse takes models of one architecture; join different ones by zoo.ensemble"
        )
    count = len(models)
    method = method or methods.Packed(count, alpha=count, gamma=1)
    fits = isinstance(method, methods.Packed)
    if not fits or (method.num_members, method.alpha, method.gamma) != (count, count, 1):
        raise ValueError(f"method must be packed with num_members = alpha = {count}; got {method}")
    fused = build_from_spec(
        specs[0], method=method, activation=models[0].activation, resize=_resize(models)
    )
    fused.class_names = _class_names(models)
    singles = [{layer.name: layer for layer in model.network.layers} for model in models]
    for layer in fused.network.layers:
        if layer.weights:
            parts = [single[layer.name].get_weights() for single in singles]
            if len(parts[0]) != len(layer.weights):
                raise ValueError(f"{layer.name} is masked in tickets and not in {models[0].name}")
            values = [_pack(weight, given) for weight, given in zip(layer.weights, zip(*parts))]
            if any(value is None for value in values):
                raise ValueError(
                    f"these models differ in {layer.name}, which all members share; join them by zoo.ensemble"
                )
            layer.set_weights(values)
    return fused


def _pack(weight, values):
    """Values of M single layers as the packed layer keeps them: vectors side by side, kernels by group.

    Those of a layer that all members share, such as a whitening, must be equal; None if they are not.
    """
    if tuple(weight.shape) == values[0].shape and len(values) > 1:
        return values[0] if all(np.array_equal(value, values[0]) for value in values) else None
    if values[0].ndim == 1:
        return np.concatenate(values)
    if len(weight.shape) == values[0].ndim:  # depthwise (H, W, C, 1): channels side by side
        return np.concatenate(values, axis=-2)
    if weight.shape[0] == 1 and len(values) > 1:  # the stem: one group, members side by side
        return np.concatenate(values, axis=-1)[None]
    return np.stack(values)


def _checked(models):
    models = list(models)
    if not models:
        raise ValueError("there are no models to join")
    for model in models:
        if not isinstance(model, EnsembleClassifier):
            raise ValueError(
                f"models must be EnsembleClassifiers or Keras classifiers; got {type(model).__name__}"
            )
        if (model.input_shape, model.num_classes) != (models[0].input_shape, models[0].num_classes):
            raise ValueError(
                f"models must agree: {models[0].input_shape[1:]} and {models[0].num_classes} classes, but "
                f"{model.name} has {model.input_shape[1:]} and {model.num_classes}"
            )
    return models
