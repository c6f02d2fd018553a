"""`zoo.build`: a method and a backbone, composed into a compiled classifier."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras

from zoo import methods
from zoo.backbones import BACKBONES
from zoo.classifier import EnsembleClassifier
from zoo.data.resizing import check_resize
from zoo.files.config_files import MOST_CLASSES, PIXEL_BOUNDS
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy
from zoo.registry import register_backbone

HEAD = "head"


def build(
    method: methods.Method | str,
    backbone: str | Callable | keras.Model,
    num_classes: int = 10,
    input_shape: Sequence[int] | None = None,
    *,
    stem: str | None = None,
    mean: float | Sequence[float] = 127.5,
    std: float | Sequence[float] = 127.5,
    activation: str | None = None,
    name: str | None = None,
    resize: str | None = None,
) -> EnsembleClassifier:
    """Build an ensemble classifier from a method and a backbone, with new weights.

    A Keras model as the backbone keeps its weights where their shapes allow it, as `zoo.convert` says.

    Args:
        method: an instance of a class of `zoo.methods`, such as `zoo.methods.Packed(4, alpha=2,
            gamma=1)`; or its name for the default arguments, such as "packed".
        backbone: str, a name of `zoo.backbones.BACKBONES`, such as "lenet" or "resnet20"; or a function
            of (method, images, stem), which is registered under its own name (`zoo.register_backbone`);
            or a functional or sequential `keras.Model` that takes images; it ends in features, or in a
            head, which is replaced by a new one.
        num_classes: int from 2 to a million, K. Default: 10.
        input_shape: three ints >= 1, (H, W, C) of the images, whose values run from 0 to 255.
            Default: None, those of a Keras model, otherwise (32, 32, 3).
        stem: str, for this zoo's residual networks only: "cifar" (3x3) or "imagenet" (7x7, stride 2,
            pooled). Default: None, "imagenet" if both sides of the image have at least 112 pixels, else
            "cifar".
        mean: float or C floats from -1e5 to 1e5, subtracted from pixel values inside the model.
            Default: 127.5.
        std: float or C floats from 1e-5 to 1e5, which pixel values are then divided by. Default: 127.5.
            A Keras model that scales the images itself needs mean 0 and std 1.
        activation: None, or "softmax" to answer with probabilities (see `EnsembleClassifier`).
            Default: None.
        name: str, the Keras name of the model. Default: None, `<method>_<backbone>`.
        resize: None, "crop" or "squash", how images of another size are resized (see
            `EnsembleClassifier`). Default: None, they are refused.

    Returns:
        A compiled `EnsembleClassifier` (Adam, cross-entropy for integer, one-hot or soft labels, and
        accuracy).

    Raises:
        ValueError: for an unknown method, backbone or stem, an image size that is too small for the
            backbone or is not the Keras model's, a layer of it that the method cannot take, or numbers
            out of range.

    Example:
        >>> model = zoo.build(zoo.methods.Packed(4), "mlp", num_classes=3, input_shape=(8, 8, 1))
        >>> model.name, model.num_members
        ('packed_mlp', 4)
        >>> model.predict(np.zeros((2, 8, 8, 1)), verbose=0).shape
        (2, 3)

        A network of your own:

        >>> user = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
        >>> zoo.build(zoo.methods.MCDropout(4), user, num_classes=3).num_classes
        3
    """
    method = methods.instance(method)
    if not (isinstance(num_classes, numbers.Integral) and 2 <= num_classes <= MOST_CLASSES):
        raise ValueError(f"num_classes must be an integer from 2 to {MOST_CLASSES}; got {num_classes!r}")
    num_classes = int(num_classes)
    if isinstance(backbone, keras.Model):
        options = {"activation": activation, "name": name, "resize": resize}
        return _build_from_model(method, backbone, num_classes, input_shape, stem, mean, std, options)
    if callable(backbone):
        backbone = register_backbone(backbone.__name__, backbone).__name__
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}; there are {', '.join(BACKBONES)}")
    input_shape = (32, 32, 3) if input_shape is None else input_shape
    given, input_shape = input_shape, _whole_numbers(input_shape)
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (height, width, channels), whole numbers; got {given}")
    if stem is None:
        stem = "imagenet" if min(input_shape[:2]) >= 112 else "cifar"
    if stem not in ("cifar", "imagenet"):
        raise ValueError(f'stem must be "cifar", "imagenet" or None; got {stem!r}')
    spec = {
        "method": methods.serialize(method),
        "backbone": backbone,
        "num_classes": num_classes,
        "input_shape": list(input_shape),
        "stem": stem,
        "mean": _per_channel(mean, input_shape[-1], "mean"),
        "std": _per_channel(std, input_shape[-1], "std"),
    }
    try:
        network = _network(method, spec)
    except ValueError as error:
        if "output size" not in str(error):
            raise
        raise ValueError(f"input_shape={input_shape} is too small for {backbone}") from None
    name = name or f"{method.name}_{backbone}"
    model = EnsembleClassifier(network, activation, method.member_loss, spec, name=name, resize=resize)
    return compile_default(model)


def _build_from_model(method, backbone, num_classes, input_shape, stem, mean, std, options):
    from zoo.converting.convert import convert  # which builds on this module

    if isinstance(backbone, EnsembleClassifier):
        raise ValueError(
            f"backbone must be a name, a function or a Keras network; for {backbone.name}, a classifier of "
            "this zoo, use zoo.convert"
        )
    if stem is not None:
        raise ValueError(f"stem is for this zoo's backbones; got {stem!r} for the model {backbone.name}")
    inputs = getattr(backbone, "inputs", None) if backbone.built else None
    own = tuple(inputs[0].shape[1:]) if inputs else (1,)  # without inputs `convert` refuses the model
    if inputs and input_shape is not None and _whole_numbers(input_shape) != own:
        raise ValueError(f"input_shape={input_shape} is not that of {backbone.name}, {own}")
    normalize = _normalize(_per_channel(mean, own[-1], "mean"), _per_channel(std, own[-1], "std"))
    resize = check_resize(options.pop("resize"))
    model = convert(backbone, method, preprocessing=normalize, num_classes=num_classes, **options)
    model.resize = resize
    return model


def build_from_spec(spec: dict, **options: Any) -> EnsembleClassifier:
    """Build a model from the dictionary that every built model carries as `spec`.

    Args:
        spec: dict, the arguments of `build`, with the method serialised by `zoo.methods.serialize`.
        options: arguments of `build` that replace those of the spec.

    Returns:
        A compiled, untrained `EnsembleClassifier`.

    Raises:
        ValueError: see `build`.
    """
    spec = {**spec, **options}
    method = spec.pop("method")
    return build(methods.deserialize(method) if isinstance(method, dict) else method, **spec)


def compile_default(model: EnsembleClassifier, learning_rate: float = 1e-3) -> EnsembleClassifier:
    """Compile a classifier for fine-tuning, as pretrained models are.

    Args:
        model: an `EnsembleClassifier`.
        learning_rate: float > 0, the learning rate of Adam. Default: 1e-3.

    Returns:
        The same model.
    """
    from_probabilities = model.activation == "softmax"
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=CrossEntropy(from_probabilities=from_probabilities),
        metrics=[Accuracy()],
    )
    return model


def _normalize(mean, std):
    offset = [-m / s for m, s in zip(mean, std)]
    return keras.layers.Rescaling([1 / s for s in std], offset, name="normalize")


def _network(method, spec):
    images = keras.Input(tuple(spec["input_shape"]), name="images")
    x = _normalize(spec["mean"], spec["std"])(images)
    backbone = BACKBONES[spec["backbone"]]
    if hasattr(backbone, "preprocess"):
        x = backbone.preprocess(x)
    factory = method.layer_factory(backbone.stages)
    x = backbone(factory, factory.expand(x), stem=spec["stem"])
    x = factory.begin_stage("head", x)
    logits = factory.dense(spec["num_classes"], "head", name=HEAD)(x)
    return method.finish(keras.Model(images, factory.members(logits), name="network"))


def _whole_numbers(sizes):
    """Sizes as ints; none of them for what is not whole, such as 28.5, NaN or None."""
    try:
        whole = tuple(int(size) for size in sizes)
        return whole if all(one == size for one, size in zip(whole, sizes)) else ()
    except (TypeError, ValueError, OverflowError):
        return ()


def _per_channel(value, channels, name):
    values = [float(v) for v in value] if hasattr(value, "__len__") else [float(value)] * channels
    if len(values) != channels:
        raise ValueError(f"{name} has {len(values)} values for {channels} channels")
    least, most = PIXEL_BOUNDS[name]  # those of a config.json that can be read again
    if not all(least <= v <= most for v in values):  # NaN is not
        raise ValueError(f"{name} must be from {least:g} to {most:g}; got {values}")
    return values
