"""What a training run will take, before it is started and without its data: `--dry_run`."""

import dataclasses

from zoo.checks import check_batch
from zoo.training import recipes
from zoo.training.cost.step_cost import step_cost
from zoo.training.loop.from_recipe import model_of, precision

# Shape of an image, classes, training images.
DATASETS = {
    "cifar10": ((32, 32, 3), 10, 50_000),
    "cifar100": ((32, 32, 3), 100, 50_000),
    "fashion_mnist": ((28, 28, 1), 10, 60_000),
    "imagenet2012": ((224, 224, 3), 1000, 1_281_167),
    "mnist": ((28, 28, 1), 10, 60_000),
    "svhn_cropped": ((32, 32, 3), 10, 73_257),
    "tiny_imagenet": ((64, 64, 3), 200, 100_000),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """A training run in numbers, counted and not measured.

    Fields: `name`, DATASET_METHOD_BACKBONE; `num_devices`, `batch_size` (global), `precision`, `remat`;
    `trainable` and all `parameters`; a device's `weight_bytes`, `gradient_bytes`, `slot_bytes` (of the
    optimiser) and `activation_bytes` (kept for the backward pass); `forward_macs` and `training_flops` of
    a step on all devices together; `gradient_exchange_bytes` and `statistics_exchange_bytes` that each
    device sends in a step, by ring all-reduces of gradients and of batch statistics;
    `existing_exchange_bytes`, the first without masked zeros, which are sent, too; `steps_per_epoch` and
    `steps`, None where the number of images is unknown.
    """

    name: str
    num_devices: int
    batch_size: int
    precision: str
    remat: bool
    trainable: int
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    slot_bytes: int
    activation_bytes: int
    forward_macs: int
    training_flops: int
    gradient_exchange_bytes: float
    existing_exchange_bytes: float
    statistics_exchange_bytes: float
    steps_per_epoch: int | None
    steps: int | None

    @property
    def memory_bytes(self):
        """Weights, gradient, slots and activations of a device; scratch memory comes on top."""
        return self.weight_bytes + self.gradient_bytes + self.slot_bytes + self.activation_bytes

    @property
    def exchange_bytes(self):
        """What each device sends in a step."""
        return self.gradient_exchange_bytes + self.statistics_exchange_bytes

    def text(self):
        """The report as a plain table."""
        rows = list(self._rows())
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)

    def _rows(self):
        each = self.batch_size // self.num_devices
        devices = "1 device" if self.num_devices == 1 else f"{self.num_devices} devices"
        yield "recipe", self.name
        yield "batch", f"{self.batch_size:,} images, {each:,} on each of {devices}"
        yield "precision", self.precision + (", segments computed twice" if self.remat else "")
        yield "parameters", f"{self.trainable:,} trainable, {self.parameters:,} in all"
        yield "memory a device", f"{megabytes(self.memory_bytes)} and scratch, of which"
        for part in ("weight", "gradient", "slot", "activation"):
            label = {"slot": "optimiser", "weight": "weights", "activation": "activations"}.get(
                part, part
            )
            yield f"  {label}", megabytes(getattr(self, f"{part}_bytes"))
        yield "forward pass", f"{self.forward_macs / 1e9:,.3f} GMAC a step"
        flops = self.training_flops / 1e9
        yield "training", f"{flops:,.2f} GFLOP a step, {flops / self.num_devices:,.2f} a device"
        yield "sent a step and device", f"{megabytes(self.exchange_bytes)}, of which"
        yield "  gradient", megabytes(self.gradient_exchange_bytes) + self._of_existing()
        yield "  batch statistics", megabytes(self.statistics_exchange_bytes)
        if self.steps is None:
            yield "steps", "unknown: so is the number of training images"
        else:
            yield "steps", f"{self.steps_per_epoch:,} an epoch, {self.steps:,} in all"

    def _of_existing(self):
        if self.existing_exchange_bytes == self.gradient_exchange_bytes:
            return ""
        return f" ({megabytes(self.existing_exchange_bytes)} without masked zeros)"


