"""`zoo demo`: the main job on real images, with nothing to download.

An ensemble that this project trained on CIFAR-10 is fine-tuned on scikit-learn's handwritten digits
beside a single network, tells digits from patches of photographs by its uncertainty, and is exported
to a SavedModel that a process with nothing but TensorFlow runs.
"""

import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np

SIDE = 16  # pixels; the pretrained body takes any size
BATCH = 64

# Run by a fresh interpreter that knows TensorFlow alone.
_SERVE = """
import sys
import numpy as np, tensorflow as tf
folder, images, answers = sys.argv[1:]
loaded = tf.saved_model.load(folder)
serve = loaded.signatures["serving_default"]
outputs = [serve(images=batch) for batch in np.array_split(np.load(images), 5)]
assert "zoo" not in sys.modules
np.save(answers, np.concatenate([o["probabilities"].numpy() for o in outputs]))
"""


def demo(name: str = "packed_resnet20", output: Any = "demo", epochs: int = 4) -> dict:
    """Run the main job on real images, and print what it measures.

    Args:
        name: str, an ensemble with weights; the single network of its backbone is the comparison.
            Default: "packed_resnet20".
        output: str or path of the folder for pictures and the SavedModel. Default: "demo".
        epochs: int >= 1, epochs of fine-tuning. Default: 4.

    Returns:
        {model name: measures}.
    """
    import keras

    import zoo
    from zoo import pictures

    started = time.time()
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    _say(started, "handwritten digits and photographs, from scikit-learn")
    training, test = digits()
    photos = photo_patches(len(test[0]))
    single_name = f"single_{zoo.registry.parse(name)[1]}"
    results = {}
    for model_name in (single_name, name):
        _say(started, f"load {model_name}, trained on CIFAR-10, with a new head for ten digits")
        model = zoo.load(model_name, num_classes=10, input_shape=(SIDE, SIDE, 3))
        _say(started, f"fine-tune it on {len(training[0])} digits with model.fit")
        fine_tune(model, training, epochs)
        prediction, surprise = zoo.predict(model, test[0]), zoo.predict(model, photos)
        results[model_name] = measure(prediction, surprise, test[1])

    _say(started, "measured on digits it has not seen, and on photographs")
    _print_table(results, len(test[0]), len(photos))
    _say(started, "draw the pictures")
    for path in (
        pictures.sorted_by_uncertainty(
            np.concatenate([test[0], photos]),
            np.concatenate([prediction.entropy, surprise.entropy]),
            output / "sorted_by_uncertainty.png",
        ),
        pictures.reliability_diagram(prediction.probabilities, test[1], output / "reliability.png"),
    ):
        print(f"  {path}")
    _say(started, "export a SavedModel, and run it in a process that imports TensorFlow alone")
    zoo.export(model, output / "saved_model")
    difference = np.abs(_serve(output, test[0]) - prediction.probabilities).max()
    print(f"  {output / 'saved_model'}: largest difference of a probability {difference:.1e}")
    if difference > 1e-4:
        raise ValueError("the exported model answers differently; please report this")
    _say(started, "done")
    return {"results": results, "difference": float(difference)}


def digits() -> tuple:
    """Return scikit-learn's handwritten digits as RGB images, split for training and testing.

    Returns:
        ((train images, labels), (test images, labels)): 1,797 scans of 8x8 pixels, enlarged to uint8
        arrays (N, 16, 16, 3), 500 of them to test on.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    images = _rgb(np.kron(scans.images, np.ones((SIDE // 8, SIDE // 8))) * (255 / 16))
    x, x_test, y, y_test = train_test_split(
        images, scans.target, test_size=500, random_state=0, stratify=scans.target
    )
    return (x, y), (x_test, y_test)


def photo_patches(count: int, seed: int = 0) -> np.ndarray:
    """Return patches of scikit-learn's photographs, which show no digits.

    Args:
        count: int, the number of patches.
        seed: int, decides where they are cut. Default: 0.

    Returns:
        Uint8 array (count, 16, 16, 3), grey.
    """
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(seed)
    photos = [photo.mean(axis=-1) for photo in load_sample_images().images]
    patches = []
    for index in range(count):
        photo = photos[index % len(photos)]
        y, x = (rng.integers(0, size - 2 * SIDE) for size in photo.shape)
        patch = photo[y : y + 2 * SIDE, x : x + 2 * SIDE]
        patches.append(patch.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3)))
    return _rgb(np.stack(patches))


def _rgb(grey):
    return np.repeat(np.round(grey).astype("uint8")[..., None], 3, axis=-1)


def fine_tune(model, training, epochs):
    """Fit all layers, on a falling learning rate."""
    import keras

    from zoo.building import compile_default
    from zoo.training.loop.progress import ProgressLine

    steps = epochs * -(-len(training[0]) // BATCH)
    compile_default(model, keras.optimizers.schedules.CosineDecay(2e-3, steps))
    model.fit(*training, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[ProgressLine()])


def measure(prediction, surprise, labels):
    """Accuracy, NLL and ECE on known images; AUROC of telling the unknown by entropy."""
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    from zoo.metrics import ExpectedCalibrationError

    ece = ExpectedCalibrationError(from_logits=False)
    ece.update_state(labels, prediction.probabilities)
    unknown = np.r_[np.zeros(len(prediction)), np.ones(len(surprise))]
    return {
        "accuracy": accuracy_score(labels, prediction.labels),
        "NLL": log_loss(labels, prediction.probabilities, labels=np.arange(10)),
        "ECE": float(ece.result()),
        "AUROC": roc_auc_score(unknown, np.r_[prediction.entropy, surprise.entropy]),
    }


def _serve(output, images):
    paths = [output / "saved_model", output / "images.npy", output / "answers.npy"]
    np.save(paths[1], images)
    subprocess.run([sys.executable, "-c", _SERVE, *map(str, paths)], check=True)
    answers = np.load(paths[2])
    for path in paths[1:]:
        path.unlink()
    return answers


def _print_table(results, digits, photos):
    print(f"  {'':24}{'accuracy':>10}{'NLL':>10}{'ECE':>10}{'AUROC':>10}")
    for name, row in results.items():
        print(f"  {name:24}" + "".join(f"{value:10.4f}" for value in row.values()), flush=True)
    print(f"  ({digits} digits; AUROC: {photos} photo patches told from them by predictive entropy)")


def _say(started, text):
    print(f"[{time.time() - started:4.0f} s] {text}", flush=True)
