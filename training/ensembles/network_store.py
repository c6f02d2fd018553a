"""The single networks of a hyper-deep ensemble: trained once, and kept with their held-out predictions."""

import dataclasses
import json
import pathlib

import keras
import numpy as np

from zoo import weights
from zoo.training.ensembles.attempts import appear, working_folder
from zoo.training.ensembles.greedy_selection import likelihoods, negative_log_likelihood
from zoo.training.ensembles.search_space import configure, configured_recipe, without_decay
from zoo.training.loop import from_recipe, run, run_record


def name_of(configuration, seed):
    """A network's name, from the numbers of its configuration and of its seed."""
    return f"c{configuration:03d}_s{seed}"


def numbers_of(name):
    """(configuration, seed) of such a name."""
    configuration, seed = name.removeprefix("c").split("_s")
    return int(configuration), int(seed)


class TrainedNetworks:
    """A folder with one folder a network, which appears when it is whole.

    Each has `network.weights.h5` (float32), `held_out.npy`, the probabilities (n, K) of the held-out
    images, `result.json` (configuration, recipe, seconds) and `log.csv`.

    Args:
        folder: of all networks.
        recipe: of a single network; seed s trains with the recipe's seed + s.
        splits, classes: from `from_recipe.load_splits`.
        options: more of `compile`'s.
    """

    def __init__(self, folder, recipe, splits, classes, options=None):
        self.folder, self.recipe = pathlib.Path(folder), recipe
        self.splits, self.classes, self.options = splits, classes, options
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_done(self, name):
        """Whether a network is trained."""
        return (self.folder / name).is_dir()

    def train(self, name, configuration, attempt, callbacks=()):
        """Train a network, from where an earlier attempt stopped, unless it is there; returns its NLL.

        Args:
            name: from `name_of`.
            configuration: {hyperparameter: value}, from `SearchSpace.sample`; {} for the recipe's own.
            attempt: a number that no other attempt has.
            callbacks: Keras's.
        """
        if not self.is_done(name):
            seed = self.recipe.seed + numbers_of(name)[1]
            recipe = dataclasses.replace(configured_recipe(self.recipe, configuration), seed=seed)
            folder = working_folder(self.folder, name, attempt)
            self._train(name, recipe, configuration, folder, callbacks)
        return self.nll(name)

    def fit(self, recipe, configuration, folder, callbacks):
        """Train one network; returns the model, seconds, and what else its `result.json` is to hold."""
        model, seconds = run.train_model(
            without_decay(recipe), self.splits, self.classes, folder, callbacks, self.options,
            student_of=lambda model: configure(model, recipe, configuration),
        )  # fmt: skip
        return model, seconds, {}

    def blank(self):
        """A network before training."""
        return from_recipe.model_of(self.recipe, self.splits[0].images.shape[1:], self.classes)

    def _train(self, name, recipe, configuration, folder, callbacks):
        with from_recipe.precision(recipe.precision):
            model, seconds, more = self.fit(recipe, configuration, folder, callbacks)
            held_out = np.exp(model.predict(self.splits[1].images, batch_size=250, verbose=0))
        np.save(folder / "held_out.npy", held_out)
        model.network.save_weights(folder / "network.weights.h5")
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
        appear(folder, self.folder / name)

    def held_out(self, name):
        """Probabilities (n, K) of the held-out images.

        Raises:
            ValueError: for a file that is damaged or of other images.
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
            f"{path} is no prediction of this search ({problem}); delete its folder and start again"
        )

    def nll(self, name):
        """Held-out NLL of a network, infinite where it diverged."""
        likelihood = likelihoods([self.held_out(name)], self.splits[1].labels)
        return float(negative_log_likelihood(likelihood)[0])

    def result(self, name):
        """What is in `result.json`."""
        return json.loads((self.folder / name / "result.json").read_text())

    def names(self):
        """Names of all trained networks."""
        return sorted(
            path.parent.name
            for path in self.folder.glob("c*_s*/result.json")
            if "." not in path.parent.name
        )

    def model(self, name):
        """A trained network as a model."""
        with from_recipe.precision(self.recipe.precision):
            model = self.blank()
        weights.load_file(model, self.folder / name / "network.weights.h5")
        return model
