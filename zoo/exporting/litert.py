"""LiteRT (formerly TensorFlow Lite) files of classifiers: `zoo.export(..., format="litert")`."""

import contextlib
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.errors import one_line
from zoo.exporting.folding import HALF, in_float32
from zoo.layers import keras_internals
from zoo.layers.nested_layers import all_layers, copy_weights

QUANTIZE = (None, "float16", "int8")
MOST_MOVED, MOST_CHANGED = (
    0.03,
    0.05,
)  # by int8, without a warning; trained LeNets of all methods stay below half
_BATCH = 32  # images whose ranges are measured at a time
_ANSWERS = "zoo_answers"  # name scope of what follows the logits
_FLOAT = (_ANSWERS, "StatefulPartitionedCall")  # the latter is the name of what is put out


def contents(model: Any, quantize: str | None = None, representative: Any = None) -> bytes:
    """Return a LiteRT file of a classifier with ordinary layers.

    It has one signature, `serving_default`, that takes float32 `images` of any batch size and returns
    the dictionary of `zoo.exporting.outputs.answers`. Kernels with enough zeros are stored sparsely.

    Args:
        model: an `EnsembleClassifier`, on the TensorFlow backend.
        quantize: str, see `zoo.export`. Default: None.
        representative: array (N, H, W, C), see `zoo.export`. Default: None.

    Returns:
        Bytes.

    Raises:
        ValueError: see `zoo.export`.
    """
    check_quantize(quantize)
    images = _representative(model, quantize, representative)
    content = converted(*portable(model), quantize, images)
    if quantize == "int8":
        _warn_of_cost(content, model, images)
    return content


def _warn_of_cost(content, model, images):
    """Compare an int8 file's answers for the representative images with the model's."""
    from zoo.uncertainty import predict

    runner = interpreter(content, num_threads=1).get_signature_runner("serving_default")
    batches = range(0, len(images), _BATCH)
    given = np.concatenate([runner(images=images[i : i + _BATCH])["probabilities"] for i in batches])
    expected = predict(model, images).probabilities
    moved = np.abs(given - expected).sum(axis=-1).mean() / 2
    changed = (given.argmax(axis=-1) != expected.argmax(axis=-1)).mean()
    if moved > MOST_MOVED or changed > MOST_CHANGED:
        warnings.warn(
            f'quantize="int8" moves {moved:.3f} of the probability of a representative image on average and changes '
            f'{changed:.0%} of the answers; take quantize="float16", or more representative images',
            stacklevel=5,
        )


def converted(
    module: Any,
    function: Any,
    quantize: str | None = None,
    images: Any = None,
    in_float: tuple[str, ...] = _FLOAT,
) -> bytes:
    """Convert a concrete function of `images` to a LiteRT file.

    Args:
        module: the `tf.Module` that holds its variables.
        function: a concrete function.
        quantize: str, one of QUANTIZE. Default: None.
        images: float32 array (N, H, W, C), for "int8". Default: None.
        in_float: strings, the beginnings of names of tensors that "int8" computes in float32.
            Default: the answers.

    Returns:
        Bytes.

    Raises:
        ValueError: for a network with operations that LiteRT lacks.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        content = _int8(converter, images, in_float) if quantize == "int8" else converter.convert()
    except Exception as error:  # the converter's is private
        raise ValueError(
            f'LiteRT cannot run this network ({one_line(error)}); take format="onnx", "openvino" or "savedmodel"'
        ) from None
    return _sparse(content, quantize)


def check_quantize(quantize: str | None) -> None:
    """Check a quantization.

    Args:
        quantize: str, one of QUANTIZE.

    Raises:
        ValueError: for any other.
    """
    if quantize not in QUANTIZE:
        raise ValueError(f'quantize must be None, "float16" or "int8"; got {quantize!r}')


def interpreter(content: bytes, **options: Any) -> Any:
    """Make a `tf.lite.Interpreter`, without its warning that `ai_edge_litert` will replace it.

    Args:
        content: bytes of a LiteRT file.
        options: further arguments of the interpreter.

    Returns:
        A `tf.lite.Interpreter`.
    """
    import tensorflow as tf

    with _not_deprecated():
        return tf.lite.Interpreter(model_content=content, **options)


@contextlib.contextmanager
def _not_deprecated():
    """Without the warning of every interpreter, of those that TensorFlow's converter makes, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
        yield


