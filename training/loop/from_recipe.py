"""What a recipe stands for: splits, model, augmentation, learning rate and optimiser."""

import dataclasses
import os
import random
from typing import Any

import keras
import numpy as np

from zoo import layers, methods
from zoo.building import build
from zoo.checks import check_images, check_labels, check_lengths
from zoo.classifier import EnsembleClassifier
from zoo.converting import convert
from zoo.data import arrays
from zoo.files.config_files import MOST_CLASSES, MOST_MEMBERS
from zoo.files.json_files import is_number
from zoo.loading import load
from zoo.registry import method_arguments
from zoo.training import recipes
from zoo.training.loop.augmentation import RandomCutout, RandomShiftFlip
from zoo.training.loop.learning_rates import WarmUpCosine, WarmUpLinear, WarmUpSteps


def set_seed(seed: int) -> None:
    """Seed all random generators.

    Args:
        seed: int.
    """
    if keras.backend.backend() == "jax":  # Keras's function imports TensorFlow wherever it is installed
        random.seed(seed)
        np.random.seed(seed)
    else:
        keras.utils.set_random_seed(seed)


def model_of(recipe: recipes.Recipe, input_shape: tuple, num_classes: int) -> EnsembleClassifier:
    """Build the untrained model of a recipe.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        input_shape: (H, W, C), the shape of an image.
        num_classes: int K.

    Returns:
        `zoo.classifier.EnsembleClassifier`.

    Raises:
        ValueError: if the method or the backbone is unknown, or the method does not take an argument, or
            not one as large.
    """
    method = methods.METHODS.get(recipe.method)
    if method is None:
        raise ValueError(f"unknown method {recipe.method!r}; there are {', '.join(methods.METHODS)}")
    arguments = {
        name: value
        for name, value in dataclasses.asdict(recipe).items()
        if name in methods.arguments(method) and (name, value) != ("num_members", 0)
    }
    arguments |= method_arguments(recipe.arguments)
    unknown = sorted(set(arguments) - set(methods.arguments(method)))
    if unknown:
        raise ValueError(f"{recipe.method} takes no argument {', '.join(unknown)}")
    for name, value in arguments.items():
        if is_number(value) and name != "seed" and value > MOST_MEMBERS:
            raise ValueError(f"{name} must be at most {MOST_MEMBERS:,}; got {value!r}")
    if recipe.weights:
        return _started(recipe, method(**arguments), input_shape, num_classes)
    mean, std = arrays.STATISTICS.get(recipe.dataset, (127.5, 127.5))
    stem = recipe.stem or None
    return build(
        method(**arguments), recipe.backbone, num_classes, input_shape, stem=stem, mean=mean, std=std
    )


def _started(recipe, method, input_shape, num_classes):
    """The model of a recipe with the weights of a single network, converted to its method."""
    stem = recipe.stem or None
    single = load(f"single_{recipe.backbone}", recipe.weights, num_classes, input_shape, stem=stem)
    model = single if recipe.method == "single" else convert(single, method, seed=recipe.seed)
    if model.spec is None:
        raise ValueError(
            f"{recipe.method} cannot start from weights={recipe.weights!r}, as its members share no kernels; "
            "take batch_ensemble, mc_dropout, masksembles or hyper_batch"
        )
    return model


def load_splits(
    recipe: recipes.Recipe, data_dir: str | os.PathLike, limit: int | None = None
) -> tuple[tuple, int]:
    """Load the data of a recipe.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        data_dir: str or path of the folder of the data sets.
        limit: int or None, how many images of the training and test data to take; None for all. Default:
            None.

    Returns:
        ((training, held out, test), number of classes).

    Raises:
        ValueError: for data that cannot be learnt, fewer training images than a batch has, or a recipe
            that does not fit the data, or streams and holds out.
        FileNotFoundError: if the data set is not in `data_dir`.
    """
    if recipe.stream:
        return _streams(recipe, data_dir, limit)
    if recipe.image_size:
        raise ValueError(
            f"image_size={recipe.image_size} is for images that are streamed; set stream=True, or "
            "image_size=0"
        )
    training = arrays.load(recipe.dataset, "train", data_dir)
    test = arrays.load(recipe.dataset, "test", data_dir)
    classes = training.num_classes
    if classes > MOST_CLASSES:
        raise ValueError(
            f"the labels of {recipe.dataset} go to {classes - 1}, and there are at most {MOST_CLASSES:,} "
            "classes; correct the labels"
        )
    for name, split in (("training", training), ("test", test)):
        _check_split(f"the {name} data of {recipe.dataset}", split, training.image_shape, classes)
    if limit is not None:
        training, test = training.subset(slice(limit)), test.subset(slice(limit))
    training, held_out = arrays.hold_out(training, recipe.held_out, seed=0)
    _check_fit(recipe, training)
    return (training, held_out, test), classes


def _check_fit(recipe, training):
    """ValueError for a recipe that trains nothing on these images, or moves them out of sight."""
    if len(training) < recipe.batch_size:
        raise ValueError(
            f"batch_size={recipe.batch_size} is more than the {len(training)} training images"
        )
    steps = len(training) // recipe.batch_size * recipe.epochs
    if recipe.accumulate > steps:
        raise ValueError(
            f"accumulate={recipe.accumulate} makes no update in {steps} steps; take at most {steps}"
        )
    side = min(training.image_shape[:2])
    if recipe.shift >= side and not recipe.image_size:  # crops are not shifted
        raise ValueError(f"shift={recipe.shift} must be less than the side of the images, {side} pixels")


