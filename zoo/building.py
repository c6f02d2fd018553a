"""`zoo.build`: a method and a backbone, composed into a compiled classifier."""

from collections.abc import Callable, Sequence

import keras

from zoo import methods
from zoo.classifier import EnsembleClassifier
from zoo.composing import check_num_classes, compose, normalization, whole_numbers
from zoo.converting.convert import convert
from zoo.data.resizing import check_resize
from zoo.registry import register_backbone


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
    num_classes = check_num_classes(num_classes)
    if isinstance(backbone, keras.Model):
        options = {"activation": activation, "name": name, "resize": resize}
        return _build_from_model(method, backbone, num_classes, input_shape, stem, mean, std, options)
    if callable(backbone):
        backbone = register_backbone(backbone.__name__, backbone).__name__
    return compose(
        method, backbone, num_classes, input_shape,
        stem=stem, mean=mean, std=std, activation=activation, name=name, resize=resize,
    )  # fmt: skip


def _build_from_model(method, backbone, num_classes, input_shape, stem, mean, std, options):
    if isinstance(backbone, EnsembleClassifier):
        raise ValueError(
            f"backbone must be a name, a function or a Keras network; for {backbone.name}, a classifier of "
            "this zoo, use zoo.convert"
        )
    if stem is not None:
        raise ValueError(f"stem is for this zoo's backbones; got {stem!r} for the model {backbone.name}")
    inputs = getattr(backbone, "inputs", None) if backbone.built else None
    own = tuple(inputs[0].shape[1:]) if inputs else (1,)  # without inputs `convert` refuses the model
    if inputs and input_shape is not None and whole_numbers(input_shape) != own:
        raise ValueError(f"input_shape={input_shape} is not that of {backbone.name}, {own}")
    normalize = normalization(mean, std, own[-1])
    resize = check_resize(options.pop("resize"))
    model = convert(backbone, method, preprocessing=normalize, num_classes=num_classes, **options)
    model.resize = resize
    return model
