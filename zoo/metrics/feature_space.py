"""Similarity of features: linear CKA of arrays, and of a model's members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Return the linear centred kernel alignment (CKA) of two sets of features of the same N images.

        CKA = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F), with X and Y centred over the images;

    in [0, 1], and not changed by rotations and scalings of either. With few images per feature it is
    biased upwards.

    Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, arXiv
    1905.00414.

    Args:
        x: array (N, ...), flattened to (N, P).
        y: array (N, ...), flattened to (N, Q).

    Returns:
        A float.

    Raises:
        ValueError: for lengths that differ, fewer than 2 images, NaN or infinite features, and
            features that are the same for all images.

    Example:
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
        >>> round(zoo.metrics.linear_cka(x, 3 * x[:, ::-1]), 6)
        1.0
    """
    x, y = _centred(x), _centred(y)
    if len(x) != len(y):
        raise ValueError(f"features must be of the same images; got {len(x)} and {len(y)} rows")
    if x.shape[1] + y.shape[1] <= 2 * len(x):
        between, own, other = y.T @ x, x.T @ x, y.T @ y
        return float(np.sum(between**2) / (np.linalg.norm(own) * np.linalg.norm(other)))
    own, other = x @ x.T, y @ y.T  # as many numbers as images squared
    return float(np.sum(own * other) / (np.linalg.norm(own) * np.linalg.norm(other)))


def _centred(features: ArrayLike) -> np.ndarray:
    features = np.asarray(features, "float64")
    features = features.reshape(len(features), -1)
    if len(features) < 2:
        raise ValueError(f"features of at least 2 images are needed; got {len(features)}")
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ValueError(
            f"features of {bad.sum()} of {len(bad)} images are NaN or infinite (first: row {bad.argmax()})"
        )
    if (features == features[0]).all():
        raise ValueError(f"the features of all {len(features)} images are the same; CKA is not defined")
    features = features - features.mean(axis=0)
    return features / np.abs(features).max()  # CKA knows no scale, and squares of squares overflow


def member_cka(features: np.ndarray) -> np.ndarray:
    """Return the linear CKA of every two members' features.

    Args:
        features: float array (N, M, ...), from `member_features`.

    Returns:
        Float64 array (M, M).

    Raises:
        ValueError: see `linear_cka`.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(6, 3, 4))
        >>> zoo.metrics.member_cka(features).shape
        (3, 3)
    """
    members = [features[:, m] for m in range(features.shape[1])]
    result = np.eye(len(members))
    for i in range(len(members)):
        for j in range(i):
            result[i, j] = result[j, i] = linear_cka(members[i], members[j])
    return result


def member_features(
    model: EnsembleClassifier, images: np.ndarray, layer: str = "head", batch_size: int = 128
) -> np.ndarray:
    """Return the inputs of a layer, for each member.

    Args:
        model: a model of one network, from `zoo.load` or `zoo.build`; its members may share the network.
        images: array (N, H, W, C) in [0, 255].
        layer: str, the layer's name. Default: "head", which gives the features that classes are decided
            from.
        batch_size: int >= 1, images per step. Default: 128.

    Returns:
        Float array (N, M, ...). Members that share the network up to there have the same features.

    Raises:
        ValueError: for a layer that the network does not have.

    Example:
        >>> model = zoo.build(zoo.methods.Packed(4), "lenet", input_shape=(28, 28, 1))
        >>> zoo.metrics.member_features(model, np.zeros((2, 28, 28, 1))).shape
        (2, 4, 42)
    """
    network: Any = getattr(model, "network", model)
    names = [one.name for one in network.layers]
    if layer not in names:
        raise ValueError(f"the network has no layer {layer!r}; it has {', '.join(names)}")
    inputs = network.get_layer(layer).input
    packed = any(getattr(one, "members_side_by_side", False) for one in network.layers)
    separate = packed and isinstance(inputs, (list, tuple))
    if isinstance(inputs, (list, tuple)) and not packed:
        inputs = inputs[0]  # the others are hyperparameters, or which image is where
    part = keras.Model(network.input, inputs)
    batches = range(0, len(images), batch_size)
    outputs = [part.predict_on_batch(images[i : i + batch_size]) for i in batches]
    if separate:
        return np.concatenate([np.stack(output, axis=1) for output in outputs])
    members = network.output_shape[1]
    sizes = [len(images[i : i + batch_size]) for i in batches]
    return np.concatenate([_member_axis(x, n, members, packed) for x, n in zip(outputs, sizes)])


def _member_axis(features, images, members, packed):
    """(rows, ..., C) of one batch as (images, M, ...): members in the channels, in the rows, or shared."""
    if packed and features.shape[-1] % members == 0:
        return np.stack(np.array_split(features, members, axis=-1), axis=1)
    if len(features) == images * members:
        return np.swapaxes(features.reshape(members, images, *features.shape[1:]), 0, 1)
    return np.stack([features] * members, axis=1)
