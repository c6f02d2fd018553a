"""Checkpoints from which a run resumes exactly: after each epoch, and at any step on request."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np

from zoo import files
from zoo.checked_training import check_finite_weights
from zoo.errors import one_line
from zoo.files.hashes import fingerprint
from zoo.files.json_files import check_regular, digest
from zoo.training.devices.placement import Placement
from zoo.training.loop import identity
from zoo.training.recipes import Recipe, recorded

NAMES = ("checkpoint-0.weights.h5", "checkpoint-1.weights.h5")
_ENTRIES = {"epochs": int, "steps": int, "weights": str, "sha256": str, "random": list,
            "seconds": (int, float), "remat": bool, "recipe": dict, "data": dict}  # fmt: skip


class Checkpoint(keras.callbacks.Callback):
    """Save weights, optimiser slots and random states after every epoch, and restore them on request.

    There are two weights files, written in turn, each with a state that holds its sha256, and
    `checkpoint.json`, which repeats the newer state.  The process may die at any moment, and of two
    files one may be damaged.

    Args:
        folder: `pathlib.Path` of the folder of the files.
        recipe: `zoo.training.recipes.Recipe`; a checkpoint of another recipe is refused.
        variables: sequence of Keras variables to save besides those of the model and its optimiser.
            Default: ().
        remat: bool, whether the model is rematerialised, which changes the keys in its weights files.
            Default: False.
        data: dict that identifies the data (`zoo.training.loop.identity.of_splits`); a checkpoint of
            other data is refused. Default: None, no check.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        recipe: Recipe,
        variables: Sequence[keras.Variable] = (),
        remat: bool = False,
        data: dict | None = None,
    ):
        super().__init__()
        self.remat = remat
        self.folder, self.state = folder, folder / "checkpoint.json"
        self.others = list(variables)
        self.recipe = recorded(dataclasses.asdict(recipe))
        self.data = {"backend": keras.backend.backend(), **(data or {})}
        self.seconds, self.started, self.saved = 0.0, time.time(), 0

    def position(self) -> tuple[int, int]:
        """Return how far training was at the last complete checkpoint.

        Returns:
            (whole epochs, steps of the next epoch); (0, 0) if there is no checkpoint.

        Raises:
            ValueError: if the checkpoint belongs to another recipe or other data, differs in --remat, or
                is damaged.
        """
        state = self._newest()
        return (state["epochs"], state["steps"]) if state else (0, 0)

    def _newest(self):
        """The furthest state whose weights are whole, or None if nothing was saved yet."""
        states = [self.folder / name for name in (self.state.name, *map(_state_of, NAMES))]
        found = [state for state in map(_read, states) if state]
        for state in found:
            self._check(state)
        for state in sorted(found, key=lambda state: (state["epochs"], state["steps"]), reverse=True):
            weights = self.folder / state["weights"]
            if weights.is_file() and fingerprint(weights)["sha256"] == state["sha256"]:
                return state
        if found or any(path.exists() for path in states):
            raise ValueError(
                f"no checkpoint in {self.folder} is whole (sha256); delete its checkpoint* to begin again"
            )
        return None

    def _check(self, state):
        recipe = recorded(state["recipe"])
        if recipe != self.recipe:
            fields = {**recipe, **self.recipe}
            name = next(f for f in fields if recipe.get(f) != self.recipe.get(f))
            raise ValueError(
                f"{self.folder} holds a run of another recipe ({name}={recipe.get(name)}, not "
                f"{self.recipe.get(name)}); choose another --output_dir"
            )
        if state["remat"] != self.remat:
            had = "with" if state["remat"] else "without"
            raise ValueError(f"{self.folder} holds a run {had} --remat; continue {had} it")
        identity.check(self.folder, state["data"], self.data)

    def restore(self, model: keras.Model) -> tuple[int, int]:
        """Load the last complete checkpoint into a model.

        Args:
            model: compiled `keras.Model`.

        Returns:
            The checkpoint's `position`.

        Raises:
            ValueError: see `position`.
        """
        state = self._newest()
        if not state or (state["epochs"], state["steps"]) == (0, 0):
            return 0, 0
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder / state["weights"])
        for variable, value in zip([*_random_state(model), *self.others], state["random"]):
            variable.assign(np.array(value, variable.dtype))
        self.seconds = state["seconds"]
        self.saved = 1 + NAMES.index(state["weights"])
        return state["epochs"], state["steps"]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.save(epoch + 1)

    def save(self, epochs: int, steps: int = 0) -> None:
        """Save the model's current state.

        Args:
            epochs: int, whole epochs since the start of training.
            steps: int, steps of the next epoch. Default: 0.

        Raises:
            NotFiniteError: for weights with NaN or infinite values; the last checkpoint stays.
            OSError: with one line, if the disk is full or cannot be written to.
        """
        check_finite_weights(self.model)
        weights = self.folder / NAMES[self.saved % 2]
        try:
            self.model.save_weights(weights)
            self._write_state(weights, epochs, steps)
        except (OSError, RuntimeError) as error:  # h5py raises both
            raise OSError(
                f"cannot save a checkpoint in {self.folder} ({one_line(error)}); the one before is kept: "
                "make room and start the same command again"
            ) from None
        self.saved += 1

    def _write_state(self, weights, epochs, steps):
        state = {
            "epochs": epochs,
            "steps": steps,
            "weights": weights.name,
            "sha256": fingerprint(weights)["sha256"],
            "random": [
                np.asarray(keras.ops.convert_to_numpy(variable)).tolist()
                for variable in [*_random_state(self.model), *self.others]
            ],
            "seconds": self.seconds + time.time() - self.started,
            "remat": self.remat,
            "recipe": self.recipe,
            "data": self.data,
        }
        text = json.dumps({**state, "digest": digest(state)})
        for path in (self.state, self.folder / _state_of(weights.name)):
            files.replace(path, text)

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
        sent = placement.worker == source
        weights = self._newest()["weights"] if sent else ""
        name = placement.broadcast(weights.encode(), source).decode()
        for path in (self.folder / name, self.folder / _state_of(name)):
            contents = placement.broadcast(path.read_bytes() if sent else b"", source)
            if not sent:
                files.replace(path, contents)
        files.replace(self.state, (self.folder / _state_of(name)).read_bytes())


def _state_of(weights):
    """The name of the state of a weights file."""
    return weights.replace(".weights.h5", ".json")


def _read(path):
    """A state, or None if it is missing or damaged."""
    try:
        check_regular(path)
        state = json.loads(path.read_bytes())
        given = state.pop("digest")
        whole = given == digest(state) and state["weights"] in NAMES
        typed = all(isinstance(state[name], kind) for name, kind in _ENTRIES.items())
        return state if whole and typed else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _random_state(model):
    """States of random generators (augmentation, dropout), which Keras keeps out of weights files."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
