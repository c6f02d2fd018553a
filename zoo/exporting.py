"""`zoo.export`: a SavedModel that answers with probabilities and uncertainty, and needs none of our code."""

import pathlib

import keras
from keras import ops


def answers(model, images):
    """What an exported model gives for images (B, H, W, C), as a dictionary of float32 tensors.

    `probabilities` (B, K), calibrated where the model is; `members` (B, M, K); and in nats
    `predictive_entropy` (B,) of the probabilities and `mutual_information` (B,) between the members'
    plain mean and the member.
    """
    from zoo.classifier import ensemble_log_probabilities

    logits = model.network(ops.cast(images, "float32"), training=False)
    log_members = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    members = ops.exp(log_members)
    mean = ops.mean(members, axis=1)
    information = _entropy(mean) - ops.mean(_entropy(members), axis=1)
    probabilities = mean
    if model.calibration is not None:
        probabilities = ops.exp(model.calibration(ensemble_log_probabilities(logits)))
    return {
        "probabilities": probabilities,
        "members": members,
        "predictive_entropy": _entropy(probabilities),
        "mutual_information": ops.maximum(information, 0.0),
    }


def _entropy(p):
    return -ops.sum(p * ops.log(ops.where(p > 0, p, 1.0)), axis=-1)


def export(model, directory):
    """Write a TensorFlow SavedModel with a free batch size.

    `signatures["serving_default"](images=...)` takes float32 tensors or any NumPy images with values
    in [0, 255]; `signatures["serving_uint8"]` takes uint8 tensors; `loaded.serve(images)` takes
    both.  Each returns the dictionary of `answers`.

    Args:
        model: an `EnsembleClassifier`, on the TensorFlow or the JAX backend.
        directory: where to write; its files are replaced.

    Returns:
        The directory as a `pathlib.Path`.

    Raises:
        ValueError: for another model or backend.
    """
    from zoo.classifier import EnsembleClassifier

    if not isinstance(model, EnsembleClassifier):
        raise ValueError(f"zoo.export takes an EnsembleClassifier; got {type(model).__name__}")
    directory = pathlib.Path(directory)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        _export_tensorflow(model, directory)
    elif backend == "jax":
        _export_jax(model, directory)
    else:
        raise ValueError(
            f"a SavedModel needs the TensorFlow or JAX backend, not {backend}: save the model as .keras, "
            "load it with KERAS_BACKEND=tensorflow and export it there"
        )
    return directory


def _export_tensorflow(model, directory):
    import tensorflow as tf

    def serve(images):
        return answers(model, images)

    module = tf.Module()
    module.serve = tf.function(serve)
    module.weights = [variable.value for variable in model.network.variables]
    signatures = {
        name: module.serve.get_concrete_function(tf.TensorSpec(model.input_shape, dtype, name="images"))
        for name, dtype in (("serving_default", tf.float32), ("serving_uint8", tf.uint8))
    }
    tf.saved_model.save(module, str(directory), signatures=signatures)


def _export_jax(model, directory):
    from keras.export import ExportArchive

    archive = ExportArchive()
    archive.track(model.network)
    for name, dtype in (("serve", "float32"), ("serving_uint8", "uint8")):
        spec = keras.InputSpec(shape=model.input_shape, dtype=dtype, name="images")
        archive.add_endpoint(name, lambda images: answers(model, images), input_signature=[spec])
    archive.write_out(str(directory), verbose=False)
