"""The corrupted images of a report: the published ones, or made on the fly."""

import dataclasses

import numpy as np

from zoo.evaluation import corruptions


@dataclasses.dataclass(frozen=True)
class CorruptedSets:
    """Iterable over (kind, severity, images, labels) of a test split, each kind at each severity.

    Fields: `test`, the clean split; `kinds`, none where there is nothing to do; `count` of images;
    `published`, whether they are the published ones in `data_dir`; `absent`, which of those are not there.
    """

    test: tuple
    kinds: tuple
    count: int
    published: bool
    absent: str | None
    data_dir: str

    @classmethod
    def of(cls, dataset, data_dir, test, count, kinds):
        """The published images where all are there, as means over a mixture would compare with nothing."""
        kinds = tuple(kinds) if count else ()
        absent = corruptions.unpublished(data_dir, kinds) if dataset == "cifar10" else []
        published = dataset == "cifar10" and not absent
        missing = f"{len(absent)} of {5 * len(kinds)}, first {absent[0]}" if absent else None
        return cls(test, kinds, min(count, len(test)), published, missing, data_dir)

    def record(self):
        """What a report says of them."""
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
            for kind, severity, spoilt in corruptions.corruptions(images, self.kinds):
                yield kind, severity, spoilt, labels

    def _rows(self, split):
        return np.sort(np.random.default_rng(0).permutation(len(split))[: self.count])


def means(results):
    """{figure: `corruptions.average`} of a model's {kind: figures by severity}; {} for no kinds."""
    keys = ("accuracy", "nll", "ece") if results else ()
    return {
        key: corruptions.average(
            {(kind, i): one[key] for kind, rows in results.items() for i, one in enumerate(rows, 1)}
        )
        for key in keys
    }
