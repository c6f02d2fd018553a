"""Exported files behind a small HTTP server: 32 clients at once, mixed batches, malformed requests.

pytest -m slow tests/faults/test_serving.py --serving_seconds=60 -s
"""

import collections
import http.client
import json
import pathlib
import random
import select
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

import zoo
from helpers import http_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports by TensorFlow"),
]
CLIENTS, LARGEST = 32, 8
OUTPUTS = {
    "probabilities": "probabilities", "members": "members", "predictive_entropy": "entropy",
    "mutual_information": "mutual_information",
}  # fmt: skip


def _json(value):
    return json.dumps({"images": value}).encode()


RIGHT = np.full((1, 16, 16, 3), 100).tolist()
MALFORMED = {
    "no JSON": b"images",
    "half a body": _json(RIGHT)[:500],
    "not UTF-8": b"\xff\xfe\xfa",
    "a list": b"[1, 2]",
    "no images": b'{"image": []}',
    "null": b'{"images": null}',
    "text": b'{"images": "cat.jpg"}',
    "ragged": _json([[[[1, 2, 3], [1]]]]),
    "empty": b"",
    "no image": _json([]),
    "no batch axis": _json(RIGHT[0]),
    "another size": _json(np.full((1, 40, 53, 3), 100).tolist()),
    "grey": _json(np.full((1, 16, 16, 1), 100).tolist()),
    "NaN": _json(np.full((1, 16, 16, 3), np.nan).tolist()),
    "deep": b'{"images": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


class Process:
    """The server in a process of its own."""

    def __init__(self, path):
        script = pathlib.Path(http_server.__file__)
        self.process = subprocess.Popen(
            [sys.executable, script, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if not select.select([self.process.stdout], [], [], 300)[0]:
            self.close()
            raise TimeoutError("the server does not begin")
        self.port = int(self.process.stdout.readline())

    def mebibytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def post(connection, body, path="/predict"):
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def client(server, images, expected, until, seed, counts):
    """Sends requests until a time, every tenth of them malformed, and counts what comes back."""
    rng, connection = random.Random(seed), server.connection()
    try:
        while time.monotonic() < until:
            counts[request(connection, rng, images, expected)] += 1
    except (OSError, http.client.HTTPException) as error:
        counts[f"broken: {error}"] += 1
    connection.close()


def request(connection, rng, images, expected):
    """Sends one request; returns what became of it."""
    if rng.random() < 0.1:
        status, answer = post(connection, rng.choice(list(MALFORMED.values())))
        refused = status == 400 and set(answer) == {"error"} and "\n" not in answer["error"]
        return "refused" if refused else "malformed, answered"
    chosen = [rng.randrange(len(images)) for _ in range(rng.randint(1, LARGEST))]
    status, answer = post(connection, _json(images[chosen].tolist()))
    right = status == 200 and all(
        np.shape(answer[name]) == value[chosen].shape
        and np.allclose(answer[name], value[chosen], atol=1e-4)
        for name, value in expected.items()
    )
    return "right" if right else "wrong"


def load(server, images, expected, seconds):
    """(counts of answers, MiB of the server after a warm-up and at the end)."""
    counts = [collections.Counter() for _ in range(CLIENTS)]
    marks = []
    for part in (max(1.0, seconds / 4), seconds):  # the first warms up
        until = time.monotonic() + part
        threads = [
            threading.Thread(target=client, args=(server, images, expected, until, seed, counts[seed]))
            for seed in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        marks.append(server.mebibytes())
    return sum(counts, collections.Counter()), marks


@pytest.fixture(scope="module")
def model():
    """A model whose answers differ from image to image."""
    keras.utils.set_random_seed(7)
    model = zoo.build(zoo.methods.Packed(2, 1), "lenet", 3, (16, 16, 3))
    head = model.network.get_layer("head")
    head.kernel.assign(head.kernel * 4)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(8).integers(0, 256, (64, 16, 16, 3))


@pytest.fixture(scope="module", params=["savedmodel", "onnx", "litert", "openvino"])
def server(request, model, tmp_path_factory):
    found = Process(zoo.export(model, tmp_path_factory.mktemp("served") / "out", request.param))
    yield found
    found.close()


def test_32_clients_get_no_wrong_answer_and_memory_stays(server, model, images, pytestconfig):
    prediction = zoo.predict(model, images.astype("uint8"))
    expected = {name: getattr(prediction, attribute) for name, attribute in OUTPUTS.items()}
    counts, (before, after) = load(server, images, expected, pytestconfig.getoption("--serving_seconds"))
    print(f"\n{dict(counts)}, {before:.0f} MiB after the warm-up, {after:.0f} MiB at the end")
    assert set(counts) == {"right", "refused"}
    assert after < 1.05 * before + 16


def test_malformed_requests_get_400_and_a_line(server):
    connection = server.connection()
    for name, body in MALFORMED.items():
        status, answer = post(connection, body)
        assert status == 400 and set(answer) == {"error"}, name
        assert answer["error"].isprintable() and len(answer["error"]) < 300, name
        assert post(connection, _json(RIGHT))[0] == 200, f"the server is not well after {name}"
    status, _ = post(connection, _json(RIGHT), path="/elsewhere")
    assert status == 400
    assert server.process.poll() is None
