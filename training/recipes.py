"""Recipes: one a data set and backbone, the same for every method and so with equal updates.

    python -m zoo.training.train --recipe=cifar10_packed_resnet20 --data_dir=DATA --output_dir=RUN

A recipe's name is DATASET_METHOD_BACKBONE; every other field is also a flag.  What a run costs and
reaches is measured and stands in the cards of `saved_models/`.
"""

import ast
import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Fields: dataset, method, backbone, and of the method's arguments `num_members` (0: its default),
    `alpha` and `gamma` where it has them, the others in `arguments`, "rank=2,tile_at=1"; `batch_size` (global), `epochs`; SGD with Nesterov `momentum`, peak `learning_rate`,
    `accumulate` (steps whose gradients make one update), `clip_norm` (of all gradients together; 0:
    none), `warm_up` (share of all steps), `schedule` "cosine" or "step" (with `milestones`, shares of all
    steps, and `factor`); `weight_decay` as in L2-regularised SGD (gradient + weight_decay * w), on
    kernels alone; `label_smoothing`; augmentation by `shift` pixels and `flip`; `held_out`, share of
    the training images kept for validation; `stream`, whether images are read and decoded while it
    trains, and their `image_size` then (0: as they are), by random crops in place of shifts; `precision`, "float32", or "bfloat16" or "float16" with weights in float32
    (loss scaling is automatic), or a Keras dtype policy; `seed`.
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
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    shift: int = 4
    flip: bool = True
    held_out: float = 0.0
    stream: bool = False
    image_size: int = 0
    precision: str = "float32"
    seed: int = 0


# Per data set and backbone, whatever the method.
_SETTINGS = {
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


def method_arguments(text):
    """A method's arguments as a dictionary from "rank=2,tile_at=head".

    Raises:
        ValueError: for a part without a name or a value.
    """
    arguments = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f'arguments must be like "rank=2,tile_at=1"; got {text!r}')
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def checked_arguments(recipe, known):
    """A recipe's arguments for its method, `num_members` among them where it is set.

    Raises:
        ValueError: for one that is not among `known`.
    """
    arguments = method_arguments(recipe.arguments)
    if recipe.num_members:
        arguments["num_members"] = recipe.num_members
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(f"{recipe.method} takes no argument {', '.join(unknown)}")
    return arguments


def recipe(name):
    """The recipe of such a name.

    Raises:
        ValueError: for a name that is no DATASET_METHOD_BACKBONE with a recipe.
    """
    for (dataset, backbone), settings in _SETTINGS.items():
        if name.startswith(f"{dataset}_") and name.endswith(f"_{backbone}"):
            method = name[len(dataset) + 1 : -len(backbone) - 1]
            return Recipe(dataset, method, backbone, **settings)
    known = ", ".join(f"{dataset}_METHOD_{backbone}" for dataset, backbone in _SETTINGS)
    raise ValueError(f"unknown recipe {name!r}; there are {known}")
