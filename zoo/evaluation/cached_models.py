"""The models under evaluation: found by name, loaded only when something has to be predicted."""

import dataclasses
import functools
import hashlib
import json
import pathlib

import numpy as np

from zoo import registry, weights


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model and its predictions, which are kept by the hash of its weights and of the images.

    Fields: `label`, its name in the report; `name`, as in `zoo.load`; `folder` of the weights; `config`,
    its card; `cache`, folder of predictions.
    """

    label: str
    name: str
    folder: pathlib.Path
    config: dict
    cache: pathlib.Path

    @property
    def num_members(self):
        return self.config["num_members"]

    @property
    def input_shape(self):
        """(H, W, C) of its images."""
        return tuple(self.config["spec"]["input_shape"])

    @functools.cached_property
    def model(self):
        from zoo.loading import load

        return load(self.name, weights=str(self.folder))

    @functools.cached_property
    def fingerprint(self):
        """Of the weights and of all that decides the model's answers."""
        parts = {"files": self.config["files"], "spec": self.config["spec"]}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def logits(self, images, batch_size=250):
        """(N, M, K) float32 logits of the members, predicted once for these weights and images.

        Raises:
            ValueError: where they are not finite.
        """
        path = self.cache / self.fingerprint / f"{_fingerprint_of(images)}.npy"
        if path.is_file():
            try:
                return np.load(path)
            except (ValueError, EOFError, OSError):  # damaged: predict again
                path.unlink()
        logits = np.asarray(self.model.network.predict(images, batch_size, verbose=0), "float32")
        bad = ~np.isfinite(logits).all(axis=(1, 2))
        if bad.any():
            raise ValueError(f"{self.label}: {bad.sum()} of {len(bad)} predictions are not finite")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        with open(temporary, "wb") as file:
            np.save(file, logits)
        temporary.replace(path)
        return logits


def subjects(names, dataset, cache):
    """The subjects of a report.

    Args:
        names: each a model's name, whose weights for `dataset` are taken, or a folder of a run.
        dataset: name of the data set that they were trained on.
        cache: folder of their predictions.

    Raises:
        ValueError: for no name, an unknown one, one given twice, or weights of another data set.
        FileNotFoundError: for a folder that does not exist.
    """
    if not names:
        raise ValueError("name at least one model or run to evaluate")
    found = [_subject(str(name), dataset, pathlib.Path(cache)) for name in names]
    labels = [one.label for one in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} named twice; name every model once")
    return found


def _subject(name, dataset, cache):
    folder = pathlib.Path(name)
    if (folder / "config.json").is_file() or "/" in name:
        config = weights.read_config(folder)
        if config["dataset"] != dataset:
            raise ValueError(f"{name} was trained on {config['dataset']}, not on {dataset}")
        return Subject(folder.name, config["name"], folder, config, cache)
    registry.parse(name)
    folder, config = weights.find(name, dataset)
    return Subject(name, name, pathlib.Path(folder), config, cache)


def _fingerprint_of(images):
    digest = hashlib.sha256(repr((images.shape, str(images.dtype))).encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()[:16]
