"""Checkpoints from which a run resumes exactly: after each epoch, and at any step on request."""

import dataclasses
import json
import pathlib
import time

import keras
import numpy as np

from zoo import files
from zoo.training.devices.placement import Placement

NAMES = ("checkpoint-0.weights.h5", "checkpoint-1.weights.h5")


class Checkpoint(keras.callbacks.Callback):
    """Save weights, optimiser slots and random states after every epoch, and restore them on request.

    There are two weights files, written in turn; `checkpoint.json` names the complete one, so the
    process may die at any moment.

    Args:
        folder: `pathlib.Path` of the folder of the files.
        recipe: `zoo.training.recipes.Recipe`; a checkpoint of another recipe is refused.
        variables: sequence of Keras variables to save besides those of the model and its optimiser.
            Default ().
        remat: bool, whether the model is rematerialised, which changes the keys in its weights files.
            Default False.
    """

    def __init__(self, folder: pathlib.Path, recipe, variables=(), remat: bool = False):
        super().__init__()
        self.remat = remat
        self.folder, self.state = folder, folder / "checkpoint.json"
        self.others = list(variables)
        self.recipe = json.loads(json.dumps(dataclasses.asdict(recipe)))
        self.seconds, self.started, self.saved = 0.0, time.time(), 0

    def position(self) -> tuple[int, int]:
        """Return how far training was at the last checkpoint.

        Returns:
            (whole epochs, steps of the next epoch); (0, 0) if there is no checkpoint.

        Raises:
            ValueError: if the checkpoint belongs to another recipe, or differs in --remat.
        """
        if not self.state.is_file():
            return 0, 0
        state = json.loads(self.state.read_text())
        if state["recipe"] != self.recipe:
            raise ValueError(f"{self.folder} holds a run of another recipe; choose another --output_dir")
        if state.get("remat", False) != self.remat:
            had = "with" if state.get("remat") else "without"
            raise ValueError(f"{self.folder} holds a run {had} --remat; go on {had} it")
        return state["epochs"], state.get("steps", 0)

    def restore(self, model: keras.Model) -> tuple[int, int]:
        """Load the last checkpoint into a model.

        Args:
            model: compiled `keras.Model`.

        Returns:
            The checkpoint's `position`.

        Raises:
            ValueError: if the checkpoint belongs to another recipe, or differs in --remat.
        """
        epochs, steps = self.position()
        if (epochs, steps) == (0, 0):
            return 0, 0
        state = json.loads(self.state.read_text())
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder / state["weights"])
        for variable, value in zip([*_random_state(model), *self.others], state.get("random", [])):
            variable.assign(np.array(value, variable.dtype))
        self.seconds = state["seconds"]
        self.saved = 1 + NAMES.index(state["weights"])
        return epochs, steps

    def on_epoch_end(self, epoch, logs=None):
        self.save(epoch + 1)

    def save(self, epochs: int, steps: int = 0) -> None:
        """Save the model's current state.

        Args:
            epochs: int, whole epochs since the start of training.
            steps: int, steps of the next epoch. Default 0.
        """
        weights = self.folder / NAMES[self.saved % 2]
        self.saved += 1
        self.model.save_weights(weights)
        state = {
            "epochs": epochs,
            "steps": steps,
            "weights": weights.name,
            "random": [
                np.asarray(keras.ops.convert_to_numpy(variable)).tolist()
                for variable in [*_random_state(self.model), *self.others]
            ],
            "seconds": self.seconds + time.time() - self.started,
            "remat": self.remat,
            "recipe": self.recipe,
        }
        files.replace(self.state, json.dumps(state))

    def share(self, placement: Placement) -> None:
        """Copy the most advanced checkpoint to all workers that lack it.

        A worker may have died after the others saved and before it did, or come back with an empty disk.

        Args:
            placement: `zoo.training.devices.placement.Placement`.
        """
        if placement.workers == 1:
            return
        positions = [tuple(row) for row in placement.gather(self.position())]
        furthest = max(positions)
        if all(position == furthest for position in positions):
            return
        source = positions.index(furthest)
        weights = json.loads(self.state.read_text())["weights"] if placement.worker == source else ""
        name = placement.broadcast(weights.encode(), source).decode()
        for path in (self.folder / name, self.state):
            sent = placement.worker == source
            contents = placement.broadcast(path.read_bytes() if sent else b"", source)
            if not sent:
                files.replace(path, contents)


def _random_state(model):
    """States of random generators (augmentation, dropout), which Keras keeps out of weights files."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
