"""Out-of-distribution detection: scores of member predictions, near and far data sets, separation.

Out-of-distribution (OOD) is the positive class throughout, and every score is higher the more an image
looks OOD.
"""

import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from scipy.special import logsumexp, softmax

from zoo.checks import check_probabilities
from zoo.data import arrays
from zoo.evaluation.preflight import PROTOCOLS
from zoo.metrics import OODAUPR, OODAUROC, OODFPR95
from zoo.uncertainty import Prediction

SCORES = ("msp", "entropy", "mutual_information", "energy", "variance")


class OODSet(NamedTuple):
    """An out-of-distribution (OOD) data set.

    Args:
        name: str, TensorFlow Datasets' name.
        group: str, "near" or "far".
        images: uint8 array (N, H, W, C), or None.
        missing: str, why there are no images, or None.
    """

    name: str
    group: str
    images: np.ndarray | None
    missing: str | None


def ood_scores(members: ArrayLike, from_logits: bool = True) -> dict[str, np.ndarray]:
    """Return OOD scores of N images from M members' predictions; higher means more likely OOD.

        msp                   1 - max_k p_k, p the mean of the members' probabilities p_m
        entropy               H(p), in nats
        mutual_information    H(p) - mean_m H(p_m), in nats: what the members disagree about
        energy                mean_m of -log sum_k exp(z_mk), z_m a member's logits
        variance              sum_k of the variance over m of p_mk

    Args:
        members: array (N, M, K), logits as a model's `network` gives them; or probabilities, as
            `zoo.predict(...).members`, which keep no energy.
        from_logits: bool, whether these are logits. Default: True.

    Returns:
        {name: float64 array (N,)}, with the names above; "energy" for logits only.

    Raises:
        ValueError: for another shape, no images, NaN, or values that are not probabilities.

    Example:
        >>> from zoo.evaluation.ood import ood_scores
        >>> scores = ood_scores([[[1.0, 0.0], [0.0, 1.0]]], from_logits=False)
        >>> {name: round(float(score[0]), 3) for name, score in scores.items()}
        {'msp': 0.5, 'entropy': 0.693, 'mutual_information': 0.693, 'variance': 0.5}

    References:
        MSP: Hendrycks and Gimpel, ICLR 2017, arXiv 1610.02136; mutual information: Depeweg et al., ICML
        2018, arXiv 1710.07283; energy: Liu et al., NeurIPS 2020, arXiv 2010.03759.
    """
    members = np.asarray(members, dtype="float64")
    if members.ndim != 3 or not members.size:
        raise ValueError(f"members must be (N, M, K) with N >= 1; got shape {members.shape}")
    energy = {}
    if from_logits:
        if not np.isfinite(members).all():
            bad = ~np.isfinite(members).all(axis=(1, 2))
            raise ValueError(f"{bad.sum()} of {len(bad)} images have NaN or infinite logits (first: image "
                             f"{bad.argmax()}); look for NaN in the images or the weights")  # fmt: skip
        energy["energy"] = -logsumexp(members, axis=-1).mean(axis=1)
        members = softmax(members, axis=-1)
    else:
        members = check_probabilities(members)
    prediction = Prediction(members)
    return {
        "msp": 1 - prediction.confidence,
        "entropy": prediction.entropy,
        "mutual_information": prediction.mutual_information,
        **energy,
        "variance": members.var(axis=1).sum(axis=-1),
    }


def separation(inside: ArrayLike, outside: ArrayLike) -> dict[str, float]:
    """Measure how well a score separates in-distribution images from OOD ones, the positive class.

    Args:
        inside: float array (N,), scores of the model's own test images.
        outside: float array (N',), scores of OOD images.

    Returns:
        {"auroc", "aupr", "fpr95"}: area under the ROC curve; average precision, which depends on N' / N;
        and the share of own images flagged at the highest threshold that flags 95 % of OOD ones.

    Raises:
        ValueError: for no scores on either side, or NaN.

    Example:
        >>> from zoo.evaluation.ood import separation
        >>> separation([0.1, 0.2], [0.3, 0.4])
        {'auroc': 1.0, 'aupr': 1.0, 'fpr95': 0.0}
    """
    inside, outside = (np.asarray(scores).reshape(-1) for scores in (inside, outside))
    if not (len(inside) and len(outside)):
        raise ValueError(
            f"both sides need scores; got {len(inside)} of own and {len(outside)} of OOD images"
        )
    scores = np.concatenate([inside, outside])
    positive = np.arange(len(scores)) >= len(inside)
    result = {}
    for key, metric in (("auroc", OODAUROC()), ("aupr", OODAUPR()), ("fpr95", OODFPR95())):
        metric.update_state(positive, scores)
        result[key] = float(metric.result())
    return result


