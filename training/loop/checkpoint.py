"""What a run needs to go on exactly where it stopped: after an epoch, or at any step on request."""

import dataclasses
import json
import time

import keras
import numpy as np

from zoo import files

NAMES = ("checkpoint-0.weights.h5", "checkpoint-1.weights.h5")


class Checkpoint(keras.callbacks.Callback):
    """Weights, optimiser slots and random states, after every epoch; restored on request.

    Two weights files in turn: `checkpoint.json` names the whole one, whenever the process dies.

    Args:
        folder: of the files.
        recipe: a `Recipe`; a folder with a checkpoint of another one is refused.
        variables: to be kept beside those of the model and its optimiser.
        remat: whether the model rematerialises, which gives its weights files other keys.
    """

    def __init__(self, folder, recipe, variables=(), remat=False):
        super().__init__()
        self.remat = remat
        self.folder, self.state = folder, folder / "checkpoint.json"
        self.others = list(variables)
        self.recipe = json.loads(json.dumps(dataclasses.asdict(recipe)))
        self.seconds, self.started, self.saved = 0.0, time.time(), 0

    def position(self):
        """(epochs, steps of the next one) that the last checkpoint has seen; (0, 0) where there is none.

        Raises:
            ValueError: where it is of another recipe.
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

    def restore(self, model):
        """Load the last checkpoint into a compiled model; returns its `position`."""
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

    def save(self, epochs, steps=0):
        """Keep the model as it is, so many epochs and steps of the next one after the start."""
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

    def share(self, placement):
        """Give every worker the checkpoint of the worker whose own has seen most.

        A worker may have died between the others' saving and its own, or come back with an empty disk.
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
