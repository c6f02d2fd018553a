"""Report what a training run will take, without data and before it starts: `--dry_run`."""

import dataclasses

from zoo.checks import check_batch
from zoo.precision import precision
from zoo.training import recipes
from zoo.training.cost.step_cost import step_cost
from zoo.training.loop.from_recipe import model_of

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
    """A training run in numbers that were counted, not measured.

    Args:
        name: str, DATASET_METHOD_BACKBONE.
        num_devices: int, data-parallel devices.
        batch_size: int, images of a step on all devices together.
        precision: str, the dtype of activations.
        remat: bool, whether segments are computed twice.
        trainable: int, trainable parameters.
        parameters: int, all parameters.
        weight_bytes: int, bytes of a device's weights.
        gradient_bytes: int, bytes of a device's gradient.
        slot_bytes: int, bytes of a device's optimiser slots.
        activation_bytes: int, bytes that a device keeps for the backward pass.
        forward_macs: int, multiply-accumulates of a step's forward pass on all devices together.
        training_flops: int, FLOPs of a step on all devices together.
        gradient_exchange_bytes: float, bytes of gradients that each device sends in a step, by ring
            all-reduces.
        existing_exchange_bytes: float, the same without masked zeros, which are sent too.
        statistics_exchange_bytes: float, bytes of batch statistics that each device sends in a step.
        steps_per_epoch: int, or None if the number of images is unknown.
        steps: int, steps of the whole run, or None if the number of images is unknown.
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
    def memory_bytes(self) -> int:
        """Bytes of weights, gradient, slots and activations on a device; scratch memory comes on top."""
        return self.weight_bytes + self.gradient_bytes + self.slot_bytes + self.activation_bytes

    @property
    def exchange_bytes(self) -> float:
        """Bytes that each device sends in a step."""
        return self.gradient_exchange_bytes + self.statistics_exchange_bytes

    def text(self) -> str:
        """Return the report as a plain table."""
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
            yield "steps", "unknown, because the number of training images is"
        else:
            yield "steps", f"{self.steps_per_epoch:,} an epoch, {self.steps:,} in all"

    def _of_existing(self):
        if self.existing_exchange_bytes == self.gradient_exchange_bytes:
            return ""
        return f" ({megabytes(self.existing_exchange_bytes)} without masked zeros)"


def report(
    recipe: recipes.Recipe,
    input_shape: tuple | None = None,
    num_classes: int | None = None,
    *,
    num_devices: int = 1,
    num_examples: int | None = None,
    remat: bool = False,
) -> Report:
    """Count what a recipe's training will take; this builds the model but reads no data.

    Args:
        recipe: `zoo.training.recipes.Recipe`; its precision decides the dtype of activations.
        input_shape: (H, W, C), or None for that of a data set in `DATASETS`. Default: None.
        num_classes: int K, or None for that of the data set. Default: None.
        num_devices: int, data-parallel devices that split each batch; each has all weights. Default: 1.
        num_examples: int, training images, held-out ones included; None for the data set's. Default:
            None.
        remat: bool, whether segments of the network are computed twice to save memory. Default: False.

    Returns:
        `Report`.

    Raises:
        ValueError: if the data set's shape is unknown, the recipe makes no model, the batch is not
            divisible by the devices, there are fewer images than a batch, or no cut saves memory.
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


def run_flops(
    recipe: recipes.Recipe,
    input_shape: tuple | None = None,
    num_classes: int | None = None,
    num_examples: int | None = None,
) -> int:
    """Count the FLOPs of a whole run of a recipe, with the image size of each epoch.

    Args:
        recipe: `zoo.training.recipes.Recipe`.
        input_shape: (H, W, C), or None for that of a data set in `DATASETS`. Default: None.
        num_classes: int K, or None for that of the data set. Default: None.
        num_examples: int, training images, held-out ones included; None for the data set's. Default:
            None.

    Returns:
        int; a multiply-accumulate is two FLOPs, and the backward pass takes twice the forward pass.

    Raises:
        ValueError: if `report` refuses the recipe.
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


def megabytes(count: float) -> str:
    """Write a number of bytes with a unit: kB, MB or GB.

    Args:
        count: float, bytes.

    Returns:
        str, such as "1.25 MB".
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count / 1e3:,.1f} kB"
