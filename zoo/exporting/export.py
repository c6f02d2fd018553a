"""`zoo.export`: a file that answers with probabilities and uncertainty, and needs none of our code."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import TYPE_CHECKING

import keras
from numpy.typing import ArrayLike

from zoo.errors import one_line
from zoo.exporting import saved_model

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


# Format: (backends that can write it, file name; None for a folder).
FORMATS = {
    "savedmodel": (("tensorflow", "jax"), None),
    "litert": (("tensorflow",), "model.tflite"),
    "onnx": (("tensorflow",), "model.onnx"),
    "openvino": (("tensorflow",), "model.xml"),
}


def export(
    model: EnsembleClassifier,
    directory: str | os.PathLike,
    format: str = "savedmodel",
    quantize: str | None = None,
    representative: ArrayLike | None = None,
    optimize: bool = False,
) -> pathlib.Path:
    """Write a TensorFlow SavedModel, or a LiteRT, ONNX or OpenVINO file, that runs without this package.

    Its batch size is free. All take `images` (B, H, W, C), float32 in [0, 255], and return the same
    outputs by name, float32: `probabilities` (B, K), `members` (B, M, K), `predictive_entropy` (B,) and
    `mutual_information` (B,), both in nats, and `suspect_range` (B,): 1 for an image with pixels outside
    [0, 255] or with none above 1 (as images scaled to [0, 1] have), else 0; black images are not
    suspect. An image with a NaN or infinite pixel has NaN in all outputs. Images of another size fail,
    except in a SavedModel of a model with `resize`, which resizes them as the model does. Sparse layers
    are written as ordinary ones, with zeros.

    A SavedModel's signature `serving_default` also takes NumPy images of any type; `serving_uint8` takes
    uint8 tensors, and `loaded.serve(images)` both. A signature `class_names` without inputs returns the
    names of the classes, if the model has any; they are also in `assets/class_names.txt`, in the
    metadata of an ONNX file and in the `rt_info` of an OpenVINO file, as JSON.

    A LiteRT file runs on the default interpreter (with XNNPACK), whose `get_signature_runner()` takes
    a batch of any size. Kernels with enough zeros are stored sparsely, which makes the file smaller but
    not faster. Dense layers in blocks of four inputs (`zoo.layers.sparsify` with `block_shape=(1, 4)`)
    are faster, too, one image at a time, in float32 only; with "float16" they are stored densely.

    OpenVINO computes in bfloat16 on processors that can, unless it is told otherwise:
    `core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})`.

    Args:
        model: an `EnsembleClassifier`; on the TensorFlow backend, for a SavedModel also on JAX.
        directory: str or path of the folder to write to; its files are replaced.
        format: str, "savedmodel", "litert", "onnx" or "openvino"; the last two need the extra of their
            name. Default: "savedmodel".
        quantize: str, for a LiteRT file: "float16", half the size at the same speed; or "int8", about a
            quarter of the size: weights and activations up to the logits are integers, inputs and
            outputs float32. Large kernels become much faster, small networks do not. Default: None.
        representative: array (N, H, W, C) in [0, 255], for "int8": about 100 images such as the model
            will see, from which the ranges of activations are measured. A warning is given if the file's
            answers to them differ much from the model's. Default: None.
        optimize: bool, whether to fold normalisations into the layers before them and to leave out
            copies of images (`zoo.exporting.folding.folded`); outputs for random images are compared
            with the model's before anything is written. Default: False.

    Returns:
        The directory, or the file in it: `model.tflite`, `model.onnx` or `model.xml` (with its weights
        in `model.bin`), a `pathlib.Path`.

    Raises:
        ValueError: for an unsupported model, backend, format or quantization; representative images that
            are missing, needless or do not fit; MC dropout that draws anew at every call, except in a
            SavedModel; a format whose package is not installed; with optimize, a layer that cannot be
            copied, or outputs that differ.
        OSError: for a directory that cannot be made, before anything else is done.

    Example:
        >>> import tempfile
        >>> model = zoo.build(zoo.methods.Packed(2), "mlp", num_classes=3, input_shape=(4, 4, 1))
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = zoo.export(model, folder.name)
        >>> (path / "saved_model.pb").is_file()
        True
        >>> folder.cleanup()
    """
    from zoo.classifier import EnsembleClassifier

    if not isinstance(model, EnsembleClassifier):
        raise ValueError(f"zoo.export takes an EnsembleClassifier; got {type(model).__name__}")
    if format not in FORMATS:
        *names, last = FORMATS
        raise ValueError(f"format must be {', '.join(names)} or {last}; got {format!r}")
    if format != "litert" and not (quantize is None and representative is None):
        raise ValueError(f'quantize={quantize!r} and representative= need format="litert"')
    backend = keras.backend.backend()
    backends, name = FORMATS[format]
    if backend not in backends:
        raise ValueError(
            f"format={format!r} needs the {' or '.join(backends)} backend, not {backend}: save the "
            "model as .keras, load it with KERAS_BACKEND=tensorflow and export it there"
        )
    directory = pathlib.Path(directory)
    with _made(directory):
        model = _serving(model, optimize)
        if name is None:
            saved_model.write(model, directory)
            return directory
        return _write(model, directory / name, quantize, representative)


@contextlib.contextmanager
def _made(directory):
    """Make a folder before the work, and remove it again if the work fails and left it empty."""
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the directory {directory} cannot be made ({one_line(error)}); pass the path of a folder"
        ) from None
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            if not existed:
                directory.rmdir()
        raise


def _write(model, path, quantize, representative):
    from zoo.exporting import litert, onnx, openvino

    if path.suffix == ".xml":
        openvino.write(model, path)
    elif path.suffix == ".onnx":
        path.write_bytes(onnx.contents(model))
    else:
        path.write_bytes(litert.contents(model, quantize, representative))
    return path


def _serving(model, optimize):
    """The model, or one of ordinary layers where it has sparse ones; folded if that is wanted."""
    from zoo.classifier import EnsembleClassifier
    from zoo.exporting.folding import folded
    from zoo.layers import densify, sparse_layers

    network = densify(model.network) if sparse_layers(model.network) else model.network
    network = folded(network) if optimize else network
    if network is model.network:
        return model
    return EnsembleClassifier(
        network, calibration=model.calibration, class_names=model.class_names, resize=model.resize
    )
