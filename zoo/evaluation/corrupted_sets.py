"""The corrupted images of a report: the published ones, or made on the fly."""

import dataclasses
from typing import Any

import numpy as np

from zoo.evaluation import corruptions


@dataclasses.dataclass(frozen=True)
class CorruptedSets:
    """An iterable over the corrupted copies of a test split: (kind, severity, images, labels).

    Args:
        test: a `zoo.data.arrays.Split`, the clean images.
        kinds: tuple of str, names of corruptions; empty where there is nothing to do.
        count: int, images per kind and severity.
        published: bool, whether they are the published images in `data_dir`.
        absent: str, the published images that are not there, or None.
        data_dir: str or path of the data sets.
    """

    test: tuple
    kinds: tuple
    count: int
    published: bool
    absent: str | None
    data_dir: str

    @classmethod
    def of(cls, dataset: str, data_dir: Any, test: Any, count: int, kinds: Any) -> Any:
        """Choose the published images if all are there, else corrupt the test split on the fly.

        Means over a mixture of the two could not be compared with anything.

        Args:
            dataset: str, the test split's data set.
            data_dir: str or path of the data sets.
            test: a `zoo.data.arrays.Split`.
            count: int, images per kind and severity; 0 for none.
            kinds: str, names of corruptions.

        Returns:
            A `CorruptedSets`.
        """
        kinds = tuple(kinds) if count else ()
        absent = corruptions.unpublished(data_dir, kinds) if dataset == "cifar10" else []
        published = dataset == "cifar10" and not absent
        missing = f"{len(absent)} of {5 * len(kinds)}, first {absent[0]}" if absent else None
        return cls(test, kinds, min(count, len(test)), published, missing, data_dir)

    def record(self) -> dict:
        """Return what a report records of the corrupted images, a dictionary."""
        return {
            "corrupted_images": self.count if self.kinds else 0,
            "corruption_kinds": list(self.kinds),
            "corruption_source": ("published" if self.published else "made") if self.kinds else None,
            "corruptions_not_published": self.absent,
        }

    def __iter__(self):
        """(kind, severity, images, labels)."""
        if self.published:
            for kind in self.kinds:
                for severity in corruptions.SEVERITIES:
                    split = corruptions.published(kind, severity, self.data_dir)
                    rows = self._rows(split)
                    yield kind, severity, split.images[rows], split.labels[rows]
        elif self.kinds:
            rows = self._rows(self.test)
            images, labels = self.test.images[rows], self.test.labels[rows]
            for kind, severity, corrupted in corruptions.corruptions(images, self.kinds):
                yield kind, severity, corrupted, labels

    def _rows(self, split):
        return np.sort(np.random.default_rng(0).permutation(len(split))[: self.count])


def means(results: dict) -> dict:
    """Average a model's scores over corruptions.

    Args:
        results: {kind: list of {"accuracy", "nll", "ece"}, one for each severity}.

    Returns:
        {score: what `corruptions.average` gives}; empty for no kinds.
    """
    keys = ("accuracy", "nll", "ece") if results else ()
    return {
        key: corruptions.average(
            {(kind, i): one[key] for kind, rows in results.items() for i, one in enumerate(rows, 1)}
        )
        for key in keys
    }
