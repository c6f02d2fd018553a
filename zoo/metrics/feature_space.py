"""Similarity of features: linear CKA of arrays, and of a model's members."""

import keras
import numpy as np

from zoo.layers.packed import _Packed


def linear_cka(x, y):
    """Linear centred kernel alignment of two sets of features of the same N images.

        CKA = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F), with X and Y centred over the images;

    in [0, 1], and not changed by rotations and scalings of either.  With fewer than many images per
    feature it is biased upwards.

    Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, arXiv 1905.00414.

    Args:
        x: (N, ...), flattened to (N, P).
        y: (N, ...), flattened to (N, Q).

    Returns:
        A float.

    Raises:
        ValueError: for lengths that differ, fewer than 2 images, NaN or infinite features, and
            features that are the same for all images.
    """
    x, y = _centred(x), _centred(y)
    if len(x) != len(y):
        raise ValueError(f"features must be of the same images; got {len(x)} and {len(y)} rows")
    if x.shape[1] + y.shape[1] <= 2 * len(x):
        between, own, other = y.T @ x, x.T @ x, y.T @ y
        return float(np.sum(between**2) / (np.linalg.norm(own) * np.linalg.norm(other)))
    own, other = x @ x.T, y @ y.T  # as many numbers as images squared
    return float(np.sum(own * other) / (np.linalg.norm(own) * np.linalg.norm(other)))


def _centred(features):
    features = np.asarray(features, "float64").reshape(len(features), -1)
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


def member_cka(features):
    """Linear CKA of every two members' features: (M, M).

    Args:
        features: (N, M, ...), as `member_features` gives them; M arrays (N, ...) moved to axis 1.

    Raises:
        ValueError: as `linear_cka`.
    """
    members = [features[:, m] for m in range(features.shape[1])]
    result = np.eye(len(members))
    for i in range(len(members)):
        for j in range(i):
            result[i, j] = result[j, i] = linear_cka(members[i], members[j])
    return result


def member_features(model, images, layer="head", batch_size=128):
    """What goes into a layer, for each member.

    Args:
        model: a model of one network, from `zoo.load` or `zoo.build`; its members may share the network.
        images: (N, H, W, C), as `zoo.predict` takes them.
        layer: its name; the default gives the features that the classes are decided from.
        batch_size: images a step.

    Returns:
        (N, M, ...).  Members that share the network up to there have the same features.

    Raises:
        ValueError: for a layer that the network does not have.
    """
    network = getattr(model, "network", model)
    names = [each.name for each in network.layers]
    if layer not in names:
        raise ValueError(f"the network has no layer {layer!r}; it has {', '.join(names)}")
    inputs = network.get_layer(layer).input
    packed = any(isinstance(each, _Packed) for each in network.layers)
    apart = packed and isinstance(inputs, (list, tuple))
    if isinstance(inputs, (list, tuple)) and not packed:
        inputs = inputs[0]  # the others are hyperparameters, or which image is where
    part = keras.Model(network.input, inputs)
    batches = range(0, len(images), batch_size)
    outputs = [part.predict_on_batch(images[i : i + batch_size]) for i in batches]
    if apart:
        return np.concatenate([np.stack(output, axis=1) for output in outputs])
    members = network.output_shape[1]
    sizes = [len(images[i : i + batch_size]) for i in batches]
    return np.concatenate([_apart(x, n, members, packed) for x, n in zip(outputs, sizes)])


def _apart(features, images, members, packed):
    """(rows, ..., C) of one batch as (images, M, ...): members in the channels, in the rows, or shared."""
    if packed and features.shape[-1] % members == 0:
        return np.stack(np.array_split(features, members, axis=-1), axis=1)
    if len(features) == images * members:
        return np.swapaxes(features.reshape(members, images, *features.shape[1:]), 0, 1)
    return np.stack([features] * members, axis=1)
