"""The table of docs/convert.md: `zoo.convert` of every `keras.applications` family by every method.

    python benchmarks/convert_architectures.py [--architectures=VGG16,ResNet50 --methods=packed,mimo]

Networks have random weights, five classes and the smallest images they take; normalisations know the statistics of
random images, so that answers differ between images. Methods have two members that part after 80 % of the
multiply-accumulates; those of a narrow packed network and of MIMO part at the images. A cell is

    kept      every member answers as the original (probabilities to 1e-5),
    sparse    the weights are the original's, half of them masked,
    N new     N layers start from new weights,
    refused   before anything is built; the reason stands below the table,

and all that is not refused trains a step with a finite loss, and is the same after saving and loading.
"""

import gc
import pathlib
import tempfile
import warnings

import keras
import numpy as np
from absl import app, flags

import zoo

FLAGS = flags.FLAGS
PIXELS = {
    "MobileNetV2": 32, "MobileNetV3Small": 32, "EfficientNetB0": 32, "EfficientNetV2B0": 32, "ResNet50": 32,
    "ResNet50V2": 32, "DenseNet121": 32, "VGG16": 32, "Xception": 71, "InceptionV3": 75, "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
}  # fmt: skip
METHODS = {
    "batch_ensemble": zoo.methods.BatchEnsemble(2),
    "mc_dropout": zoo.methods.MCDropout(2, rate=0.0),
    "masksembles": zoo.methods.Masksembles(2, scale=1.0),
    "hyper_batch": zoo.methods.HyperBatch(2),
    "deep_ensemble": zoo.methods.DeepEnsemble(2),
    "tickets": zoo.methods.Tickets(2, sparsity=0.5),
    "packed, alpha = M": zoo.methods.Packed(2, alpha=2),
    "packed, alpha = 1": zoo.methods.Packed(2, alpha=1),
    "mimo": zoo.methods.MIMO(2),
}
WHOLE = (METHODS["packed, alpha = 1"], METHODS["mimo"])  # members part at the images
flags.DEFINE_list("architectures", list(PIXELS), "names in keras.applications")
flags.DEFINE_list("methods", [], "how titles of methods begin; all if empty")


def original(name):
    """(model, images, its probabilities) of an architecture."""
    keras.utils.set_random_seed(0)
    pixels = PIXELS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(pixels, pixels, 3), classes=5)
    images = np.random.default_rng(0).integers(0, 256, (8, pixels, pixels, 3)).astype("float32")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm in norms:
        norm.momentum = 0.99
    return model, images[:2], keras.ops.convert_to_numpy(model(images[:2], training=False))


def outcome(model, method, images, expected):
    """(cell, reason of a refusal)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tile_at = None if method in WHOLE else 0.8
            converted = zoo.convert(model, method, spread=0, tile_at=tile_at)
    except ValueError as error:
        return "refused", str(error)
    logits = converted.network(images, training=False)
    members = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    kept = np.abs(members - expected[:, None]).max() < 1e-5
    converted.run_eagerly = True  # without minutes of compilation
    assert np.isfinite(converted.train_on_batch(images, np.array([0, 3]))[0])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        converted.save(path)
        loaded = keras.saving.load_model(path, compile=False)
    answers = (converted.network(images, training=False), loaded.network(images, training=False))
    np.testing.assert_allclose(*answers, atol=1e-5)
    if converted.new_weights:
        return f"{len(converted.new_weights)} new", ""
    if isinstance(method, zoo.methods.Tickets):
        return "sparse", ""
    return ("kept" if kept else "differs"), ""


def main(_):
    """Entry point of absl."""
    chosen = {
        title: method
        for title, method in METHODS.items()
        if not FLAGS.methods or any(title.startswith(name) for name in FLAGS.methods)
    }
    print(f"| architecture | pixels | {' | '.join(chosen)} |", flush=True)
    print(f"| --- | --: |{' --- |' * len(chosen)}", flush=True)
    reasons = []
    for name in FLAGS.architectures:
        model, images, expected = original(name)
        cells = []
        for title, method in chosen.items():
            cell, reason = outcome(model, method, images, expected)
            cells.append(cell)
            if reason:
                reasons.append(f"* {name}, {title}: {reason}")
        print(f"| {name} | {PIXELS[name]} | {' | '.join(cells)} |", flush=True)
        keras.backend.clear_session()
        gc.collect()
    print("\n".join(["", *reasons]))


if __name__ == "__main__":
    app.run(main)
