"""A store of single networks: each is trained once, and kept with its held-out predictions."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from zoo import weights
from zoo.checked_training import NotFiniteError
from zoo.classifier import EnsembleClassifier
from zoo.files import hashes
from zoo.precision import precision
from zoo.training.ensembles.attempts import publish_folder, working_folder
from zoo.training.ensembles.greedy_selection import likelihoods, negative_log_likelihood
from zoo.training.ensembles.search_space import configure, configured_recipe, without_decay
from zoo.training.loop import from_recipe, run, run_record
from zoo.training.recipes import Recipe


def name_of(configuration: int, seed: int) -> str:
    """Name a network by its configuration and seed.

    Args:
        configuration: int, the index of the configuration.
        seed: int, the index of the seed.

    Returns:
        str, such as "c003_s1".
    """
    return f"c{configuration:03d}_s{seed}"


def numbers_of(name: str) -> tuple[int, int]:
    """Read the numbers in a network's name; the inverse of `name_of`.

    Args:
        name: str, such as "c003_s1".

    Returns:
        (index of the configuration, index of the seed).
    """
    configuration, seed = name.removeprefix("c").split("_s")
    return int(configuration), int(seed)


class NetworkStore:
    """A folder with one folder per network, which appears when the network is complete.

    Each has `network.weights.h5` (float32), `held_out.npy`, the probabilities (n, K) of the held-out
    images, `result.json` (configuration, recipe, seconds) and `log.csv`.

    Args:
        folder: str or path of the folder of all networks.
        recipe: `zoo.training.recipes.Recipe` of a single network; seed s trains with the recipe's seed +
            s.
        splits: (training, held out, test), from `from_recipe.load_splits`.
        classes: int K, from `from_recipe.load_splits`.
        options: dict or None, further arguments of `compile`. Default: None.
    """

    keeps_diverged = True  # with NaN for predictions, so that a search knows and never chooses it

    def __init__(
        self,
        folder: str | os.PathLike,
        recipe: Recipe,
        splits: tuple,
        classes: int,
        options: dict | None = None,
    ):
        self.folder, self.recipe = pathlib.Path(folder), recipe
        self.splits, self.classes, self.options = splits, classes, options
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_done(self, name: str) -> bool:
        """Tell whether a network is trained.

        Args:
            name: str, from `name_of`.

        Returns:
            bool.
        """
        return (self.folder / name).is_dir()

    def ensure_trained(
        self,
        name: str,
        configuration: dict,
        attempt: int | str,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> float:
        """Train a network unless it is trained, resuming an earlier attempt.

        Args:
            name: str, from `name_of`.
            configuration: dict from hyperparameter to value, from `SearchSpace.sample`; {} for the
                recipe's own.
            attempt: int or str that no other attempt at this network has.
            callbacks: sequence of Keras callbacks. Default: ().

        Returns:
            float, its held-out NLL in nats.
        """
        if not self.is_done(name):
            seed = self.recipe.seed + numbers_of(name)[1]
            recipe = dataclasses.replace(configured_recipe(self.recipe, configuration), seed=seed)
            folder = working_folder(self.folder, name, attempt)
            self._train_and_keep(name, recipe, configuration, folder, callbacks)
        return self.nll(name)

    def train_one(
        self,
        recipe: Recipe,
        configuration: dict,
        folder: pathlib.Path,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> tuple[EnsembleClassifier, float, dict]:
        """Train one network; subclasses train theirs in another way.

        Args:
            recipe: `zoo.training.recipes.Recipe` of this network.
            configuration: dict from hyperparameter to value.
            folder: `pathlib.Path` of the attempt's folder.
            callbacks: sequence of Keras callbacks.

        Returns:
            (trained model, seconds, dict of further entries of `result.json`).
        """
        model, seconds = run.train_model(
            without_decay(recipe), self.splits, self.classes, folder, callbacks, self.options,
            student_of=lambda model: configure(model, recipe, configuration),
        )  # fmt: skip
        return model, seconds, {}

    def blank(self) -> EnsembleClassifier:
        """Build a network as it is before training."""
        return from_recipe.model_of(self.recipe, self.splits[0].images.shape[1:], self.classes)

    def _train_and_keep(self, name, recipe, configuration, folder, callbacks):
        with precision(recipe.precision):
            try:
                model, seconds, more = self.train_one(recipe, configuration, folder, callbacks)
                held_out = np.exp(model.predict(self.splits[1].images, batch_size=250, verbose=0))
            except NotFiniteError as error:
                if not self.keeps_diverged:
                    raise
                model, seconds, more = self.blank(), 0.0, {"diverged": str(error)}
                held_out = np.full((len(self.splits[1]), self.classes), np.nan, "float32")
        np.save(folder / "held_out.npy", held_out)
        model.network.save_weights(folder / "network.weights.h5")
        hashes.write_hash(folder / "network.weights.h5")
        result = {
            "configuration": configuration,
            "recipe": dataclasses.asdict(recipe),
            "seconds": round(seconds, 1),
            "backend": keras.backend.backend(),
            "hardware": run_record.hardware(),
            **more,
        }
        (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        for checkpoint in folder.glob("checkpoint*"):
            checkpoint.unlink()
        publish_folder(folder, self.folder / name)

    def held_out(self, name: str) -> np.ndarray:
        """Read a network's predictions of the held-out images.

        Args:
            name: str, from `name_of`.

        Returns:
            float array (n, K) of probabilities.

        Raises:
            ValueError: if the file is damaged or has the predictions of other images.
        """
        path, expected = self.folder / name / "held_out.npy", (len(self.splits[1]), self.classes)
        try:
            probabilities = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            problem = str(error).splitlines()[0]
        else:
            if probabilities.shape == expected:
                return probabilities
            problem = f"it has shape {probabilities.shape}, not {expected}"
        raise ValueError(
            f"{path} is not a prediction of this search ({problem}); delete its folder and start again"
        )

    def nll(self, name: str) -> float:
        """Compute the held-out NLL of a network.

        Args:
            name: str, from `name_of`.

        Returns:
            float in nats, infinity if the network diverged.
        """
        likelihood = likelihoods([self.held_out(name)], self.splits[1].labels)
        return float(negative_log_likelihood(likelihood)[0])

    def result(self, name: str) -> dict:
        """Read the `result.json` of a network.

        Args:
            name: str, from `name_of`.

        Returns:
            dict.
        """
        return json.loads((self.folder / name / "result.json").read_text())

    def names(self) -> list[str]:
        """List the names of all trained networks."""
        return sorted(
            path.parent.name
            for path in self.folder.glob("c*_s*/result.json")
            if "." not in path.parent.name
        )

    def model(self, name: str) -> EnsembleClassifier:
        """Load a trained network.

        Args:
            name: str, from `name_of`.

        Returns:
            `zoo.classifier.EnsembleClassifier`.
        """
        with precision(self.recipe.precision):
            model = self.blank()
        weights.load_file(model, self.folder / name / "network.weights.h5")
        return model
