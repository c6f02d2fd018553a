"""A process that loads damaged files of one kind, and counts what comes of them.

    python mutation_worker.py KIND FIRST COUNT SEED FOLDER

It prints a JSON object of counts, with the first case of each outcome that must not be.  Its memory is limited, so
that a file that asks for more is an error here and not on the whole machine; FOLDER/case holds the number of
the case under way, should the process die of it.
"""

import collections
import io
import json
import os
import pathlib
import resource
import signal
import sys
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np

import zoo
from helpers import mutations
from zoo import registry, weights
from zoo.files import hashes, json_files
from zoo.layers import sparsify
from zoo.methods import Packed, Single
from zoo.training import recipes, weights_index
from zoo.training.loop.checkpoint import Checkpoint

MORE_MEMORY = 3 << 30  # bytes, beyond what TensorFlow has reserved
SECONDS = 30
OURS = getattr(zoo, "WeightsError", (ValueError, FileNotFoundError))


class Hang(BaseException):
    """A case took too long."""


class Kind:
    """Good files of one kind in a folder, and how they are damaged and loaded.

    `hashed` says whether their hashes are known, so that other answers than before must not be accepted;
    `errors` are those that a loader may raise.
    """

    hashed, errors = True, OURS

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1)).astype("uint8")

    def model(self):
        return zoo.build(Single(), "mlp", 3, (4, 4, 1))

    def answers(self, model) -> np.ndarray:
        return keras.ops.convert_to_numpy(model(self.images, training=False))

    def expected(self) -> list[np.ndarray]:
        """The answers that may be given: those of the good files."""
        return [self.load()]


class H5(Kind):
    """A bare weights file, of which nothing is recorded."""

    name, hashed = "model.weights.h5", False

    def __init__(self, folder):
        super().__init__(folder)
        self.target = self.model()
        self.path = folder / self.name
        self.save()
        self.good = self.path.read_bytes()

    def save(self):
        self.model().network.save_weights(self.path)

    def damage(self, rng):
        change = mutations.damage if rng.random() < 0.5 else mutations.damage_h5
        self.path.write_bytes(change(self.good, rng))

    def restore(self):
        self.path.write_bytes(self.good)

    def load(self):
        weights.load_file(self.target, self.path)
        return self.answers(self.target)


class HashedH5(H5):
    """A weights file with its hash beside it."""

    hashed = True

    def save(self):
        super().save()
        hashes.write_hash(self.path)


class Npz(H5):
    """A weights file of a sparse network."""

    name = "model.weights.npz"

    def model(self):
        return sparsify(super().model(), 0.5, seed=0)

    def save(self):
        weights.write(self.model(), self.folder)

    def damage(self, rng):
        if rng.random() < 0.5:
            content = mutations.damage(self.good, rng)
        else:
            content = mutations.damage_archive(self.good, rng, mutations.damage_array)
        self.path.write_bytes(content)


class Config(Kind):
    """The `config.json` of a folder of weights."""

    model_name = "packed_mlp"

    def __init__(self, folder):
        super().__init__(folder)
        self.run = folder / "packed_mlp-mnist"
        self.run.mkdir(exist_ok=True)
        model = zoo.build(Packed(2, 2), "mlp", 3, (4, 4, 1), mean=30, std=70)
        shipped = json.loads((registry.home() / "packed_lenet-mnist" / "config.json").read_text())
        probe = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), "uint8")
        files = weights.write(model, self.run)
        model.network.load_weights(self.run / "model.weights.h5")
        config = shipped | {
            "name": self.model_name, "spec": model.spec, "spec_sha256": json_files.digest(model.spec), "num_members": 2, "class_names": list("abc"), "files": files,
            "probe": zoo.predict(model, probe).probabilities.round(5).tolist(),
        }  # fmt: skip
        self.path = self.run / "config.json"
        self.good = json.dumps(config, indent=1)
        self.restore()

    def restore(self):
        self.path.write_text(self.good)

    def damage(self, rng):
        self.path.write_text(mutations.damage_json(self.good, rng))

    def load(self):
        model = zoo.load(self.model_name, weights=self.run)
        str(zoo.card(self.model_name, weights=self.run))
        return self.answers(model)


class Index(Config):
    """The `index.json` of all published weights."""

    def __init__(self, folder):
        super().__init__(folder)
        weights_index.rebuild_index(folder)
        registry.home = lambda: folder
        self.path = folder / "index.json"
        self.good = self.path.read_text()

    def load(self):
        registry.index.cache_clear()
        zoo.list_models()
        str(zoo.card(self.model_name, weights="mnist"))
        [registry.parameters(entry) for entry in registry.index()]
        return self.answers(zoo.load(self.model_name, weights="mnist"))