def _check_split(name, split, shape, classes):
    """ValueError for data that no classifier of these shapes can learn or be measured by."""
    try:
        check_lengths(split.images, split.labels)
        check_images(split.images, shape, scaled=False)
        check_labels(split.labels, classes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _streams(recipe, data_dir, limit):
    """`load_splits` of a recipe that streams; TFDS knows ImageNet's test images as "validation"."""
    from zoo.data.streamed_split import StreamedSplit  # which needs TensorFlow, whatever the backend

    if recipe.held_out:
        raise ValueError("a recipe that streams cannot hold out images; set held_out=0")
    of_images = f"[:{limit}]" if limit else ""
    test = "validation" if recipe.dataset == "imagenet2012" else "test"
    training, test = (
        StreamedSplit(recipe.dataset, f"{split}{of_images}", data_dir, recipe.image_size)
        for split in ("train", test)
    )
    _check_fit(recipe, training)
    nothing = arrays.Split(np.zeros((0, *training.image_shape), "uint8"), np.zeros(0, "int32"))
    return (training, nothing, test), training.num_classes


def augmented(
    model: EnsembleClassifier, network: keras.Model, recipe: recipes.Recipe, image_shape: tuple
) -> EnsembleClassifier:
    """Put a recipe's augmentation before a network.

    Args:
        model: `zoo.classifier.EnsembleClassifier`, for its input size and loss.
        network: `keras.Model` to train, which shares the weights of `model`.
        recipe: `zoo.training.recipes.Recipe`.
        image_shape: (H, W, C), the shape of the images in the data, which are resized to the model's
            input.

    Returns:
        `EnsembleClassifier` to train in place of `model`.
    """
    shift, flip = (0, False) if recipe.image_size else (recipe.shift, recipe.flip)  # crops are random
    flip = flip and not recipe.alternate_flips  # the batches are mirrored already
    images = x = keras.Input(image_shape, name="images")
    x = RandomShiftFlip(shift, flip, seed=recipe.seed, padding=recipe.padding, name="augmentation")(x)
    if recipe.cutout:
        x = RandomCutout(recipe.cutout, seed=recipe.seed + 1, name="cutout")(x)
    height, width = model.input_shape[1:3]
    if (height, width) != image_shape[:2]:
        x = keras.layers.Resizing(height, width, antialias=True, name="resize")(x)
    return EnsembleClassifier(keras.Model(images, network(x)), member_loss=model.member_loss)


def learning_rate(
    recipe: recipes.Recipe, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning-rate schedule of a recipe.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        steps_per_epoch: int, batches in an epoch.

    Returns:
        Keras `LearningRateSchedule`.

    Raises:
        ValueError: if the schedule is unknown.
    """
    steps = steps_per_epoch * recipe.epochs
    warm_up = round(recipe.warm_up * steps)
    if recipe.schedule in ("cosine", "linear"):
        schedule = WarmUpCosine if recipe.schedule == "cosine" else WarmUpLinear
        return schedule(recipe.learning_rate, steps, warm_up)
    if recipe.schedule == "step":
        milestones = [round(share * steps) for share in recipe.milestones]
        return WarmUpSteps(recipe.learning_rate, milestones, recipe.factor, warm_up)
    raise ValueError(f'schedule must be "cosine", "linear" or "step"; got {recipe.schedule!r}')


def optimizer(
    recipe: recipes.Recipe,
    model: EnsembleClassifier,
    rate: keras.optimizers.schedules.LearningRateSchedule | float,
) -> keras.optimizers.Optimizer:
    """Return the optimiser of a recipe: SGD with Nesterov momentum, and weight decay on kernels alone.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        model: `zoo.classifier.EnsembleClassifier` whose network is trained.
        rate: Keras `LearningRateSchedule` or float.

    Returns:
        `keras.optimizers.SGD`.
    """
    kernels = {
        id(layer.kernel)
        for layer in model.network.layers
        if getattr(layer, "kernel", None) is not None
        and getattr(layer, "l2_index", None) is None  # others have their L2 in the loss
    }
    # Keras decays weights beside the momentum; the factor gives L2's decay in the long run.
    decay = recipe.weight_decay / (1 - recipe.momentum) if kernels else 0
    optimizer = keras.optimizers.SGD(
        rate, recipe.momentum, nesterov=True, weight_decay=decay or None,
        global_clipnorm=recipe.clip_norm or None,
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
        use_ema=recipe.ema > 0, ema_momentum=recipe.ema or 0.99,
    )  # fmt: skip
    # At the end of every `fit`, even of a part of an epoch, Keras would put averages in the weights' place.
    optimizer.finalize_variable_values = lambda variables: None
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if id(v) not in kernels])
    return optimizer


def bias_factors(recipe: recipes.Recipe, model: EnsembleClassifier) -> list[tuple]:
    """List the learning-rate factors of the offsets of normalisations.

    Args:
        recipe: `zoo.training.recipes.Recipe`, whose `bias_factor` is used.
        model: `zoo.classifier.EnsembleClassifier`.

    Returns:
        List of (variable, factor); empty if the factor is 1.
    """
    if recipe.bias_factor == 1:
        return []
    norms = (keras.layers.BatchNormalization, layers.PerMemberBatchNormalization)
    return [
        (layer.beta, recipe.bias_factor)
        for layer in model.network.layers
        if isinstance(layer, norms) and layer.center
    ]


def adapt(network: keras.Model, split: Any) -> None:
    """Adapt layers such as `PatchWhitening` to the first 5,000 training images.

    Args:
        network: functional `keras.Model`.
        split: training split from `load_splits`.
    """
    for layer in network.layers:
        if hasattr(layer, "adapt"):
            images, _ = next(iter(split.batches(5000)))
            height, width = network.input_shape[1:3]
            if images.shape[1:3] != (height, width):
                images = keras.ops.image.resize(images, (height, width), antialias=True)
            before = keras.Model(network.input, layer.input)
            layer.adapt(before.predict(images, batch_size=250, verbose=0))
