"""torch-uncertainty's models in `zoo benchmark`: its process, which knows nothing of the zoo.

Its networks have the shapes of ours and get what helps them: images are on the device as normalised
floats before the clock starts, inference runs under `torch.inference_mode`.  A training step is forward,
cross-entropy over all members' rows, backward and SGD with Nesterov momentum.  As ours do, BatchEnsemble
tiles its batch in training (`repeat_strategy="legacy"`) and Masksembles splits it.
Inference ends with the average of the members' probabilities.  `zoo.benchmarking.peers` has the
protocol.
"""

import functools
import importlib.metadata
import json
import os
import sys
import time


def main() -> None:
    """Answer the requests on standard input, one JSON object a line, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    models = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "settings" in request:
                models = Models(request["settings"])
                answer = models.describe()
            elif "prepare" in request:
                answer = models.prepare(request["prepare"])
            else:
                answer = models.measure(*request["measure"])
        except Exception as error:  # goes into the other process's table
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


class Models:
    """Models by label, made when they are asked for.

    Args:
        settings: dict, the request's.
    """

    def __init__(self, settings: dict):
        import torch

        torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)
        self.settings, self.calls = settings, {}
        self.makers = _makers(settings)
        if not self.makers:
            raise ValueError(
                f"no {settings['backbone']} of our shape with a CIFAR stem there; there are "
                + ", ".join(BACKBONES)
            )

    def describe(self) -> dict:
        version = importlib.metadata.version("torch_uncertainty")
        return {"version": version, "models": list(self.makers)}

    def prepare(self, label: str) -> dict:
        members, make, rows_in, rows_out = self.makers[label]
        model = make()
        calls = _calls(model, self.settings, members, rows_in, rows_out)
        self.calls[label] = calls
        first, warm = {}, {}
        for task, call in calls.items():
            first[task] = _times(call)[0]
            warm[task] = min(_times(call)[0] for _ in range(2))
        inference = f"predict {self.settings['batch_sizes'][0]}"
        over = {"train": first["train"] - warm["train"], "predict": first[inference] - warm[inference]}
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return {
            "warm": warm,
            "compile": {kind: max(seconds, 0.0) for kind, seconds in over.items()},
            "facts": {"members": members, "parameters": parameters},
        }

    def measure(self, label: str, task: str) -> dict:
        return {"times": _times(self.calls[label][task])}


def _resnets(nets, depth):
    """Functions that make networks of one depth, by method."""
    names = {"single": "resnet", "packed": "packed_resnet", "batched": "batched_resnet",
             "mimo": "mimo_resnet", "masked": "masked_resnet"}  # fmt: skip
    return {kind: functools.partial(getattr(nets, name), arch=depth) for kind, name in names.items()}


def _wide_resnets(nets):
    kinds = {
        "single": "",
        "packed": "packed_",
        "batched": "batched_",
        "mimo": "mimo_",
        "masked": "masked_",
    }
    makers = {kind: getattr(nets, f"{start}wideresnet28x10") for kind, start in kinds.items()}
    return {kind: functools.partial(make, dropout_rate=0.0) for kind, make in makers.items()}


BACKBONES = {
    "resnet18": lambda nets: _resnets(nets, 18),
    "resnet20": lambda nets: _resnets(nets, 20),
    "resnet50": lambda nets: _resnets(nets, 50),
    "wide_resnet28_10": _wide_resnets,
}


def _makers(settings):
    """{label: (members, function that makes the model, times the batch is given, rows of its training answer)}."""
    from torch_uncertainty.methods import deep_ensembles, mc_dropout
    from torch_uncertainty.models import classification as nets

    if settings["backbone"] not in BACKBONES or min(settings["input_shape"][:2]) >= 112:
        return {}
    make = BACKBONES[settings["backbone"]](nets)
    m = settings["num_members"]
    shape = {
        "in_channels": settings["input_shape"][2], "num_classes": settings["num_classes"],
        "conv_bias": False, "style": "cifar",
    }  # fmt: skip

    def packed(gamma):
        return lambda: make["packed"](**shape, num_estimators=m, alpha=2, gamma=gamma)

    def batched():
        return make["batched"](**shape, num_estimators=m, repeat_strategy="legacy")

    def dropout():
        core = make["single"](**shape | {"dropout_rate": 0.1})
        return mc_dropout(core, num_estimators=m, on_batch=True)

    return {
        "single": (1, lambda: make["single"](**shape), 1, 1),
        "packed": (m, packed(1), 1, m),
        "packed gamma=2": (m, packed(2), 1, m),
        "batch_ensemble": (m, batched, 1, m),
        "mimo": (3, lambda: make["mimo"](**shape, num_estimators=3), 3, 3),
        "masksembles": (m, lambda: make["masked"](**shape, num_estimators=m, scale=2.0), 1, 1),
        "mc_dropout filterwise=True": (m, dropout, 1, 1),  # its networks drop whole channels
        "deep_ensemble": (m, lambda: deep_ensembles([make["single"](**shape) for _ in range(m)]), 1, m),
    }


def _calls(model, settings, members, rows_in, rows_out):
    """{task: function without arguments}."""
    import torch

    height, width, channels = settings["input_shape"]
    size = settings["train_batch_size"]
    images = torch.rand(max(size, *settings["batch_sizes"]), channels, height, width)
    batch = torch.cat([images[:size]] * rows_in)
    labels = torch.cat([torch.randint(settings["num_classes"], (size,))] * rows_out)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def train():
        if not model.training:
            model.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def inference(some):
        def predict():
            if model.training:
                model.eval()
            with torch.inference_mode():
                rows = torch.softmax(model(some), dim=-1)
                return rows.reshape(members, len(some), -1).mean(dim=0).numpy()

        return predict

    calls = {f"predict {n}": inference(images[:n]) for n in settings["batch_sizes"]}
    return {"train": train} | calls


def _times(call):
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return [time.perf_counter() - wall, time.process_time() - cpu]


if __name__ == "__main__":
    main()