def ood_sets(dataset: str, input_shape: Sequence[int], data_dir: Any) -> Iterator[OODSet]:
    """Generate the OOD data sets of a model's data set, near ones first, resized to the model's input.

    For CIFAR-10: near CIFAR-100, far MNIST, Fashion-MNIST and SVHN, always the whole test split. The two
    CIFARs have no class name in common, but CIFAR-100 has some that resemble CIFAR-10's
    (pickup_truck, bus, wolf, ...). They are *kept*, as in OpenOOD (Yang et al., NeurIPS 2022, arXiv
    2210.07242; Zhang et al., 2023, arXiv 2306.09301), which filters Tiny ImageNet for CIFAR-10's classes
    but not CIFAR-100. OpenOOD sets some images aside to tune detectors on; nothing is tuned here.

    Args:
        dataset: str, the data set that the model was trained on, one of `PROTOCOLS`.
        input_shape: three ints, (H, W, C) of the model.
        data_dir: str or path of the data sets: .npz files or TensorFlow Datasets' folders.

    Returns:
        An iterator over `OODSet`s. One that is not in data_dir, or cannot be read, has no images and
        says why in `missing`, where data_dir is "the data folder": a report may be shown to others.

    Raises:
        ValueError: at once, for a data set without a protocol.
    """
    if dataset not in PROTOCOLS:
        raise ValueError(f"no OOD protocol for {dataset!r}; there are {', '.join(PROTOCOLS)}")
    return (_load(name, group, input_shape, data_dir) for group, name in PROTOCOLS[dataset])


def _load(name, group, input_shape, data_dir):
    folder = (
        pathlib.Path(data_dir).expanduser().absolute()
    )  # as "data" it would be a word of the error, too
    try:
        images = arrays.load(name, "test", folder).images
        return OODSet(name, group, match_images(images, input_shape), None)
    except (FileNotFoundError, ValueError) as error:
        why = re.sub(rf"(?<!\w){re.escape(str(folder))}(?![\w-])", "the data folder", str(error))
        return OODSet(name, group, None, why)


def match_images(images: ArrayLike, input_shape: Sequence[int]) -> np.ndarray:
    """Convert images to a model's input: channels first, then size.

    One channel is repeated; three become luminance (0.299 R + 0.587 G + 0.114 B); sizes are changed by
    Pillow's antialiased bilinear filter over the whole image, without keeping its proportions. Images
    that fit are returned as they are.

    Args:
        images: uint8 array (N, H, W, C), C 1 or 3.
        input_shape: three ints, (H', W', C') of the model.

    Returns:
        Uint8 array (N, H', W', C').

    Raises:
        ValueError: for other images or channels.

    Example:
        >>> from zoo.evaluation.ood import match_images
        >>> match_images(np.zeros((2, 28, 28, 1), "uint8"), (32, 32, 3)).shape
        (2, 32, 32, 3)
    """
    images, (height, width, channels) = np.asarray(images), input_shape
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"images must be (N, H, W, 1 or 3) uint8, N >= 1; got {images.shape} {images.dtype}"
        )
    if channels not in (1, 3):
        raise ValueError(f"images can be brought to 1 or 3 channels, not to {channels}")
    if images.shape[1:] == (height, width, channels):
        return images
    mode = "L" if channels == 1 else "RGB"
    matched = np.empty((len(images), height, width, channels), "uint8")
    for i, image in enumerate(images):
        picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).convert(mode)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        matched[i] = np.asarray(picture).reshape(height, width, channels)
    return matched


def detect(inside: ArrayLike, sets: Iterable[OODSet], predict: Callable) -> list[dict[str, Any]]:
    """Score every OOD data set against a model's own test images, one set in memory at a time.

    Args:
        inside: float array (N, M, K), member logits of the model's own test images.
        sets: `OODSet`s, as from `ood_sets`.
        predict: a function from images to member logits (N', M, K), such as
            `lambda images: model.network.predict(images, verbose=0)`.

    Returns:
        A list of dictionaries, one for each set, in order: "name", "group", "missing" (None, or why
        there is nothing else), "images" (their number), and "scores": {score: {"auroc", "aupr",
        "fpr95"}}.

    Raises:
        ValueError: see `ood_scores`; also if there is not one prediction for each image.
    """
    own = ood_scores(inside)
    results = []
    for ood in sets:
        result = {"name": ood.name, "group": ood.group, "missing": ood.missing}
        if ood.missing is None:
            predicted = predict(ood.images)
            if len(predicted) != len(ood.images):
                raise ValueError(
                    f"{len(ood.images)} images of {ood.name} got {len(predicted)} predictions"
                )
            theirs = ood_scores(predicted)
            result["images"] = len(predicted)
            result["scores"] = {score: separation(own[score], theirs[score]) for score in SCORES}
        results.append(result)
    return results
