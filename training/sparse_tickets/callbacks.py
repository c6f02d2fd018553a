"""Callbacks that act at certain steps of a ticket's training: selection, hops, rewinding."""

import pathlib
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from zoo.classifier import EnsembleClassifier
from zoo.files.hashes import write_hash
from zoo.layers import TopologyUpdates, sparse_layers
from zoo.layers.keras_internals import optimizer_slots
from zoo.layers.sparse.step_callback import StepCallback


class AtSteps(StepCallback):
    """Act after certain steps.

    Args:
        steps: iterable of ints, counted from 1.
    """

    def __init__(self, steps: Iterable[int]):
        super().__init__()
        self.steps = sorted(steps)

    def due(self, before: int, now: int) -> int | None:
        return max((step for step in self.steps if before < step <= now), default=None)


class KeepTickets(AtSteps):
    """Keep, for each ticket, the weights with the highest held-out accuracy in its window of training.

    The accuracy is measured at the end of each epoch and of each window.

    Args:
        folder: `pathlib.Path` of the folder where ticket{k}.weights.h5 are written.
        held_out: (images (N, H, W, C), labels (N,)).
        windows: list of (start, stop) in steps of training, one per ticket.

    Attributes:
        best: float32 variable (tickets, 2) of accuracy (-1 before the first) and step.
    """

    def __init__(self, folder: pathlib.Path, held_out: tuple, windows: list[tuple[int, int]]):
        super().__init__(stop for _, stop in windows)
        self.folder, self.held_out, self.windows = folder, held_out, windows
        nothing = np.full((len(windows), 2), -1.0, "float32")
        self.best = keras.Variable(nothing, trainable=False, dtype="float32", name="best")

    @property
    def variables(self) -> list:
        """Variables that checkpoints include."""
        return [self.best]

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.network = model.network.get_layer("network")
        # A separate model, so that fit's metrics and state do not change.
        self.eval_model = EnsembleClassifier(self.network)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.step not in self.steps:
            self._look(self.step)

    def act(self, step: int) -> None:
        self._look(step)

    def _look(self, step):
        for ticket, (start, stop) in enumerate(self.windows):
            if start < step <= stop:
                accuracy = self._accuracy()
                best = ops.convert_to_numpy(self.best).copy()
                if accuracy > best[ticket, 0]:
                    path = self.folder / f"ticket{ticket}.weights.h5"
                    draft = path.with_name(f"draft{ticket}.weights.h5")
                    self.network.save_weights(draft)
                    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
                    draft.replace(path)
                    write_hash(path)
                    best[ticket] = accuracy, step
                    self.best.assign(best)

    def _accuracy(self):
        images, labels = self.held_out
        answers = self.eval_model.predict(images, batch_size=250, verbose=0)
        return float((answers.argmax(axis=1) == labels).mean())


class Hops(AtSteps):
    """Move most connections at the end of a ticket, towards the next one.

    Args:
        steps: iterable of ints, the steps of the hops.
        updates: `zoo.layers.TopologyUpdates` that trains with the same model.
        fraction: float q, the fraction of each layer's connections that moves.
    """

    def __init__(self, steps: Iterable[int], updates: TopologyUpdates, fraction: float):
        super().__init__(steps)
        self.updates, self.fraction = updates, fraction

    def act(self, step: int) -> None:
        self.updates.update(step, self.fraction)


class Rewind(AtSteps):
    """Restore the weights of an early step under the masks of a later one, for lottery tickets.

    Args:
        path: `pathlib.Path` of the `.npz` file that keeps the early weights.
        early: int, the step whose weights are kept.
        late: int, the step at which they are restored.

    References:
        Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML 2020, arXiv
        1912.05671.
    """

    def __init__(self, path: pathlib.Path, early: int, late: int):
        super().__init__({early, late} - {0})
        self.path, self.early, self.late = path, early, late

    def begin(self, stop: int | None) -> None:
        if self.early == self.step == 0:
            self.act(0)

    def act(self, step: int) -> None:
        masks = {id(layer.mask): None for layer in sparse_layers(self.model)}
        variables = [v for v in self.model.network.weights if id(v) not in masks]
        if step == self.early:
            np.savez(self.path, *map(ops.convert_to_numpy, variables))
            return
        kernels = {id(layer.kernel): layer.mask for layer in sparse_layers(self.model)}
        with np.load(self.path) as stored:
            for variable, value in zip(variables, stored.values()):
                mask = kernels.get(id(variable))
                variable.assign(value if mask is None else value * ops.convert_to_numpy(mask))
        for variable in self.model.trainable_variables:
            for slot in optimizer_slots(self.model.optimizer, variable):
                slot.assign(ops.zeros(slot.shape, slot.dtype))
