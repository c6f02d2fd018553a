"""Type names that annotations share.  Importing them loads no backend."""

from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

Tensor: TypeAlias = Any  # a tensor of the Keras backend, or a symbolic KerasTensor
LayerLike: TypeAlias = Callable[..., Tensor]  # a Keras layer, or a function that takes what it would

__all__ = ["ArrayLike", "LayerLike", "Tensor"]
