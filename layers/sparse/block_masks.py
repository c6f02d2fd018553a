"""Kernels of Dense layers in blocks: connections that exist together or not at all.  NumPy alone.

A kernel (C, F) in blocks of (outputs, inputs) is a grid (C / inputs, F / outputs) of them; without a block
shape (None) every weight is a block of its own, whatever the kernel's shape.
"""

import numpy as np


def checked(block_shape):
    """(outputs, inputs) as a tuple, or None.

    Raises:
        ValueError: for what is not two integers >= 1.
    """
    if block_shape is None:
        return None
    shape = tuple(block_shape) if isinstance(block_shape, (tuple, list)) else ()
    if len(shape) != 2 or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(
            f"block_shape must be (outputs, inputs), two integers >= 1 such as (1, 4); got {block_shape!r}"
        )
    return shape


def grid(shape, block_shape, name="layer"):
    """Shape of the grid of blocks of a kernel of that shape, of the layer of that name.

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


def means(values, block_shape):
    """Mean absolute value of each block, an array of the grid's shape."""
    if block_shape is None:
        return np.abs(values)
    rows, columns = grid(values.shape, block_shape)
    return np.abs(values).reshape(rows, block_shape[1], columns, block_shape[0]).mean(axis=(1, 3))


def spread(of_blocks, block_shape):
    """What each block has, for each of its weights: an array of the kernel's shape."""
    if block_shape is None:
        return of_blocks
    return of_blocks.repeat(block_shape[1], axis=0).repeat(block_shape[0], axis=1)


def of_mask(mask, block_shape):
    """Which blocks a mask of whole blocks has, a boolean array of the grid's shape.

    Raises:
        ValueError: where part of a block is masked.
    """
    if block_shape is None:
        return mask
    found = mask[:: block_shape[1], :: block_shape[0]]
    if (spread(found, block_shape) != mask).any():
        raise ValueError(
            f"the mask is not made of whole blocks of {block_shape}; part of a block is masked"
        )
    return found
