"""`zoo.export`: a file that answers with probabilities and uncertainty, and needs none of our code."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import keras
from numpy.typing import ArrayLike

from zoo.exporting.outputs import answers

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier


FORMATS = {"savedmodel": ("tensorflow", "jax"), "litert": ("tensorflow",)}  # and backends


def export(
    model: EnsembleClassifier,
    directory: str | os.PathLike,
    format: str = "savedmodel",
    quantize: str | None = None,
    representative: ArrayLike | None = None,
    optimize: bool = False,
) -> pathlib.Path:
    """Write a TensorFlow SavedModel or a LiteRT file that runs without this package.

    Its batch size is free. Both have a signature `serving_default` that takes `images` (B, H, W, C),
    float32 in [0, 255], and returns a dictionary of float32 tensors: `probabilities` (B, K), `members`
    (B, M, K), `predictive_entropy` (B,) and `mutual_information` (B,), the latter in nats. Sparse layers
    are written as ordinary ones, with zeros.

    A SavedModel's `serving_default` also takes NumPy images of any type; `serving_uint8` takes uint8
    tensors, and `loaded.serve(images)` both.

    A LiteRT file runs on the default interpreter (with XNNPACK), whose `get_signature_runner()` takes
    a batch of any size. Kernels with enough zeros are stored sparsely, which makes the file smaller but
    not faster. Dense layers in blocks of four inputs (`zoo.layers.sparsify` with `block_shape=(1, 4)`)
    are faster, too, one image at a time, in float32 only; with "float16" they are stored densely.

    Args:
        model: an `EnsembleClassifier`; on the TensorFlow backend, for a SavedModel also on JAX.
        directory: str or path of the folder to write to; its files are replaced.
        format: str, "savedmodel" or "litert". Default: "savedmodel".
        quantize: str, for a LiteRT file: "float16", half the size at the same speed; or "int8", about a
            quarter of the size: weights and activations up to the logits are integers, inputs and
                outputs
            float32. This makes large kernels much faster, small networks not. Default: None.
        representative: array (N, H, W, C) in [0, 255], for "int8": about 100 images such as the model
            will see, from which the ranges of activations are measured. Default: None.
        optimize: bool, whether to fold normalisations into the layers before them and to leave out
            copies of images (`zoo.exporting.folding.folded`); outputs for random images are compared
            with the model's before anything is written. Default: False.

    Returns:
        The directory, or the LiteRT file `model.tflite` in it, a `pathlib.Path`.

    Raises:
        ValueError: for another model, backend, format or quantization; representative images that are
            missing, needless or do not fit; a LiteRT file of MC dropout that draws anew at every call;
            with optimize, a layer that cannot be copied, or outputs that differ.

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
        raise ValueError(f"format must be {' or '.join(FORMATS)}; got {format!r}")
    if format == "savedmodel" and not (quantize is None and representative is None):
        raise ValueError(f'quantize={quantize!r} and representative= go with format="litert"')
    backend = keras.backend.backend()
    if backend not in FORMATS[format]:
        raise ValueError(
            f"format={format!r} needs the {' or '.join(FORMATS[format])} backend, not {backend}: save the "
            "model as .keras, load it with KERAS_BACKEND=tensorflow and export it there"
        )
    directory, model = pathlib.Path(directory), _serving(model, optimize)
    if format == "litert":
        return _export_litert(model, directory, quantize, representative)
    {"tensorflow": _export_tensorflow, "jax": _export_jax}[backend](model, directory)
    return directory


def _serving(model, optimize):
    """The model, or one of ordinary layers where it has sparse ones; folded if that is wanted."""
    from zoo.classifier import EnsembleClassifier
    from zoo.exporting.folding import folded
    from zoo.layers import densify, sparse_layers

    network = densify(model.network) if sparse_layers(model.network) else model.network
    network = folded(network) if optimize else network
    if network is model.network:
        return model
    return EnsembleClassifier(network, calibration=model.calibration)


def _export_litert(model, directory, quantize, representative):
    from zoo.exporting import litert

    contents = litert.contents(model, quantize, representative)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "model.tflite"
    path.write_bytes(contents)
    return path


def _export_tensorflow(model, directory):
    import tensorflow as tf

    def serve(images):
        return answers(model, images)

    module = tf.Module()
    module.serve = tf.function(serve)
    signatures = {
        name: module.serve.get_concrete_function(tf.TensorSpec(model.input_shape, dtype, name="images"))
        for name, dtype in (("serving_default", tf.float32), ("serving_uint8", tf.uint8))
    }
    used = {id(variable) for function in signatures.values() for variable in function.variables}
    # Not the seeds of what happens in training.
    values = [variable.value for variable in model.network.variables]
    module.weights = [value for value in values if id(value) in used]
    tf.saved_model.save(module, str(directory), signatures=signatures)


def _export_jax(model, directory):
    from keras.export import ExportArchive

    archive = ExportArchive()
    archive.track(model.network)
    for name, dtype in (("serve", "float32"), ("serving_uint8", "uint8")):
        spec = keras.InputSpec(shape=model.input_shape, dtype=dtype, name="images")
        archive.add_endpoint(name, lambda images: answers(model, images), input_signature=[spec])
    archive.write_out(str(directory), verbose=False)
