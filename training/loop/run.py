"""One training run: data, model, optimiser, fit with resume, and the record beside the weights."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import keras

from zoo import fast_weights, stored_weights
from zoo.checks import check_batch
from zoo.classifier import EnsembleClassifier
from zoo.errors import WeightsError, one_line
from zoo.files import config_files
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy
from zoo.precision import precision
from zoo.progress_line import ProgressLine
from zoo.training import recipes
from zoo.training.devices.placement import Placement, check
from zoo.training.loop import from_recipe, identity
from zoo.training.loop.dry_run import run_flops
from zoo.training.loop.fit import fit_with_checkpoints
from zoo.training.loop.run_record import write_run
from zoo.training.memory.rematerialize import rematerialize
from zoo.training.recipe_checks import check_limit


def train(
    recipe: recipes.Recipe,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    command: str = "",
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
    tensorboard: bool = False,
    limit: int | None = None,
    placement: Placement | None = None,
    remat: bool = False,
    alone: bool = True,
) -> dict | None:
    """Train by a recipe, resuming where an earlier run into the same folder stopped.

    A finished run is not repeated; its `config.json` is returned.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        data_dir: str or path of the folder of the data sets.
        output_dir: str or path of the folder of this run.
        command: str, the command that `config.json` records. Default: "".
        steps_per_execution: int, `compile`'s argument. Default: 1.
        jit_compile: bool or "auto", `compile`'s argument. Default: "auto".
        tensorboard: bool, whether to write TensorBoard events. Default: False.
        limit: int or None, how many images to train and test on; None for all. Default: None.
        placement: `Placement` from `zoo.training.devices.choose.place`; None trains on one device.
            Default: None.
        remat: bool, whether the backward pass computes blocks again to keep fewer activations. Default:
            False.
        alone: bool, whether to refuse a folder in which another process trains. Default: True.

    Returns:
        The dictionary in `config.json`; None on workers other than the first.

    Raises:
        ValueError: if the recipe cannot be run, or the folder holds a run of another recipe or of other
            data, or another process trains in it.
        NotFiniteError: if training diverges; the last checkpoint is kept.
        OSError: if the folder cannot be written to.
        FileNotFoundError: if the data set is not in `data_dir`.
        Preempted: after SIGTERM, when the state is saved.
        WorkerLost: if another worker is gone.
    """
    check_limit(limit)
    placement = placement or Placement()
    output_dir = pathlib.Path(output_dir)
    folder = output_dir if placement.chief else output_dir / f"worker-{placement.worker}"
    with _writable(folder), identity.alone_in(folder) if alone else contextlib.nullcontext():
        splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
        data = identity.of_splits(splits)
        options = {"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}
        callbacks = [ProgressLine(), *(_tensorboard(folder) if tensorboard else [])]
        try:
            with precision(recipe.precision), placement.active():
                config = _finished(output_dir, recipe, data) if placement.chief else None
                if not placement.any(config is not None):
                    model, seconds = train_model(
                        recipe, splits, classes, folder, callbacks if placement.chief else (), options,
                        placement=placement, remat=remat,
                    )  # fmt: skip
                    if placement.chief:
                        with placement.one_device():
                            config = write_run(
                                model, recipe, splits, output_dir, command, seconds, data=data,
                                flops=_flops(recipe, splits[0], classes), placement=placement.name,
                                replicas=placement.replicas, workers=placement.workers,
                            )  # fmt: skip
                placement.any(False)  # nobody leaves before the files are there
                return config
        except Exception as error:
            if placement.lost(error):
                raise WorkerLost(
                    f"another worker is gone ({type(error).__name__}); start all again "
                    "with the same command"
                ) from None
            raise


@contextlib.contextmanager
def _writable(folder):
    """A run's folder, created; OSError in one line, now or later, if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        yield
    except OSError as error:
        if (
            isinstance(error, FileNotFoundError) or error.errno is None
        ):  # of the data, or one line already
            raise
        raise _unwritable(folder, error) from None


def _unwritable(folder, error):
    return OSError(
        f"cannot write to {folder} ({one_line(error)}); make room there, or choose another --output_dir"
    )


