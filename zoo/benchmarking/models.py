"""What takes part in a benchmark: models of the zoo, each with the calls that are timed."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from zoo import counts, methods, registry
from zoo.benchmarking.roofline import training_work
from zoo.building import build
from zoo.checks import check_batch
from zoo.classifier import EnsembleClassifier
from zoo.latency import timed
from zoo.loading import load
from zoo.losses import CrossEntropy
from zoo.metrics import Accuracy
from zoo.registry import method_arguments
from zoo.step_cost import step_cost

METHODS = (
    "single", "packed", "packed:gamma=2", "batch_ensemble", "mimo", "masksembles", "mc_dropout",
    "mc_dropout:filterwise=True", "hyper_batch", "deep_ensemble", "dst_tickets",
)  # fmt: skip
TRAIN = "train"
PRECISIONS = ("float32", "bfloat16", "float16", "float64")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all models of a run.

    Args:
        backbone: str. Default: "resnet18".
        input_shape: three ints, (H, W, C). Default: (32, 32, 3).
        num_classes: int >= 2. Default: 10.
        batch_sizes: ints >= 1, images per inference call. Default: (1, 32, 128).
        train_batch_size: int >= 1, images per training step. Default: 64.
        num_members: int >= 1, of every method except MIMO, which keeps its default unless its text sets
            it. Default: 4.
        precision: str, "float32", "bfloat16" or "float16" with weights in float32, or "float64", as in a
            recipe. Default: "float32".

    Raises:
        ValueError: for a value out of range.
    """

    backbone: str = "resnet18"
    input_shape: tuple = (32, 32, 3)
    num_classes: int = 10
    batch_sizes: tuple = (1, 32, 128)
    train_batch_size: int = 64
    num_members: int = 4
    precision: str = "float32"

    def __post_init__(self):
        if self.backbone not in registry.BACKBONES:
            known = ", ".join(registry.BACKBONES)
            raise ValueError(f"unknown backbone {self.backbone!r}; there are {known}")
        shape = self.input_shape
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(
                f"input_shape must be height,width,channels; got {','.join(map(str, shape))}"
            )
        sizes = (*self.batch_sizes, self.train_batch_size)
        if not self.batch_sizes or min(sizes) < 1:
            raise ValueError(f"batch sizes must be at least 1; got {', '.join(map(str, sizes))}")
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            raise ValueError(f"batch sizes must differ; got {', '.join(map(str, self.batch_sizes))}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if self.num_members < 1:
            raise ValueError(f"num_members must be at least 1; got {self.num_members}")

    @property
    def tasks(self) -> list[str]:
        """The names of what is timed: a training step, and inference by batch size."""
        return [TRAIN, *map(predict, self.batch_sizes)]


def predict(size: int) -> str:
    """Return the name of the task of inference.

    Args:
        size: int, images per call.

    Returns:
        A string.
    """
    return f"predict {size}"


class BenchmarkedModel:
    """A model of the zoo under measurement: it is built, warmed up and then timed, one call at a time.

    A training step is `model.train_on_batch`: a batch of NumPy images to the device, forward, backward,
    SGD with Nesterov momentum, and loss and accuracy back. Inference is `model.predict_on_batch`: NumPy
    images to the NumPy average of the members.

    Args:
        label: str, its name in tables.
        name: str, `<method>_<backbone>`.
        make: function that returns the built `EnsembleClassifier`.
        settings: the run's `Settings`.
        known: dict of what is on record, such as its accuracy. Default: None.
    """

    of = "zoo"

    def __init__(
        self,
        label: str,
        name: str,
        make: Callable[[], EnsembleClassifier],
        settings: Settings,
        known: dict | None = None,
    ):
        self.label, self.name, self.make, self.settings = label, name, make, settings
        self.known = known or {}
        self.model = None

    def prepare(self) -> dict[str, float]:
        """Build and warm up the model.

        Returns:
            {task: seconds of a warm call}.
        """
        self.model = self.make()
        optimizer = keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)
        self.model.compile(optimizer, CrossEntropy(), metrics=[Accuracy()])
        self.calls = self._calls()
        first, warm = {}, {}
        for task, call in self.calls.items():
            first[task], warm[task] = timed(call)()[0], min(timed(call)()[0] for _ in range(2))
        kinds = {TRAIN: TRAIN, "predict": predict(self.settings.batch_sizes[0])}
        self.compile_seconds = {kind: max(first[t] - warm[t], 0.0) for kind, t in kinds.items()}
        return warm

    def measure(self, task: str) -> tuple[float, float]:
        """Time one call.

        Args:
            task: str, one of `Settings.tasks`.

        Returns:
            (wall, CPU) seconds.
        """
        return timed(self.calls[task])()

    def facts(self) -> dict:
        """Return counted costs and recorded scores, a dictionary."""
        trainable, _ = counts.parameters(self.model.network)
        counted = {"members": self.model.num_members, "parameters": trainable}
        work = training_work(step_cost(self.model.network), self.settings.train_batch_size)
        return counted | {"macs": counts.macs(self.model.network), "training_work": work, **self.known}

    def _calls(self):
        model, settings = self.model, self.settings
        rng = np.random.default_rng(0)
        shape, count = model.input_shape[1:], max(*settings.batch_sizes, settings.train_batch_size)
        images = rng.integers(0, 256, (count, *shape), "uint8")
        labels = rng.integers(0, model.num_classes, count)

        def inference(size):
            return lambda: model.predict_on_batch(images[:size])

        size = settings.train_batch_size
        calls = {TRAIN: lambda: model.train_on_batch(images[:size], labels[:size])}
        return calls | {predict(n): inference(n) for n in settings.batch_sizes}


