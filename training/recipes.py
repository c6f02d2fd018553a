"""Recipes: one per data set and backbone, the same for every method, so that updates are equal.

    python -m zoo.training.train --recipe=cifar10_packed_resnet20 --data_dir=DATA --output_dir=RUN

A recipe's name is DATASET_METHOD_BACKBONE; every other field is also a flag.  The cards of
`saved_models/` have the measured costs and scores of runs.
"""

import dataclasses
import json

from zoo import registry
from zoo.registry import method_arguments
from zoo.training.recipe_checks import check_recipe


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Args:
        dataset: str, name of the data set, as in `DATA_DIR/NAME.npz`.
        method: str, such as "packed".
        backbone: str, such as "resnet50".
        num_members: int, M; 0 takes the method's default. Default: 0.
        alpha: float, width of all members together, in single networks, where the method has it.
            Default: 2.0.
        gamma: int, groups inside each member, where the method has them. Default: 1.
        arguments: str, the method's other arguments: "rank=2,tile_at=1". Default: "".
        batch_size: int, images of one step on all devices together. Default: 128.
        epochs: int, passes over the training images. Default: 200.
        learning_rate: float, peak rate of SGD with Nesterov momentum. Default: 0.1.
        momentum: float, the momentum of SGD. Default: 0.9.
        accumulate: int, steps whose gradients make one update. Default: 1.
        clip_norm: float, bound of the norm of all gradients together; 0 for none. Default: 0.0.
        schedule: "cosine" or "linear", both down to 0, or "step". Default: "cosine".
        warm_up: float, share of all steps in which the rate rises linearly to its peak. Default: 0.025.
        milestones: tuple of float, shares of all steps at which the schedule "step" lowers the rate.
            Default: (0.3, 0.6, 0.8).
        factor: float, multiplies the rate at each milestone. Default: 0.2.
        bias_factor: float, multiplies the learning rate of the offsets of normalisations. Default: 1.0.
        weight_decay: float, as in L2-regularised SGD (gradient + weight_decay * w), on kernels alone.
            Default: 5e-4.
        ema: float, momentum of the average of the weights over steps (Keras's `use_ema`), which becomes
            the trained model; 0 for none. Default: 0.0.
        label_smoothing: float, share of a label that is spread over all classes. Default: 0.0.
        shift: int, pixels by which images are moved at random, each way. Default: 4.
        padding: "zeros" or "reflect", what moves in from beyond the border. Default: "zeros".
        flip: bool, whether to mirror images from left to right at random. Default: True.
        alternate_flips: bool, whether to mirror a random half first and then every image every other
            epoch. Default: False.
        cutout: int, side in pixels of the square that is blanked at random; 0 for none. Default: 0.
        image_sizes: str, side in pixels of the images in the first epochs, "32:10,48:3": ten epochs at
            32, three at 48, and the others at full size. Default: "".
        held_out: float, share of the training images kept for validation. Default: 0.0.
        stream: bool, whether images are read and decoded during training. Default: False.
        image_size: int, side in pixels of streamed images, cropped at random; 0 keeps their size.
            Default: 0.
        precision: "float32", "bfloat16" or "float16" with weights in float32 (loss scaling is
            automatic), or a Keras dtype policy. Default: "float32".
        seed: int, decides initial weights, the order of images and augmentation. Default: 0.
        stem: str, "cifar", "imagenet", or "" to choose by the image size, see `zoo.build`. Default: "".
        weights: str, weights of the single network of this backbone that training starts from, as
            `zoo.load` takes them: a data set's name or the folder of a run. Methods that share kernels
            among members take them, see `zoo.convert`. Default: "", new weights.

    Raises:
        ValueError: for a field out of range, with one line that names it.
    """

    dataset: str
    method: str
    backbone: str
    num_members: int = 0
    alpha: float = 2.0
    gamma: int = 1
    arguments: str = ""
    batch_size: int = 128
    epochs: int = 200
    learning_rate: float = 0.1
    momentum: float = 0.9
    accumulate: int = 1
    clip_norm: float = 0.0
    schedule: str = "cosine"
    warm_up: float = 0.025
    milestones: tuple = (0.3, 0.6, 0.8)
    factor: float = 0.2
    bias_factor: float = 1.0
    weight_decay: float = 5e-4
    ema: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 4
    padding: str = "zeros"
    flip: bool = True
    alternate_flips: bool = False
    cutout: int = 0
    image_sizes: str = ""
    held_out: float = 0.0
    stream: bool = False
    image_size: int = 0
    precision: str = "float32"
    seed: int = 0
    stem: str = ""
    weights: str = ""

    def __post_init__(self):
        check_recipe(self)
        size_stages(self)
        method_arguments(self.arguments)


# By method, which script of this folder trains it; all others are trained by `train`.
SCRIPTS = {
    "deep_ensemble": "members", "hyper_deep": "hyper_deep", "dst_tickets": "tickets",
    "edst_tickets": "tickets",
}  # fmt: skip

# Per data set and backbone, whatever the method.
_SETTINGS = {
    # airbench94 (arXiv 2404.00498), 500 images a batch: half an hour on two fast CPU cores.
    ("cifar10", "cifarnet"): {
        "batch_size": 500, "epochs": 14, "learning_rate": 0.73, "momentum": 0.85, "schedule": "linear",
        "warm_up": 0.23, "bias_factor": 64.0, "weight_decay": 1.33e-3, "image_sizes": "24:6", "shift": 2,
        "padding": "reflect", "alternate_flips": True,
    },
    ("cifar100", "cifarnet"): {
        "batch_size": 500, "epochs": 14, "learning_rate": 0.73, "momentum": 0.85, "schedule": "linear",
        "warm_up": 0.23, "bias_factor": 64.0, "weight_decay": 1.33e-3, "image_sizes": "24:6", "shift": 2,
        "padding": "reflect", "alternate_flips": True,
    },
    # Photographs 64x64, most epochs at half their size: two hours on two CPU cores that compute in bfloat16.
    ("tiny_imagenet", "resnet50"): {
        "batch_size": 250, "epochs": 14, "learning_rate": 0.5, "schedule": "linear", "warm_up": 0.125,
        "weight_decay": 5e-5, "image_sizes": "32:10,48:2", "shift": 6, "padding": "reflect",
        "alternate_flips": True, "stem": "imagenet",
    },
    # An hour or two on two CPU cores.  Members of alpha=2 have 8 channels and underfit: .834 in 8 epochs.
    ("cifar10", "resnet20"): {
        "alpha": 3.0, "epochs": 14, "learning_rate": 0.2, "warm_up": 0.25, "weight_decay": 2e-4,
        "shift": 2,
    },
    ("cifar10", "lenet"): {"epochs": 10, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2},
    ("mnist", "lenet"): {"epochs": 8, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2, "flip": False},
    ("mnist", "mlp"): {"epochs": 8, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2, "flip": False},
    # A minute and a half on one core for the single network, ten for a hyper-batch ensemble.
    ("fashion_mnist", "lenet"): {
        "epochs": 6, "learning_rate": 0.06, "warm_up": 0.25, "shift": 2, "held_out": 0.1,
    },
    ("fashion_mnist", "mlp"): {"epochs": 20, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2},
    # torch-uncertainty's recipes for the published Packed-Ensembles tables; a GPU's work.
    ("cifar10", "resnet18"): {
        "epochs": 75, "learning_rate": 0.05, "schedule": "step", "milestones": (1 / 3, 2 / 3),
        "factor": 0.1, "warm_up": 0.0,
    },
    ("cifar10", "resnet50"): {"learning_rate": 0.1, "schedule": "step", "warm_up": 0.005},
    # Goyal et al. (2017): 0.1 for 256 images; a GPU's work for days, never run here to the end.
    ("imagenet2012", "resnet50"): {
        "batch_size": 256, "epochs": 90, "learning_rate": 0.1, "schedule": "step", "weight_decay": 1e-4,
        "milestones": (1 / 3, 2 / 3, 8 / 9), "factor": 0.1, "warm_up": 1 / 18, "stream": True,
        "image_size": 224,
    },
    ("cifar10", "wide_resnet28_10"): {"learning_rate": 0.1, "schedule": "step", "warm_up": 0.005},
}  # fmt: skip


def recorded(recipe: dict | None) -> dict:
    """Complete a recipe that was written to a file, perhaps before some fields existed.

    Args:
        recipe: dict from the name of a field to its value, or None where none was written.

    Returns:
        dict, with the defaults of the fields that it lacks.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    given = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
    return json.loads(json.dumps({**given, **(recipe or {})}))


def size_stages(recipe: Recipe) -> list[tuple[int | None, int]]:
    """List the image sizes at which a recipe trains, in order.

    Args:
        recipe: a `Recipe`.

    Returns:
        A list of (pixels of a side, last epoch); the last size is None, that of the data set's images.

    Raises:
        ValueError: for `image_sizes` that are not like "32:10,48:3", or take more than all epochs.
    """
    stages, last = [], 0
    for part in filter(None, recipe.image_sizes.split(",")):
        size, _, epochs = part.partition(":")
        digits = part.isascii() and size.strip().isdecimal() and epochs.strip().isdecimal()
        if not (digits and int(size) and int(epochs)):
            raise ValueError(
                f'image_sizes must be SIZE:EPOCHS pairs separated by commas, as "32:10,48:3"; got '
                f"{recipe.image_sizes!r}"
            )
        last += int(epochs)
        stages.append((int(size), last))
    if last >= recipe.epochs and stages:
        raise ValueError(
            f"image_sizes={recipe.image_sizes!r} takes {last} epochs; epochs={recipe.epochs} must be more, so "
            "that the last train at full size"
        )
    return [*stages, (None, recipe.epochs)]


def checked_arguments(recipe: Recipe, known: list[str]) -> dict:
    """Read a recipe's arguments for its method, including `num_members` if it is set.

    Args:
        recipe: a `Recipe`.
        known: list of str, names of the method's arguments.

    Returns:
        A dictionary from name to value.

    Raises:
        ValueError: for an argument that is not among `known`.
    """
    arguments = method_arguments(recipe.arguments)
    if recipe.num_members:
        arguments["num_members"] = recipe.num_members
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(f"{recipe.method} takes no argument {', '.join(unknown)}")
    return arguments


def recipe(name: str) -> Recipe:
    """Find the recipe of a name.

    A backbone without settings for any data set, such as one that was registered from outside the
    package, gets the defaults of `Recipe`.

    Args:
        name: str, DATASET_METHOD_BACKBONE, such as "cifar10_packed_resnet20".

    Returns:
        A `Recipe`.

    Raises:
        ValueError: for a name that has no recipe.
    """
    for (dataset, backbone), settings in _SETTINGS.items():
        if name.startswith(f"{dataset}_") and name.endswith(f"_{backbone}"):
            method = name[len(dataset) + 1 : -len(backbone) - 1]
            return Recipe(dataset, method, backbone, **settings)
    others = set(registry.BACKBONES) - {backbone for _, backbone in _SETTINGS}
    for backbone in sorted(others, key=len, reverse=True):  # one name may end with another
        for method in sorted(registry.METHODS, key=len, reverse=True):
            dataset = name.removesuffix(f"_{method}_{backbone}")
            if dataset not in ("", name):
                return Recipe(dataset, method, backbone)
    known = ", ".join(f"{dataset}_METHOD_{backbone}" for dataset, backbone in _SETTINGS)
    raise ValueError(f"unknown recipe {name!r}; there are {known}")
