"""Fit with checkpoints: resume an earlier run, on any placement, until the end or SIGTERM."""

import pathlib
import time
from collections.abc import Sequence

import keras

from zoo import methods
from zoo.classifier import EnsembleClassifier
from zoo.metrics import Accuracy
from zoo.training.devices.placement import Placement
from zoo.training.loop import identity
from zoo.training.loop.checkpoint import Checkpoint
from zoo.training.loop.preemption import SaveOnSignal
from zoo.training.recipes import Recipe


def fit_with_checkpoints(
    model: EnsembleClassifier,
    student: EnsembleClassifier,
    recipe: Recipe,
    splits: tuple,
    folder: pathlib.Path,
    callbacks: Sequence,
    placement: Placement,
    remat: bool,
    last_epoch: int,
) -> float:
    """Train a model until an epoch, from the checkpoint in a folder if there is one.

    Args:
        model: `zoo.classifier.EnsembleClassifier` that holds the trained weights.
        student: compiled `EnsembleClassifier` that shares the weights of `model` and is trained in its
            place, with augmentation.
        recipe: `zoo.training.recipes.Recipe`.
        splits: (training, held out, test), from `load_splits`.
        folder: `pathlib.Path` of the folder of the checkpoint and `log.csv`.
        callbacks: sequence of Keras callbacks; checkpoints include the variables that one lists in
            `variables`.
        placement: `zoo.training.devices.placement.Placement`.
        remat: bool, whether `student` is rematerialised.
        last_epoch: int, the number of epochs after which to stop.

    Returns:
        float, seconds of training since epoch 0, earlier runs included.

    Raises:
        Preempted: after SIGTERM, when the state is saved.
    """
    training, held_out, _ = splits
    batches = training.shuffled(recipe, placement.worker, placement.workers)
    own = methods.deserialize(model.spec["method"]).callbacks(held_out.images, held_out.labels)
    callbacks = [*_held_out(model, held_out, placement), *callbacks, *own]
    for callback in callbacks:
        callback.set_model(student)  # so that its variables are there to be restored
    kept = [v for callback in callbacks for v in getattr(callback, "variables", ())]
    checkpoint = Checkpoint(folder, recipe, kept, remat, identity.of_splits((training, held_out)))
    checkpoint.share(placement)
    with placement.scope():
        epoch, first = checkpoint.restore(student)
    if placement.chief:
        identity.trim_log(folder / "log.csv", epoch)
        callbacks.append(keras.callbacks.CSVLogger(folder / "log.csv", append=epoch > 0 or first > 0))
    started = time.time()
    # The rest of an interrupted epoch is a separate `fit`.
    for start, stop in ((epoch, epoch + bool(first)), (epoch + bool(first), last_epoch)):
        if start < min(stop, last_epoch):
            batches.start(start + 1, first)
            _fit_epochs(
                student, batches, range(start, stop), recipe, held_out, callbacks, checkpoint, placement
            )
            first = 0
    if recipe.ema and last_epoch == recipe.epochs:
        optimizer = getattr(student.optimizer, "inner_optimizer", student.optimizer)
        type(optimizer).finalize_variable_values(optimizer, student.trainable_variables)
    return checkpoint.seconds + time.time() - started


def _fit_epochs(student, batches, epochs, recipe, held_out, callbacks, checkpoint, placement):
    with SaveOnSignal(checkpoint, placement, batches.first) as on_signal:
        steps = {"epochs": recipe.epochs, "steps": batches.steps, "done": batches.first, "verbose": 0}
        all_callbacks = keras.callbacks.CallbackList(
            [_Epochs(batches, epochs.start), *callbacks, checkpoint, on_signal],
            add_history=True,
            model=student,
        )
        all_callbacks.set_params(steps)
        validates = len(held_out) and placement.replicas == 1
        student.fit(
            **placement.feed(batches), epochs=epochs.stop, initial_epoch=epochs.start, verbose=0,
            callbacks=all_callbacks, shuffle=False,
            validation_data=(held_out.images, held_out.labels) if validates else None,
        )  # fmt: skip


class _Epochs(keras.callbacks.Callback):
    """Shuffles for each epoch, numbered from 1; Keras tells data only that one has ended."""

    def __init__(self, batches, start):
        super().__init__()
        self.batches, self.start, self.first = batches, start, batches.first

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start(epoch + 1, self.first if epoch == self.start else 0)


def _held_out(model, split, placement):
    """The callback that looks at held-out images where `fit` cannot: on several devices."""
    if placement.replicas == 1 or not (placement.chief and len(split)):
        return []
    return [_HeldOut(model, split, placement)]


class _HeldOut(keras.callbacks.Callback):
    """Held-out loss and accuracy after each epoch, on one device: all images, whatever their number.

    Under a strategy `fit` would drop or misweigh the images of a last batch that is not divisible by the
    devices, or fail on it.
    """

    def __init__(self, model, split, placement):
        super().__init__()
        self.network, self.split, self.placement = model.network, split, placement
        with placement.one_device():
            self.eval_model = EnsembleClassifier(keras.models.clone_model(model.network))
            self.eval_model.compile(loss=model.loss, metrics=[Accuracy()])

    def on_epoch_end(self, epoch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # while JAX trains, variables live outside the model
        with self.placement.one_device():
            self.eval_model.network.set_weights(self.network.get_weights())
            found = self.eval_model.evaluate(*self.split, batch_size=250, verbose=0, return_dict=True)
        logs.update({f"val_{name}": value for name, value in found.items()})
