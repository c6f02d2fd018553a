"""The one validation of a recipe: every field has its type and range, wherever it came from."""

import math
from typing import Any

_COUNTS = ("batch_size", "epochs", "accumulate", "gamma")  # >= 1
_SIZES = ("num_members", "shift", "cutout", "image_size", "seed")  # >= 0
_SHARES = ("momentum", "warm_up", "ema", "label_smoothing", "held_out")  # in [0, 1)
_POSITIVE = ("alpha", "learning_rate", "factor", "bias_factor")
_NOT_NEGATIVE = ("clip_norm", "weight_decay")
_TRUTHS = ("flip", "alternate_flips", "stream")
_CHOICES = {
    "schedule": ("cosine", "linear", "step"),
    "padding": ("zeros", "reflect"),
    "stem": ("", "cifar", "imagenet"),
    "precision": ("float32", "bfloat16", "float16", "float64", "mixed_bfloat16", "mixed_float16"),
}
_TEXTS = ("dataset", "method", "backbone", "arguments", "image_sizes", "weights")
MOST = 2**31 - 1  # of whole numbers, and of seeds


def check_recipe(recipe: Any) -> None:
    """Check the fields of a recipe one by one.

    Args:
        recipe: a `zoo.training.recipes.Recipe`.

    Raises:
        ValueError: naming the first field that is out of range, and its range.
    """
    for name in (*_COUNTS, *_SIZES):
        _check_integer(name, getattr(recipe, name), 1 if name in _COUNTS else 0)
    for name in (*_SHARES, *_POSITIVE, *_NOT_NEGATIVE):
        _check_number(name, getattr(recipe, name))
    for name in _TRUTHS:
        value = getattr(recipe, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false; got {value!r}")
    for name, choices in _CHOICES.items():
        if getattr(recipe, name) not in choices:
            known = ", ".join(repr(choice) for choice in choices)
            raise ValueError(f"{name} must be one of {known}; got {getattr(recipe, name)!r}")
    for name in _TEXTS:
        if not isinstance(getattr(recipe, name), str):
            raise ValueError(f"{name} must be text; got {getattr(recipe, name)!r}")
    _check_milestones(recipe.milestones)


def check_limit(limit: int | None) -> None:
    """Check the number of images of a trial run.

    Args:
        limit: int >= 1, or None for all images.

    Raises:
        ValueError: for anything else.
    """
    if limit is not None:
        _check_integer("limit", limit, 1)


def _check_integer(name, value, least):
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and least <= value <= MOST):
        raise ValueError(f"{name} must be an integer >= {least}; got {value!r}")


def _check_number(name, value):
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if name in _SHARES and not (finite and 0 <= value < 1):
        raise ValueError(f"{name} must be in [0, 1); got {value!r}")
    if name in _POSITIVE and not (finite and value > 0):
        raise ValueError(f"{name} must be a number > 0; got {value!r}")
    if name in _NOT_NEGATIVE and not (finite and value >= 0):
        raise ValueError(f"{name} must be a number >= 0; got {value!r}")


def _check_milestones(milestones):
    shares = milestones if isinstance(milestones, (tuple, list)) else [None]
    good = all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in shares)
    if not good or list(shares) != sorted(shares):
        raise ValueError(f"milestones must be rising shares of all steps, in [0, 1]; got {milestones!r}")