class KerasFile(Kind):
    """A whole model; its archive has checksums, but none of them tells who wrote it."""

    def __init__(self, folder):
        super().__init__(folder)
        self.path = folder / "model.keras"
        zoo.build(Packed(2, 2), "mlp", 3, (4, 4, 1)).save(self.path)
        self.good = self.path.read_bytes()

    def restore(self):
        self.path.write_bytes(self.good)

    def damage(self, rng):
        self.hashed = rng.random() < 0.5
        if self.hashed:
            content = mutations.damage(self.good, rng)
        else:
            content = mutations.damage_archive(self.good, rng, self._entry)
        self.path.write_bytes(content)

    @staticmethod
    def _entry(name, content, rng):
        if rng.random() < 0.1:
            return None
        if name.endswith(".json"):
            return mutations.damage_json(content.decode(), rng).encode()
        return (mutations.damage if rng.random() < 0.5 else mutations.damage_h5)(content, rng)

    def load(self):
        return self.answers(_load_keras(self.path))


def _load_keras(path):
    return zoo.load(str(path))


class Checkpoints(Kind):
    """The files from which a run resumes: two checkpoints, of which one may be damaged, or both."""

    errors = (ValueError,)

    def __init__(self, folder):
        super().__init__(folder)
        self.target = self.model()
        self.target.compile("sgd", self.target.loss)
        self.checkpoint = Checkpoint(folder, recipes.recipe("mnist_single_mlp"))
        self.checkpoint.set_model(self.target)
        self.both = []
        for epoch in (1, 2):
            self.target.network.set_weights([w * epoch for w in self.model().network.get_weights()])
            self.checkpoint.save(epoch)
            self.both.append(self.answers(self.target))
        self.good = {path: path.read_bytes() for path in sorted(folder.glob("checkpoint*"))}

    def expected(self):
        return self.both

    def restore(self):
        for path, content in self.good.items():
            path.write_bytes(content)

    def damage(self, rng):
        paths = list(self.good)
        for index in rng.choice(len(paths), rng.integers(1, len(paths)), replace=False):
            path, content = paths[index], self.good[paths[index]]
            if rng.random() < 0.1 and len(list(self.folder.glob("checkpoint*.json"))) > 1:
                path.unlink()  # without any record of a checkpoint a run begins anew
            elif path.suffix == ".json" and rng.random() < 0.5:
                path.write_text(mutations.damage_json(content.decode(), rng))
            elif path.suffix == ".h5" and rng.random() < 0.5:
                path.write_bytes(mutations.damage_h5(content, rng))
            else:
                path.write_bytes(mutations.damage(content, rng))

    def load(self):
        self.target.network.set_weights([0 * w for w in self.target.network.get_weights()])
        self.checkpoint.restore(self.target)
        return self.answers(self.target)


KINDS = {
    "h5": H5, "h5 with its hash": HashedH5, "npz": Npz, "config": Config, "index": Index, "keras": KerasFile,
    "checkpoints": Checkpoints,
}  # fmt: skip


def outcome(kind: Kind, expected: list[np.ndarray]) -> str:
    """Load, and say what came of it."""
    signal.alarm(SECONDS)
    try:
        answers = kind.load()
    except kind.errors as error:
        return "refused" if "\n" not in str(error) else f"several lines: {str(error)[:300]}"
    except Hang:
        return "hang"
    except Exception as error:
        return f"foreign {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    finally:
        signal.alarm(0)
    if not np.isfinite(answers).all():
        return "answers not finite"
    if any(answers.shape == good.shape and np.allclose(answers, good, atol=1e-4) for good in expected):
        return "accepted, same answers"
    return "changed answers" if kind.hashed else "accepted, other answers, nothing recorded"


def main(name: str, first: int, count: int, seed: int, folder: str) -> None:
    """Run cases `first` to `first + count`."""
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(seed)
    folder = pathlib.Path(folder)
    kind = KINDS[name](folder)
    expected = kind.expected()
    reserved = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + MORE_MEMORY,) * 2)

    def interrupt(*_):
        raise Hang

    signal.signal(signal.SIGALRM, interrupt)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, examples, slowest = collections.Counter(), {}, 0.0
    for case in range(first, first + count):
        (folder / "case").write_text(str(case))
        kind.damage(np.random.default_rng((seed, case)))
        started = time.perf_counter()
        errors, sys.stderr = sys.stderr, io.StringIO()
        try:
            found = outcome(kind, expected)
        finally:
            sys.stderr = errors
        seconds = time.perf_counter() - started
        if seconds > max(slowest, 5):
            examples["slow"] = f"case {case} took {seconds:.0f} s"
        slowest = max(slowest, seconds)
        short, _, detail = found.partition(": ")
        counts[short] += 1
        if detail or short in ("hang", "changed answers", "answers not finite"):
            examples.setdefault(short, f"case {case} {detail}")
        kind.restore()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"counts": counts, "examples": examples, "seconds": round(slowest, 1),
                      "peak_mib": round(peak)}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
