"""The models under evaluation: found by name, loaded only when something has to be predicted."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo import registry, stored_weights
from zoo.files import config_files


@dataclasses.dataclass(frozen=True)
class CachedModel:
    """A model under evaluation, whose predictions are cached by the hash of its weights and images.

    Args:
        label: str, its name in the report.
        name: str, its name for `zoo.load`.
        folder: path of the weights.
        config: dict, its card.
        cache: path of the folder of predictions.
    """

    label: str
    name: str
    folder: pathlib.Path
    config: dict
    cache: pathlib.Path

    @property
    def num_members(self) -> int:
        """The number of members, M."""
        return self.config["num_members"]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape (H, W, C) of its images."""
        return tuple(self.config["spec"]["input_shape"])

    @functools.cached_property
    def model(self) -> Any:
        """The `EnsembleClassifier`, loaded on first use."""
        from zoo.loading import load

        return load(self.name, weights=str(self.folder))

    @functools.cached_property
    def fingerprint(self) -> str:
        """The hash of the weights and of everything else that decides the model's answers."""
        parts = {"files": self.config["files"], "spec": self.config["spec"]}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def logits(self, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
        """Return member logits, predicted once for these weights and images.

        Args:
            images: uint8 array (N, H, W, C).
            batch_size: int >= 1, images per step. Default: 250.

        Returns:
            Float32 array (N, M, K).

        Raises:
            ValueError: if they are not finite.
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


def find_models(names: Sequence[str], dataset: str, cache: Any) -> list[CachedModel]:
    """Find the models of a report.

    Args:
        names: models' names, whose weights for `dataset` are taken, or folders of runs.
        dataset: str, the data set that they were trained on.
        cache: str or path of the folder of predictions.

    Returns:
        A list of `CachedModel`s.

    Raises:
        ValueError: for no name, an unknown one, one given twice, or weights of another data set.
        FileNotFoundError: for a folder that does not exist.
    """
    if not names:
        raise ValueError("name at least one model or run to evaluate")
    found = [_find_model(str(name), dataset, pathlib.Path(cache)) for name in names]
    labels = [one.label for one in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} named twice; name every model once")
    return found


def _find_model(name, dataset, cache):
    folder = pathlib.Path(name)
    if (folder / "config.json").is_file() or "/" in name:
        config = config_files.read_config(folder)
        if config["dataset"] != dataset:
            raise ValueError(f"{name} was trained on {config['dataset']}, not on {dataset}")
        return CachedModel(folder.name, config["name"], folder, config, cache)
    registry.parse(name)
    folder, config = stored_weights.find(name, dataset)
    return CachedModel(name, name, pathlib.Path(folder), config, cache)


def _fingerprint_of(images):
    digest = hashlib.sha256(repr((images.shape, str(images.dtype))).encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()[:16]
