"""One training run: data, model, optimiser, fit with resume, and what is left beside the weights."""

import dataclasses
import pathlib

import keras

from zoo import fast_weights
from zoo.checks import check_batch
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy
from zoo.training import recipes
from zoo.training.devices.placement import Placement, check
from zoo.training.loop import from_recipe
from zoo.training.loop.fit import fit
from zoo.training.loop.progress import ProgressLine
from zoo.training.loop.run_record import write_run
from zoo.training.memory.rematerialize import rematerialize


def train(recipe, data_dir, output_dir, *, command="", steps_per_execution=1, jit_compile="auto",
          tensorboard=False, limit=None, placement=None, remat=False):  # fmt: skip
    """Train by a recipe, going on where an earlier run into the same folder stopped.

    Args:
        recipe: a `Recipe`.
        data_dir, output_dir: folders of the data sets and of this run.
        command: what `config.json` names.
        steps_per_execution, jit_compile: as `compile` takes them.
        tensorboard: whether to write its events.
        limit: train and test on so many images only.
        placement: from `zoo.training.devices.choose.place`; None trains on one device.
        remat: whether blocks are computed again in the backward pass, to keep fewer activations.

    Returns:
        The dictionary written to `config.json`; None on workers other than the first.

    Raises:
        ValueError: for a recipe that cannot be run, or a folder that holds a run of another one.
        FileNotFoundError: where the data set is not in `data_dir`.
        Preempted: after SIGTERM, when the state is saved.
        WorkerLost: where another worker is gone.
    """
    placement = placement or Placement()
    output_dir = pathlib.Path(output_dir)
    folder = output_dir if placement.chief else output_dir / f"worker-{placement.worker}"
    folder.mkdir(parents=True, exist_ok=True)
    splits, classes = from_recipe.load_splits(recipe, data_dir, limit)
    options = {"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}
    callbacks = [ProgressLine(), *(_tensorboard(folder) if tensorboard else [])]
    try:
        with from_recipe.precision(recipe.precision), placement.active():
            model, seconds = train_model(
                recipe, splits, classes, folder, callbacks if placement.chief else (), options,
                placement=placement, remat=remat,
            )  # fmt: skip
            config = None
            if placement.chief:
                with placement.one_device():
                    config = write_run(
                        model, recipe, splits, output_dir, command, seconds, placement=placement.name,
                        flops=_flops(recipe, splits[0], classes), replicas=placement.replicas, workers=placement.workers,
                    )  # fmt: skip
            placement.any(False)  # nobody leaves before the files are there
            return config
    except Exception as error:
        if placement.lost(error):
            raise WorkerLost(
                f"another worker is gone ({type(error).__name__}); start all again by the same command"
            ) from None
        raise


def _flops(recipe, training, classes):
    from zoo.training.cost.dry_run import run_flops  # which imports this module

    whole = dataclasses.replace(recipe, held_out=0.0)  # they are held out already
    return run_flops(whole, training.image_shape, classes, len(training))


class WorkerLost(Exception):
    """Another worker died or cannot be reached."""


def train_model(recipe, splits, classes, folder, callbacks=(), options=None, *, student_of=None,
                make=None, rate=None, placement=None, remat=False):  # fmt: skip
    """The model of a recipe, trained on (training, held out, test) from the folder's checkpoint on.

    Args:
        recipe: whose seed decides initial weights, order of images and augmentation.
        splits, classes: from `load_splits`.
        folder: of the checkpoint and `log.csv`.
        callbacks: more of Keras's callbacks; checkpoints keep what one names in `variables`.
        options: more of `compile`'s.
        student_of: None, or a function from the model to the network that is trained in place of
            `model.network`, with the same weights.
        make: what makes the model, `model_of` by default, from recipe, input shape and classes.
        rate: learning rate schedule in place of the recipe's.
        placement: from `zoo.training.devices.choose.place`; None trains on one device.
        remat: whether blocks are computed again in the backward pass, to keep fewer activations.

    Returns:
        (model, seconds that all of it took).
    """
    placement, options = placement or Placement(), options or {}
    steps = len(splits[0]) // recipe.batch_size
    check(placement, recipe, steps=steps, **options)
    rate = rate or from_recipe.learning_rate(recipe, steps)
    full = splits[0].image_shape
    for size, last_epoch in recipes.size_stages(recipe):
        from_recipe.seed(recipe.seed)
        shape = full if size is None else (size, size, full[-1])
        with placement.scope():
            model = (make or from_recipe.model_of)(recipe, shape, classes)
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
        seconds = fit(model, student, recipe, splits, folder, callbacks, placement, remat, last_epoch)
    return model, seconds


def _tensorboard(folder):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return []
    if keras.backend.backend() != "tensorflow":  # Keras's callback writes through TensorFlow
        return []
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
