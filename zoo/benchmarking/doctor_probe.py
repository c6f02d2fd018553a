"""Speed of one backend in one setting, in a process of its own.

    python -m zoo.benchmarking.doctor_probe '{"backbone": ..., "input_shape": ..., "forms": ..., ...}'

prints one JSON object: {form: {"train": images/s, "bfloat16": images/s of training in half precision, "1": ms,
"32": ms}}, the form "single" for the single network and the others for packed networks.  "bfloat16" is null
where the processor only emulates it.
"""

import json
import sys
import time

_KEYS = ("1", "32", "train", "bfloat16")
# So many times as slow as float32, bfloat16 is emulated: 9 without AVX-512, where a batch takes half a minute.
_EMULATED = 3


def main(request: dict) -> None:
    """Measure every form and print the answer, one JSON object.

    Args:
        request: dict of "backbone" (str), "input_shape" (height, width, channels), "train_batch_size" (int),
            "forms" (list of str) and "seconds" (float, time for the rounds).
    """
    import numpy as np

    import zoo

    rng = np.random.default_rng(0)
    shape, batch = tuple(request["input_shape"]), request["train_batch_size"]
    images = rng.integers(0, 256, (max(batch, 32), *shape)).astype("float32")
    labels = rng.integers(0, 10, len(images))
    keys = _KEYS[:-1] if _emulates_bfloat16(request["backbone"], images[:2], labels[:2]) else _KEYS
    calls = {}
    for form in request["forms"]:
        if form != "single":
            zoo.layers.set_grouped_convolution(form)
        model = _model(form, request["backbone"], shape)
        calls[form, "1"] = lambda model=model: model.predict_on_batch(images[:1])
        calls[form, "32"] = lambda model=model: model.predict_on_batch(images[:32])
        calls[form, "train"] = lambda model=model: model.train_on_batch(images[:batch], labels[:batch])
        if "bfloat16" in keys:
            half = _model(form, request["backbone"], shape, "bfloat16")
            calls[form, "bfloat16"] = lambda model=half: model.train_on_batch(
                images[:batch], labels[:batch]
            )
        for key in keys:  # compile while this form is set
            calls[form, key]()
            calls[form, key]()
    answer = {form: {"bfloat16": None} for form in request["forms"]}
    for (form, key), seconds in _medians(calls, request["seconds"]).items():
        answer[form][key] = batch / seconds if key in ("train", "bfloat16") else 1000 * seconds
    print(json.dumps(answer))


def _emulates_bfloat16(backbone, images, labels):
    """Whether training in half precision is so slow that the processor must lack it, tried on few images."""
    seconds = {}
    for precision in ("float32", "bfloat16"):
        model = _model("single", backbone, images.shape[1:], precision)
        model.train_on_batch(images, labels)  # compile
        step = {precision: lambda model=model: model.train_on_batch(images, labels)}
        seconds |= _medians(step, 0)
    return seconds["bfloat16"] > _EMULATED * seconds["float32"]


def _model(form, backbone, shape, policy="float32"):
    """A single or packed classifier, compiled."""
    import keras

    import zoo
    from zoo.precision import precision

    method = zoo.methods.Single() if form == "single" else zoo.methods.Packed(4, alpha=2)
    with precision(policy):
        model = zoo.build(method, backbone, 10, shape)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True), model.loss)
    return model


def _medians(calls, seconds):
    """Median seconds of each call, in rounds in which every call has its turn."""
    import numpy as np

    times, start = {key: [] for key in calls}, time.perf_counter()
    while min(map(len, times.values())) < 3 or time.perf_counter() - start < seconds:
        for key, call in calls.items():
            began = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - began)
    return {key: float(np.median(values)) for key, values in times.items()}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
