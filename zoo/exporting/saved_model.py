"""SavedModels of classifiers, which refuse images of another shape: `zoo.export(..., "savedmodel")`."""

import pathlib
import tempfile
from typing import Any

import keras

from zoo.exporting.outputs import answers

# What `loaded.serve` takes; TensorFlow prints all pixels of images whose type it does not find here.
TYPES = (
    "float32", "uint8", "float64", "float16", "bfloat16", "int8", "int16", "uint16", "int32", "uint32",
    "int64", "uint64", "bool",
)  # fmt: skip


def write(model: Any, directory: pathlib.Path) -> None:
    """Write a SavedModel of a classifier with ordinary layers, on the TensorFlow or the JAX backend.

    Args:
        model: an `EnsembleClassifier`.
        directory: path of the folder to write to.
    """
    import tensorflow as tf

    answer, variables = {"tensorflow": _on_tensorflow, "jax": _on_jax}[keras.backend.backend()](model)
    module = tf.Module()
    module.weights = variables
    shape, at_size = model.input_shape, lambda images: images
    if model.resize is not None:
        at_size = _resizing(shape, model.resize)
        shape = (None, None, None, shape[3])

    def serve(images):
        return answer(at_size(_checked(tf.cast(images, tf.float32), shape)))

    module.serve = tf.function(serve, autograph=False)
    for dtype in TYPES:
        module.serve.get_concrete_function(tf.TensorSpec(None, dtype, name="images"))
    signatures = {
        name: tf.function(serve, autograph=False).get_concrete_function(
            tf.TensorSpec(shape, dtype, name="images")
        )
        for name, dtype in (("serving_default", tf.float32), ("serving_uint8", tf.uint8))
    }
    with tempfile.TemporaryDirectory() as folder:
        if model.class_names is not None:
            path = pathlib.Path(folder) / "class_names.txt"
            path.write_text("".join(f"{name}\n" for name in model.class_names), encoding="utf-8")
            module.class_names_file = tf.saved_model.Asset(str(path))
            signatures["class_names"] = _names(model.class_names)
        tf.saved_model.save(module, str(directory), signatures=signatures)


def _resizing(shape, resize):
    """A function that resizes as `model.at_size` does; those with a NaN or infinite pixel become NaN."""
    import tensorflow as tf

    # This layer computes in TensorFlow on JAX, too; and in float32, whatever Keras's policy.
    layer = keras.layers.Resizing(*shape[1:3], crop_to_aspect_ratio=resize == "crop", dtype="float32")

    def at_size(images):
        finite = tf.math.is_finite(tf.reduce_mean(images, (1, 2, 3), keepdims=True))
        return tf.where(finite, layer(images), float("nan"))  # resizing may have left the pixel out

    return at_size


def _names(class_names):
    """A signature without inputs that returns the names of the classes."""
    import tensorflow as tf

    function = tf.function(lambda: {"class_names": tf.constant(class_names)})
    return function.get_concrete_function()


def _checked(images, shape):
    """The images, after a check of their shape when the graph runs."""
    import tensorflow as tf

    expected = ", ".join("any" if size is None else str(size) for size in shape[1:])
    # The graph optimiser knows the signature's shape and would drop a check of it; here it cannot.
    images = tf.raw_ops.PlaceholderWithDefault(input=images, shape=tf.TensorShape(None))
    count, *given = tf.unstack(tf.concat([tf.shape(images), [0] * 5], 0)[:5], 5)  # 0: no such axis
    wanted = [tf.equal(one, size) for one, size in zip(given, (*shape[1:], 0)) if size is not None]
    fits = tf.reduce_all([count > 0, *wanted])
    check = tf.debugging.Assert(fits, [f"images must be (B, {expected}); got", tf.shape(images)], 9)
    with tf.control_dependencies([check]):
        return tf.ensure_shape(images, shape)


def _on_tensorflow(model):
    """A TensorFlow function of float32 images that fit, and its variables."""
    import tensorflow as tf

    spec = tf.TensorSpec(model.input_shape, tf.float32, name="images")
    function = tf.function(lambda images: answers(model, images)).get_concrete_function(spec)
    used = {id(variable) for variable in function.variables}
    # Not the seeds of what happens in training.
    values = [variable.value for variable in model.network.variables]
    return function, [value for value in values if id(value) in used]


def _on_jax(model):
    """The same, converted from JAX."""
    from keras.export import ExportArchive

    archive = ExportArchive()
    archive.track(model.network)
    spec = keras.InputSpec(shape=model.input_shape, dtype="float32", name="images")
    function = archive.add_endpoint(
        "answer", lambda images: answers(model, images), input_signature=[spec]
    )
    return function, list(function.get_concrete_function().variables)
