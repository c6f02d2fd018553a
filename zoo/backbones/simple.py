"""MLP and LeNet-5 (LeCun et al., 1998), with rectifiers and max pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras import layers

from zoo.layers.initializers import HeNormal

if TYPE_CHECKING:
    from zoo.methods import Method


def _dense(method, x, units, role, name):
    x = method.dense(units, role, kernel_initializer=HeNormal(), name=name)(x)
    return method.per_member(layers.ReLU(name=f"{name}_relu"))(x)


def mlp(
    method: Method, images: Any, stem: str | None = None, hidden_units: Sequence[int] = (200, 200)
) -> Any:
    """MLP: dense layers over the flattened image.

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: ignored. Default: None.
        hidden_units: ints, units of each layer. Default: (200, 200).

    Returns:
        The features that the head takes.
    """
    x = layers.Flatten(name="flatten")(images)
    for index, units in enumerate(hidden_units):
        x = method.begin_stage(index, x) if index else x
        x = _dense(method, x, units, "hidden" if index else "stem", f"dense{index + 1}")
    return x


def lenet(method: Method, images: Any, stem: str | None = None) -> Any:
    """LeNet-5: two pooled 5x5 convolutions, dense layers of 120 and 84 (LeCun et al., 1998).

    The convolutions have 6 and 16 filters.

    Args:
        method: a layer factory, see `zoo.methods.Method`.
        images: what `expand` returned: a symbolic tensor (B, H, W, C), or a list of them.
        stem: ignored. Default: None.

    Returns:
        The features that the head takes.
    """
    x = images
    for index, filters in enumerate((6, 16)):
        name = f"conv{index + 1}"
        x = method.begin_stage(index, x) if index else x
        options = {"padding": "valid" if index else "same", "kernel_initializer": HeNormal()}
        x = method.conv(filters, 5, "hidden" if index else "stem", name=name, **options)(x)
        x = method.per_member(layers.ReLU(name=f"{name}_relu"))(x)
        x = method.per_member(layers.MaxPooling2D(name=f"{name}_pool"))(x)
    x = method.begin_stage(2, method.per_member(layers.Flatten(name="flatten"))(x))
    for index, units in enumerate((120, 84)):
        x = _dense(method, x, units, "hidden", f"dense{index + 1}")
    return x


# The stages that each announces to its method by `begin_stage`.
mlp.stages = 1  # type: ignore[attr-defined]
lenet.stages = 2  # type: ignore[attr-defined]