def _finished(folder, recipe, data):
    """The contents of `config.json` of a finished run whose weights are whole; None if there is none."""
    if not (folder / "config.json").is_file():
        return None
    config = config_files.read_config(folder)
    if recipes.recorded(config.get("recipe", {})) != recipes.recorded(dataclasses.asdict(recipe)):
        raise ValueError(f"{folder} holds a finished run of another recipe; choose another --output_dir")
    if "data" not in config:
        raise ValueError(
            f"{folder} holds a finished run that does not say of which data; choose another --output_dir"
        )
    identity.check(folder, config["data"], data)
    try:
        stored_weights.open_folder(folder, config)
    except WeightsError:  # written again, from the last checkpoint
        return None
    return config


def _flops(recipe, training, classes):
    whole = dataclasses.replace(recipe, held_out=0.0)  # they are held out already
    return run_flops(whole, training.image_shape, classes, len(training))


class WorkerLost(Exception):
    """Another worker died or cannot be reached."""


def train_model(
    recipe: recipes.Recipe,
    splits: tuple,
    classes: int,
    folder: pathlib.Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    options: dict | None = None,
    *,
    student_of: Callable | None = None,
    make: Callable | None = None,
    rate: keras.optimizers.schedules.LearningRateSchedule | None = None,
    placement: Placement | None = None,
    remat: bool = False,
) -> tuple[EnsembleClassifier, float]:
    """Train the model of a recipe, from the checkpoint in a folder if there is one.

    Args:
        recipe: `zoo.training.recipes.Recipe`; its seed decides initial weights, order of images and
            augmentation.
        splits: (training, held out, test), from `load_splits`.
        classes: int K, from `load_splits`.
        folder: `pathlib.Path` of the folder of the checkpoint and `log.csv`.
        callbacks: sequence of Keras callbacks; checkpoints include the variables that one lists in
            `variables`. Default: ().
        options: dict or None, further arguments of `compile`. Default: None.
        student_of: None, or a function from the model to the network that is trained in place of
            `model.network`, with the same weights. Default: None.
        make: None, or a function from recipe, input shape and classes to the model; None for `model_of`.
            Default: None.
        rate: Keras `LearningRateSchedule` in place of the recipe's, or None. Default: None.
        placement: `Placement` from `zoo.training.devices.choose.place`; None trains on one device.
            Default: None.
        remat: bool, whether the backward pass computes blocks again to keep fewer activations. Default:
            False.

    Returns:
        (`EnsembleClassifier`, seconds of training, earlier runs included).

    Raises:
        ValueError: if the recipe cannot be run here, or the folder holds a run of another recipe.
        Preempted: after SIGTERM, when the state is saved.
    """
    placement, options = placement or Placement(), options or {}
    steps = len(splits[0]) // recipe.batch_size
    check(placement, recipe, steps=steps, **options)
    rate = rate or from_recipe.learning_rate(recipe, steps)
    full = splits[0].image_shape
    make = make or from_recipe.model_of
    with placement.scope():
        _check_sizes(recipe, full, classes, make)
    for size, last_epoch in recipes.size_stages(recipe):
        from_recipe.set_seed(recipe.seed)
        with placement.scope():
            model = make(recipe, _input_shape(size, full), classes)
            if not recipe.weights:
                from_recipe.adapt(model.network, splits[0])
            check_batch(model.spec, recipe.batch_size // placement.replicas)
            network = student_of(model) if student_of else model.network
            student = from_recipe.augmented(
                model, rematerialize(network) if remat else network, recipe, full
            )
            loss = CrossEntropy(recipe.label_smoothing)
            optimizer = from_recipe.optimizer(recipe, model, rate)
            student.compile(optimizer, loss, metrics=[Accuracy()], **options)
            fast_weights.apply_multipliers(
                student.optimizer, student, from_recipe.bias_factors(recipe, model)
            )
        seconds = fit_with_checkpoints(
            model, student, recipe, splits, folder, callbacks, placement, remat, last_epoch
        )
    return model, seconds


def _input_shape(size, full):
    return full if size is None else (size, size, full[-1])


def _check_sizes(recipe, full, classes, make):
    """ValueError if the network has other weights at a size of `image_sizes` than at full size."""
    if not recipe.image_sizes:
        return
    shapes = set()
    for size, _ in recipes.size_stages(recipe):
        model = make(recipe, _input_shape(size, full), classes)
        shapes.add(tuple(tuple(weight.shape) for weight in model.network.weights))
    if len(shapes) > 1:
        raise ValueError(
            f"image_sizes={recipe.image_sizes!r} changes the shapes of the weights of {recipe.backbone}; "
            'take a backbone for images of any size, or image_sizes=""'
        )


def _tensorboard(folder):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return []
    if keras.backend.backend() != "tensorflow":  # Keras's callback writes through TensorFlow
        return []
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
