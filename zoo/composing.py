"""A method and a backbone of a known name, composed into a compiled classifier."""

import numbers
from collections.abc import Sequence
from typing import Any

import keras

from zoo import methods
from zoo.backbones import BACKBONES
from zoo.classifier import EnsembleClassifier
from zoo.files.config_files import MOST_CLASSES, PIXEL_BOUNDS
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy

HEAD = "head"


def compose(
    method: methods.Method | str,
    backbone: str,
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
    """Build what `zoo.build` makes of a backbone's name.

    Args:
        method: an instance of a class of `zoo.methods`, or its name.
        backbone: str, a name of `zoo.backbones.BACKBONES`.
        num_classes: see `zoo.build`, like all that follow. Default: 10.
        input_shape: three ints. Default: None, (32, 32, 3).
        stem: str. Default: None.
        mean: float or C floats. Default: 127.5.
        std: float or C floats. Default: 127.5.
        activation: None or "softmax". Default: None.
        name: str. Default: None.
        resize: None, "crop" or "squash". Default: None.

    Returns:
        A compiled `EnsembleClassifier`.

    Raises:
        ValueError: see `zoo.build`.
    """
    method = methods.instance(method)
    num_classes = check_num_classes(num_classes)
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}; there are {', '.join(BACKBONES)}")
    input_shape = (32, 32, 3) if input_shape is None else input_shape
    given, input_shape = input_shape, whole_numbers(input_shape)
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


def build_from_spec(spec: dict, **options: Any) -> EnsembleClassifier:
    """Build a model from the dictionary that every built model carries as `spec`.

    Args:
        spec: dict, the arguments of `zoo.build`, with the method serialised by `zoo.methods.serialize`.
        options: arguments of `zoo.build` that replace those of the spec.

    Returns:
        A compiled, untrained `EnsembleClassifier`.

    Raises:
        ValueError: see `zoo.build`.
    """
    spec = {**spec, **options}
    method = spec.pop("method")
    return compose(methods.deserialize(method) if isinstance(method, dict) else method, **spec)


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


def check_num_classes(num_classes: int) -> int:
    """Check a number of classes.

    Args:
        num_classes: int from 2 to a million.

    Returns:
        The same, as an int of Python.

    Raises:
        ValueError: for anything else.
    """
    if not (isinstance(num_classes, numbers.Integral) and 2 <= num_classes <= MOST_CLASSES):
        raise ValueError(f"num_classes must be an integer from 2 to {MOST_CLASSES}; got {num_classes!r}")
    return int(num_classes)


def normalization(
    mean: float | Sequence[float], std: float | Sequence[float], channels: int
) -> keras.layers.Rescaling:
    """Make the layer that normalises pixel values.

    Args:
        mean: float or `channels` floats from -1e5 to 1e5, subtracted from pixel values.
        std: float or `channels` floats from 1e-5 to 1e5, which they are then divided by.
        channels: int, C.

    Returns:
        A `keras.layers.Rescaling`.

    Raises:
        ValueError: for numbers out of range, or too many or few of them.
    """
    means, deviations = _per_channel(mean, channels, "mean"), _per_channel(std, channels, "std")
    offset = [-m / s for m, s in zip(means, deviations)]
    return keras.layers.Rescaling([1 / s for s in deviations], offset, name="normalize")


def whole_numbers(sizes: Any) -> tuple[int, ...]:
    """Turn sizes into ints.

    Args:
        sizes: a sequence of numbers, or anything else.

    Returns:
        A tuple of ints; () if one of them is not whole, such as 28.5, NaN or None.
    """
    try:
        whole = tuple(int(size) for size in sizes)
        return whole if all(one == size for one, size in zip(whole, sizes)) else ()
    except (TypeError, ValueError, OverflowError):
        return ()


def _network(method, spec):
    images = keras.Input(tuple(spec["input_shape"]), name="images")
    x = normalization(spec["mean"], spec["std"], spec["input_shape"][-1])(images)
    backbone = BACKBONES[spec["backbone"]]
    if hasattr(backbone, "preprocess"):
        x = backbone.preprocess(x)
    factory = method.layer_factory(backbone.stages)
    x = backbone(factory, factory.expand(x), stem=spec["stem"])
    x = factory.begin_stage("head", x)
    logits = factory.dense(spec["num_classes"], "head", name=HEAD)(x)
    return method.finish(keras.Model(images, factory.members(logits), name="network"))


def _per_channel(value, channels, name):
    values = [float(v) for v in value] if hasattr(value, "__len__") else [float(value)] * channels
    if len(values) != channels:
        raise ValueError(f"{name} has {len(values)} values for {channels} channels")
    least, most = PIXEL_BOUNDS[name]  # those of a config.json that can be read again
    if not all(least <= v <= most for v in values):  # NaN is not
        raise ValueError(f"{name} must be from {least:g} to {most:g}; got {values}")
    return values