def report(recipe, input_shape=None, num_classes=None, *, num_devices=1, num_examples=None,
           remat=False):  # fmt: skip
    """Count what a recipe's training will take; builds the model, reads no data.

    Args:
        recipe: `zoo.training.recipes.Recipe`; its precision decides the dtype of activations.
        input_shape, num_classes: (H, W, C) and K; None takes those of a data set in `DATASETS`.
        num_devices: data-parallel devices that share a batch out, each with all weights.
        num_examples: training images, held-out ones among them; None takes the data set's.
        remat: whether segments of the network are computed twice to save memory.

    Returns:
        `Report`.

    Raises:
        ValueError: for a data set of unknown shape, a recipe that makes no model, devices that
            the batch does not divide by, fewer images than a batch, or nothing to rematerialise.
    """
    shape, classes, examples = DATASETS.get(recipe.dataset, (None, None, None))
    input_shape, num_classes = input_shape or shape, num_classes or classes
    num_examples = examples if num_examples is None else num_examples
    if input_shape is None or num_classes is None:
        known = ", ".join(DATASETS)
        raise ValueError(f"shape and classes of {recipe.dataset!r} are unknown; known are {known}")
    _check(recipe, num_devices)
    steps_per_epoch = _steps_per_epoch(recipe, num_examples)
    with precision(recipe.precision):
        model = model_of(recipe, tuple(input_shape), num_classes)
    check_batch(model.spec, recipe.batch_size)
    cost = step_cost(model.network, remat)
    ring = 2 * (num_devices - 1) / num_devices
    return Report(
        name=f"{recipe.dataset}_{recipe.method}_{recipe.backbone}",
        num_devices=num_devices,
        batch_size=recipe.batch_size,
        precision=recipe.precision,
        remat=remat,
        trainable=cost.trainable,
        parameters=cost.parameters,
        weight_bytes=cost.weight_bytes,
        gradient_bytes=cost.gradient_bytes,
        slot_bytes=cost.gradient_bytes if recipe.momentum else 0,
        activation_bytes=cost.activation_bytes * (recipe.batch_size // num_devices),
        forward_macs=cost.macs * recipe.batch_size,
        training_flops=cost.training_flops * recipe.batch_size,
        gradient_exchange_bytes=ring * cost.gradient_bytes,
        existing_exchange_bytes=ring * cost.existing_bytes,
        statistics_exchange_bytes=ring * cost.statistics_bytes,
        steps_per_epoch=steps_per_epoch,
        steps=steps_per_epoch and steps_per_epoch * recipe.epochs,
    )


def run_flops(recipe, input_shape=None, num_classes=None, num_examples=None):
    """FLOPs that a whole run of a recipe takes, by the image sizes of its epochs.

    Args:
        recipe, input_shape, num_classes, num_examples: as in `report`.

    Returns:
        An integer; 2 a multiply-accumulate, the backward pass twice the forward pass.

    Raises:
        ValueError: as `report`.
    """
    shape = input_shape or DATASETS.get(recipe.dataset, (None,))[0]
    total, epoch = 0, 0
    for size, last in recipes.size_stages(recipe):
        at = (size, size, shape[-1]) if size else shape
        counted = report(recipe, at, num_classes, num_examples=num_examples)
        total += counted.training_flops * counted.steps_per_epoch * (last - epoch)
        epoch = last
    return int(total)


def _check(recipe, num_devices):
    if not (isinstance(num_devices, int) and num_devices >= 1):
        raise ValueError(f"num_devices must be an integer >= 1; got {num_devices!r}")
    if recipe.batch_size < 1 or recipe.batch_size % num_devices:
        raise ValueError(
            f"batch_size={recipe.batch_size} cannot be shared out equally among {num_devices} devices; "
            f"take a multiple of {num_devices}"
        )


def _steps_per_epoch(recipe, num_examples):
    """Whole batches of the images that are not held out; None where their number is unknown."""
    if num_examples is None:
        return None
    left = num_examples - round(num_examples * recipe.held_out)
    if left < recipe.batch_size:
        raise ValueError(f"batch_size={recipe.batch_size} is more than the {left} training images")
    return left // recipe.batch_size


def megabytes(count):
    """Bytes in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count / 1e3:,.1f} kB"
