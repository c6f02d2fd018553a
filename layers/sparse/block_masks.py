"""Masks of Dense kernels in blocks of weights that exist together or not at all, in plain NumPy.

A kernel (C, F) with blocks of (outputs, inputs) is a grid (C / inputs, F / outputs) of blocks.  Without
a block shape (None) every weight is a block, whatever the kernel's shape.
"""

from collections.abc import Sequence

import numpy as np


def checked(block_shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """Check a block shape.

    Args:
        block_shape: two int >= 1, (outputs, inputs), or None for single weights.

    Returns:
        (outputs, inputs) as a tuple, or None.

    Raises:
        ValueError: for anything else.
    """
    if block_shape is None:
        return None
    shape = tuple(block_shape) if isinstance(block_shape, (tuple, list)) else ()
    if len(shape) != 2 or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(
            f"block_shape must be (outputs, inputs), two integers >= 1 such as (1, 4); got {block_shape!r}"
        )
    return shape


def grid(shape: Sequence[int], block_shape: Sequence[int] | None, name: str = "layer") -> tuple:
    """The shape of a kernel's grid of blocks.

    Args:
        shape: tuple of int, the kernel's shape; (inputs, outputs) with a block shape.
        block_shape: (outputs, inputs) of a block, or None.
        name: str, the layer's name for the error message. Default: "layer".

    Returns:
        Tuple of int: (inputs, outputs) counted in blocks, or the kernel's shape without a block shape.

    Raises:
        ValueError: where blocks do not divide the kernel.
    """
    if block_shape is None:
        return tuple(shape)
    (inputs, units), (high, wide) = shape, block_shape
    if inputs % wide or units % high:
        raise ValueError(
            f"{name} has {inputs} inputs and {units} outputs, which blocks of {wide} inputs x {high} outputs "
            "do not divide; choose other sizes, or leave the layer out"
        )
    return inputs // wide, units // high


def means(values: np.ndarray, block_shape: Sequence[int] | None) -> np.ndarray:
    """The mean absolute value of each block.

    Args:
        values: array of the kernel's shape.
        block_shape: (outputs, inputs) of a block, or None.

    Returns:
        Array of the grid's shape.

    Raises:
        ValueError: where blocks do not divide the kernel.
    """
    if block_shape is None:
        return np.abs(values)
    rows, columns = grid(values.shape, block_shape)
    return np.abs(values).reshape(rows, block_shape[1], columns, block_shape[0]).mean(axis=(1, 3))


def spread(of_blocks: np.ndarray, block_shape: Sequence[int] | None) -> np.ndarray:
    """Repeat each block's value for all of its weights.

    Args:
        of_blocks: array of the grid's shape.
        block_shape: (outputs, inputs) of a block, or None.

    Returns:
        Array of the kernel's shape.
    """
    if block_shape is None:
        return of_blocks
    return of_blocks.repeat(block_shape[1], axis=0).repeat(block_shape[0], axis=1)


def of_mask(mask: np.ndarray, block_shape: Sequence[int] | None) -> np.ndarray:
    """Which blocks a mask of whole blocks contains.

    Args:
        mask: boolean array of the kernel's shape.
        block_shape: (outputs, inputs) of a block, or None.

    Returns:
        Boolean array of the grid's shape.

    Raises:
        ValueError: where only part of a block is masked.
    """
    if block_shape is None:
        return mask
    found = mask[:: block_shape[1], :: block_shape[0]]
    if (spread(found, block_shape) != mask).any():
        raise ValueError(
            f"the mask is not made of whole blocks of {block_shape}; part of a block is masked"
        )
    return found