def _representative(model, quantize, images):
    from zoo.uncertainty import _checked

    if quantize != "int8":
        if images is not None:
            raise ValueError(f'representative= needs quantize="int8"; quantize is {quantize!r}')
        return None
    if images is None or not len(images):
        raise ValueError(
            'quantize="int8" measures ranges of activations; pass representative=, about 100 images such as '
            "the model will see"
        )
    return _checked(images, model.input_shape[1:]).astype("float32")


def portable(model: Any) -> tuple[Any, Any]:
    """Return what is converted: a function without operations that other runtimes lack.

    Args:
        model: an `EnsembleClassifier`, on the TensorFlow backend.

    Returns:
        The `tf.Module` that holds the variables and the function as `serve`, and its concrete function of
        float32 `images`, which returns the dictionary of `zoo.exporting.outputs.answers`.

    Raises:
        ValueError: for MC dropout that draws anew at every call.
    """
    import tensorflow as tf

    from zoo.exporting.outputs import of_logits

    network = _convertible(model.network)

    def serve(images):
        logits = network(images, training=False)
        with tf.name_scope(_ANSWERS):
            return of_logits(logits, model.calibration, images, _brightness(images))

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.serve = tf.function(serve)
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    return module, module.serve.get_concrete_function(spec)


def _brightness(images):
    """The mean of each image's pixels, computed so that images of another size fail.

    LiteRT changes the size of a file's input to that of what it gets, and a network that ends in global
    pooling would answer. Reshaping with a batch size that is read off the images needs equal sizes.
    """
    count, (height, width, channels) = ops.shape(images)[0], images.shape[1:]
    parts = [
        ops.reshape(images, (count, height * width * channels)),
        ops.reshape(ops.mean(images, axis=2), (count, height * channels)),
        ops.reshape(ops.mean(images, axis=3), (count, height * width)),
    ]
    return sum(ops.mean(part, axis=1) for part in parts) / len(parts)


def _litert(layer):
    """The layer's own function of its configuration that makes a layer for LiteRT; None without one."""
    return getattr(layer, "litert_layer", None)


def _convertible(network):
    """The network, or a copy of it without layers that LiteRT cannot run."""
    found = all_layers(network)
    if not any(_litert(layer) or layer.compute_dtype in HALF for layer in found):
        return network

    def twin(layer):
        config = in_float32(layer.get_config())
        return (_litert(layer) or type(layer).from_config)(config)

    copy = keras.models.clone_model(network, clone_function=twin, recursive=True)
    copy_weights(network, copy)
    if None not in network.input_shape[1:]:  # dropout is drawn for the sizes that it meets
        copy(np.zeros((1, *network.input_shape[1:]), "float32"), training=False)
    return copy


def _int8(converter, images, in_float):
    batches = range(0, len(images), _BATCH)
    converter.representative_dataset = lambda: ({"images": images[i : i + _BATCH]} for i in batches)
    keras_internals.measure_ranges_only(converter)
    with _not_deprecated():
        measured = converter.convert()
    names = [tensor["name"] for tensor in _tensors(measured)]
    # The quantiser gives the zeros and ones of ONE_HOT different scales: a zero comes out as 0.5.
    return keras_internals.litert_quantized(
        measured,
        denylisted_ops=["ONE_HOT"],
        denylisted_nodes=[name for name in names if name.startswith(in_float)],
    )


def _sparse(content, quantize):
    """A file with its sparse kernels encoded as such, if that is smaller and computes the same."""
    encoded = keras_internals.litert_sparsified(content)
    # Kernels in blocks are computed with as they are stored, and taken for float32 whatever they are.
    garbled = quantize is not None and any(_in_blocks(tensor) for tensor in _tensors(encoded))
    return encoded if len(encoded) < len(content) and not garbled else content


def _in_blocks(tensor):
    return len(tensor["sparsity_parameters"].get("block_map", ())) > 0


def _tensors(content):
    import tensorflow as tf

    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return interpreter(content, experimental_op_resolver_type=plain).get_tensor_details()
