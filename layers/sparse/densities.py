"""How dense each layer of a sparse network is: by Erdos-Renyi-Kernel, or uniform.  Plain NumPy."""

import math
from collections.abc import Sequence

import numpy as np

from zoo.layers.argument_checks import check_number


def check_sparsity(sparsity: float) -> None:
    """Check that a sparsity, the share of zeros, is a number in [0, 1).

    Args:
        sparsity: float.

    Raises:
        ValueError: if it is not.
    """
    check_number(sparsity, "sparsity", "in [0, 1): the share of zeros", lambda share: 0 <= share < 1)


def erk_densities(shapes: Sequence[Sequence[int]], sparsity: float, power: float = 1.0) -> np.ndarray:
    """Erdos-Renyi-Kernel: the smaller a kernel, the denser.

    Layer l with a kernel of shape s_l has density min(1, eps * raw_l), where

        raw_l = (sum(s_l) / prod(s_l)) ** power,

    which is (inputs + outputs + height + width) / (inputs * outputs * height * width) in a convolution, and
    eps is such that the kernels together have density 1 - sparsity. Where eps * raw_l exceeds 1, the layers
    with the largest raw_l become dense, and eps is computed again for the others.

    Args:
        shapes: sequence of L tuples of int, the shapes of the kernels.
        sparsity: float S in [0, 1), the share of zeros in all kernels together.
        power: float; 0 makes all densities equal. Default: 1.0.

    Returns:
        Densities, float64 array (L,).

    Raises:
        ValueError: for a sparsity out of range or no shapes.

    References:
        Mocanu et al., Scalable Training of ANNs with Adaptive Sparse Connectivity, 2018, arXiv
        1707.04780 (without kernel sizes); Evci et al., Rigging the Lottery, ICML 2020, arXiv 1911.11134.

    Example:
        >>> zoo.layers.erk_densities([(3, 3, 3, 16), (64, 64), (64, 10)], sparsity=0.8).round(2).tolist()
        [0.26, 0.14, 0.53]
    """
    sizes = _sizes(shapes, sparsity)
    raw = np.array([(sum(shape) / math.prod(shape)) ** power for shape in shapes])
    dense = np.zeros(len(sizes), bool)
    while not dense.all():
        budget = (1 - sparsity) * sizes.sum() - sizes[dense].sum()
        scale = budget / (raw * sizes)[~dense].sum()
        most = raw[~dense].max()
        if scale * most <= 1:
            return np.where(dense, 1.0, scale * raw)
        dense |= raw == most
    return np.ones(len(sizes))


def uniform_densities(shapes: Sequence[Sequence[int]], sparsity: float) -> np.ndarray:
    """The same density, 1 - sparsity, in every layer.

    Args:
        shapes: sequence of L tuples of int, the shapes of the kernels.
        sparsity: float S in [0, 1), the share of zeros.

    Returns:
        Densities, float64 array (L,).

    Raises:
        ValueError: for a sparsity out of range or no shapes.
    """
    return np.full(len(_sizes(shapes, sparsity)), 1.0 - sparsity)


def nonzero_counts(
    shapes: Sequence[Sequence[int]], densities: Sequence[float] | np.ndarray
) -> list[int]:
    """Whole numbers of non-zeros that follow the densities and match their total.

    Each is the layer's density times its size, rounded up or down. Those with the largest fractions are
    rounded up, so that the sum is the rounded total, unless layers would be left without any: every layer has
    at least one non-zero, because a layer of zeros learns nothing.

    Args:
        shapes: sequence of L tuples of int, the shapes of the kernels.
        densities: array (L,) of numbers in (0, 1].

    Returns:
        List of L int.
    """
    sizes = np.array([math.prod(shape) for shape in shapes])
    wanted = np.round(np.asarray(densities) * sizes, 6)  # 0.1 * 30 is not 3.0000000000000004 weights
    counts = np.floor(wanted).astype("int64")
    left = round(wanted.sum()) - int(counts.sum())
    counts[np.argsort(counts - wanted, kind="stable")[:left]] += 1
    return [int(count) for count in np.clip(counts, 1, sizes)]


DISTRIBUTIONS = {"erk": erk_densities, "uniform": uniform_densities}


def _sizes(shapes, sparsity):
    check_sparsity(sparsity)
    if not len(shapes):
        raise ValueError("there are no kernels to make sparse")
    return np.array([math.prod(shape) for shape in shapes], "float64")
