"""`zoo demo`: fine-tune, calibrate and export an ensemble on real images, offline.

An ensemble and a single network that this project trained on CIFAR-10 are fine-tuned on scikit-learn's
handwritten digits and calibrated on held-out ones.  Both tell digits from patches of photographs by their
uncertainty; a sentence and a picture say what the ensemble gained.  It is exported to a SavedModel that a
process with nothing but TensorFlow runs.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.onednn import switch_onednn_on

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier
    from zoo.uncertainty import Prediction

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


def demo(name: str = "packed_resnet20", output: Any = "demo", epochs: int = 3) -> dict:
    """Fine-tune, calibrate and export an ensemble on real images, and print its scores.

    Args:
        name: str, an ensemble with weights; the single network of its backbone is the comparison.
            Default: "packed_resnet20".
        output: str or path of the folder for pictures and the SavedModel. Default: "demo".
        epochs: int >= 1, epochs of fine-tuning. Default: 3.

    Returns:
        {"results": {model name: scores}, "gain": the sentence, "difference": of the exported model}.
    """
    switch_onednn_on()
    import keras

    import zoo
    from zoo import pictures

    started = time.time()
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    _say(started, "handwritten digits and photographs, from scikit-learn")
    training, held_out, test = digits()
    photos = photo_patches(len(test[0]))
    single_name = f"single_{zoo.registry.parse(name)[1]}"
    results, answers = {}, {}
    for model_name in (single_name, name):
        _say(started, f"load {model_name}, trained on CIFAR-10, with a new head for ten digits")
        model = zoo.load(model_name, num_classes=10, input_shape=(SIDE, SIDE, 3))
        _say(started, f"fine-tune it on {len(training[0])} digits with model.fit")
        fine_tune(model, training, epochs)
        before = ece(zoo.predict(model, test[0]), test[1])
        _say(started, f"calibrate it on {len(held_out[0])} digits that were held out")
        model = zoo.calibrate(model, *held_out)
        answers[model_name] = zoo.predict(model, test[0]), zoo.predict(model, photos)
        results[model_name] = measure(*answers[model_name], test[1]) | {"ECE before": before}

    _say(started, "score both models on digits that neither has seen, and on photographs")
    _print_table(results, len(test[0]), len(photos))
    said = gain(single_name, name, answers, test[1])
    print(f"  {said}")
    _say(started, "draw the pictures")
    prediction, surprise = answers[name]
    for path in (
        draw_gain(answers, test[1], output / "gain.png"),
        pictures.sorted_by_uncertainty(
            np.concatenate([test[0], photos]),
            np.concatenate([prediction.entropy, surprise.entropy]),
            output / "sorted_by_uncertainty.png",
        ),
        pictures.reliability_diagram(prediction.probabilities, test[1], output / "reliability.png"),
    ):
        print(f"  {path}")
    _say(started, "export a SavedModel, and run it in a process that imports only TensorFlow")
    zoo.export(model, output / "saved_model")
    difference = np.abs(_serve(output, test[0]) - prediction.probabilities).max()
    print(f"  {output / 'saved_model'}: largest difference of a probability {difference:.1e}")
    if difference > 1e-4:
        raise ValueError("the exported model answers differently; please report this")
    _say(started, "done")
    return {"results": results, "gain": said, "difference": float(difference)}


def digits() -> tuple:
    """Return scikit-learn's handwritten digits as RGB images, in three parts.

    Returns:
        ((images, labels) to train on, to calibrate on, to test on): 1,797 scans of 8x8 pixels, enlarged to
        uint8 arrays (N, 16, 16, 3), of which 500 are to test and 300 to calibrate on.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    images = _rgb(np.kron(scans.images, np.ones((SIDE // 8, SIDE // 8))) * (255 / 16))
    split = {"random_state": 0, "stratify": scans.target}
    x, x_test, y, y_test = train_test_split(images, scans.target, test_size=500, **split)
    x, x_held, y, y_held = train_test_split(x, y, test_size=300, random_state=0, stratify=y)
    return (x, y), (x_held, y_held), (x_test, y_test)


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


def fine_tune(model: EnsembleClassifier, training: tuple[np.ndarray, np.ndarray], epochs: int) -> None:
    """Fit all layers, with a falling learning rate.

    Args:
        model: an `EnsembleClassifier`.
        training: (images, labels), arrays (N, ...).
        epochs: int >= 1.
    """
    import keras

    from zoo.composing import compile_default
    from zoo.progress_line import ProgressLine

    steps = epochs * -(-len(training[0]) // BATCH)
    compile_default(model, keras.optimizers.schedules.CosineDecay(2e-3, steps))
    model.fit(*training, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[ProgressLine()])


def ece(prediction: Prediction, labels: np.ndarray) -> float:
    """Return the expected calibration error with 15 bins.

    Args:
        prediction: a `Prediction` of N images.
        labels: int array (N,).

    Returns:
        A float.
    """
    from zoo.metrics import ExpectedCalibrationError

    metric = ExpectedCalibrationError(from_logits=False)
    metric.update_state(labels, prediction.probabilities)
    return float(metric.result())


def measure(prediction: Prediction, surprise: Prediction, labels: np.ndarray) -> dict[str, float]:
    """Measure accuracy, NLL and ECE on digits, and the AUROC of telling photographs by entropy.

    Args:
        prediction: a `Prediction` of N digits.
        surprise: a `Prediction` of photographs.
        labels: int array (N,), those of the digits.

    Returns:
        {"accuracy", "NLL", "ECE", "AUROC"}, floats.
    """
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    unknown = np.r_[np.zeros(len(prediction)), np.ones(len(surprise))]
    probabilities = prediction.probabilities.astype("float64")
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return {
        "accuracy": accuracy_score(labels, prediction.labels),
        "NLL": log_loss(labels, probabilities, labels=np.arange(10)),
        "ECE": ece(prediction, labels),
        "AUROC": roc_auc_score(unknown, np.r_[prediction.entropy, surprise.entropy]),
    }


def errors_by_coverage(
    prediction: Prediction, surprise: Prediction, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count wrong answers among the most certain images; photographs are always wrong.

    Args:
        prediction: a `Prediction` of N digits.
        surprise: a `Prediction` of photographs.
        labels: int array (N,), those of the digits.

    Returns:
        (share answered, share of wrong answers), two float arrays.
    """
    wrong = np.r_[prediction.labels != labels, np.ones(len(surprise), bool)]
    order = np.argsort(np.r_[prediction.entropy, surprise.entropy], kind="stable")
    answered = np.arange(1, len(wrong) + 1)
    return answered / len(wrong), np.cumsum(wrong[order]) / answered


def gain(
    single: str, ensemble: str, answers: dict[str, tuple[Prediction, Prediction]], labels: np.ndarray
) -> str:
    """Say what the ensemble gained over the single network, in a sentence with 95 % intervals.

    Args:
        single: str, the single network's name.
        ensemble: str, the ensemble's name.
        answers: {name: (`Prediction` of N digits, `Prediction` of photographs)}.
        labels: int array (N,), those of the digits.

    Returns:
        A string.
    """
    from zoo.evaluation.verdict import bootstrap, difference

    ours, theirs = (bootstrap(answers[name][0].probabilities, labels) for name in (ensemble, single))
    nll, accuracy = (difference(ours[key], theirs[key]) for key in ("nll", "accuracy"))
    wrong = {name: _errors_among(answers[name], labels) for name in (single, ensemble)}
    verb = "gained on" if nll.high < 0 else "lost to" if nll.low > 0 else "is level with"
    return (
        f"{ensemble} {verb} {single}: NLL {nll.text(1, 3)}, accuracy {accuracy.text(0.01, 1)} points (difference "
        f"and 95 % interval over {len(labels)} digits).\n  Among the half of all images with the lowest "
        f"entropy, {wrong[ensemble]:.1%} are misclassified or are not digits; among the single network's half, "
        f"{wrong[single]:.1%}."
    )


def _errors_among(answers, labels, share=0.5):
    coverage, errors = errors_by_coverage(*answers, labels)
    return errors[np.searchsorted(coverage, share)]


def draw_gain(
    answers: dict[str, tuple[Prediction, Prediction]], labels: np.ndarray, path: str | os.PathLike
) -> str | os.PathLike:
    """Draw how often both models are wrong when they answer only what they are sure of.

    Args:
        answers: {name: (`Prediction` of N digits, `Prediction` of photographs)}.
        labels: int array (N,), those of the digits.
        path: path of the PNG to write.

    Returns:
        The path.
    """
    from zoo.pictures import BLUE, GREY, INK, blank_figure

    figure = blank_figure(7, 4.2)
    axis = figure.subplots()
    for (name, given), colour in zip(answers.items(), (INK, BLUE)):
        coverage, errors = errors_by_coverage(*given, labels)
        style = "--" if name.startswith("single") else "-"
        shown = coverage <= 0.6
        axis.plot(100 * coverage[shown], 100 * errors[shown], style, color=colour, label=name)
    axis.axvline(50, color=GREY, linewidth=1, zorder=0)
    axis.set(xlabel="% of all images answered, the surest first (half of all are digits)",
             ylabel="% of the answers that are wrong", xlim=(0, 60), ylim=(0, None),
             title="Wrong answers among the images that a model is surest of")  # fmt: skip
    axis.legend(loc="upper left", frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
    return path


def _serve(output, images):
    paths = [output / "saved_model", output / "images.npy", output / "answers.npy"]
    np.save(paths[1], images)
    subprocess.run([sys.executable, "-c", _SERVE, *map(str, paths)], check=True)
    answers = np.load(paths[2])
    for path in paths[1:]:
        path.unlink()
    return answers


def _print_table(results, digits, photos):
    columns = ("accuracy", "NLL", "ECE before", "ECE", "AUROC")
    print(f"  {'':24}" + "".join(f"{column:>12}" for column in columns))
    for name, row in results.items():
        print(f"  {name:24}" + "".join(f"{row[column]:12.4f}" for column in columns), flush=True)
    print(f"  ({digits} digits; ECE before and after calibration; AUROC: how well predictive entropy "
          f"tells {photos} photo patches from the digits)")  # fmt: skip


def _say(started, text):
    print(f"[{time.time() - started:4.0f} s] {text}", flush=True)
