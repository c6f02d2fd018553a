"""Recipes: one a data set and backbone, the same for every method and so with equal updates.

    python -m zoo.training.train --recipe=cifar10_packed_resnet20 --data_dir=DATA --output_dir=RUN

A recipe's name is DATASET_METHOD_BACKBONE; every other field is also a flag.  What a run costs and
reaches is measured and stands in the cards of `saved_models/`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Fields: dataset, method, backbone, and the method's `num_members`, `alpha`, `gamma` where it has
    them; `batch_size` (global), `epochs`; SGD with Nesterov `momentum`, peak `learning_rate`,
    `warm_up` (share of all steps), `schedule` "cosine" or "step" (with `milestones`, shares of all
    steps, and `factor`); `weight_decay` as in L2-regularised SGD (gradient + weight_decay * w), on
    kernels alone; `label_smoothing`; augmentation by `shift` pixels and `flip`; `held_out`, share of
    the training images kept for validation; `precision`, a Keras dtype policy; `seed`.
    """

    dataset: str
    method: str
    backbone: str
    num_members: int = 4
    alpha: float = 2.0
    gamma: int = 1
    batch_size: int = 128
    epochs: int = 200
    learning_rate: float = 0.1
    momentum: float = 0.9
    schedule: str = "cosine"
    warm_up: float = 0.025
    milestones: tuple = (0.3, 0.6, 0.8)
    factor: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    shift: int = 4
    flip: bool = True
    held_out: float = 0.0
    precision: str = "float32"
    seed: int = 0


# Per data set and backbone, whatever the method.
_SETTINGS = {
    # An hour or two on two CPU cores.
    ("cifar10", "resnet20"): {"epochs": 8, "learning_rate": 0.2, "warm_up": 0.25, "weight_decay": 2e-4},
    ("cifar10", "lenet"): {"epochs": 10, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2},
    ("mnist", "lenet"): {"epochs": 8, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2, "flip": False},
    ("mnist", "mlp"): {"epochs": 8, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2, "flip": False},
    ("fashion_mnist", "lenet"): {"epochs": 20, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2},
    ("fashion_mnist", "mlp"): {"epochs": 20, "learning_rate": 0.02, "warm_up": 0.25, "shift": 2},
    # torch-uncertainty's recipes for the published Packed-Ensembles tables; a GPU's work.
    ("cifar10", "resnet18"): {
        "epochs": 75, "learning_rate": 0.05, "schedule": "step", "milestones": (1 / 3, 2 / 3),
        "factor": 0.1, "warm_up": 0.0,
    },
    ("cifar10", "resnet50"): {"learning_rate": 0.1, "schedule": "step", "warm_up": 0.005},
    ("cifar10", "wide_resnet28_10"): {"learning_rate": 0.1, "schedule": "step", "warm_up": 0.005},
}  # fmt: skip


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