def from_scratch(texts: Sequence[str], settings: Settings) -> list[BenchmarkedModel]:
    """Make untrained models of one backbone, the single network always first.

    Args:
        texts: methods with or without arguments, such as "packed" or "packed:gamma=2:alpha=3".
        settings: a `Settings`.

    Returns:
        A list of `BenchmarkedModel`s.

    Raises:
        ValueError: for an unknown method or argument, one out of range, or a training batch too small to
            be split among the members.
    """
    wanted = dict.fromkeys(["single", *texts])
    return [_untrained(text, settings) for text in wanted]


def _untrained(text, settings):
    name, _, given = text.partition(":")
    if name not in methods.METHODS:
        raise ValueError(f"unknown method {name!r}; there are {', '.join(methods.METHODS)}")
    kind, arguments = methods.METHODS[name], method_arguments(given.replace(":", ","))
    unknown = sorted(set(arguments) - set(methods.arguments(kind)))
    if unknown:
        known = ", ".join(methods.arguments(kind)) or "no arguments"
        raise ValueError(f"{name} takes {known}; got {', '.join(unknown)}")
    if "num_members" in methods.arguments(kind) and name != "mimo":
        arguments = {"num_members": settings.num_members} | arguments
    method = kind(**arguments)
    check_batch({"method": methods.serialize(method)}, settings.train_batch_size)

    def make():
        return build(method, settings.backbone, settings.num_classes, settings.input_shape)

    label = " ".join([name, *filter(None, given.split(":"))])
    return BenchmarkedModel(label, f"{name}_{settings.backbone}", make, settings)


def published(dataset: str, settings: Settings) -> list[BenchmarkedModel]:
    """Make models with the published weights of a backbone, the single network always first.

    Args:
        dataset: str, the data set that they were trained on.
        settings: a `Settings`.

    Returns:
        A list of `BenchmarkedModel`s.

    Raises:
        ValueError: if there are none; the message lists the data sets there are.
    """
    entries = [
        entry for entry in registry.index()
        if entry["dataset"] == dataset and registry.parse(entry["name"])[1] == settings.backbone
    ]  # fmt: skip
    if not entries:
        known = sorted({e["dataset"] for e in registry.index()
                        if registry.parse(e["name"])[1] == settings.backbone})  # fmt: skip
        raise ValueError(
            f"no weights of {settings.backbone} for {dataset!r}; there are {', '.join(known) or 'none'}"
        )
    entries.sort(key=lambda entry: not entry["name"].startswith("single_"))
    found = [_trained(entry, settings) for entry in entries]
    single = found[0].label == "single"
    return found if single else [_untrained("single", settings), *found]


def _trained(entry, settings):
    name, dataset = entry["name"], entry["dataset"]

    def make():
        return load(name, weights=dataset)

    known = {"accuracy": entry["metrics"][dataset]["accuracy"], "dataset": dataset}
    return BenchmarkedModel(registry.parse(name)[0], name, make, settings, known)
