"""Import, load and predict open no connection, look up no name and start no process that could."""

import pytest

CODE = """
import sys
reached = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "subprocess.Popen",
                 "os.system", "urllib.Request", "http.client.connect"):
        reached.append((event, str(arguments)[:200]))
sys.addaudithook(watch)
import numpy as np
import zoo
zoo.list_models()
str(zoo.card("packed_lenet"))
model = zoo.load("packed_lenet", weights="mnist")
zoo.predict(model, np.zeros((2, 28, 28, 1), "uint8"))
ours = [one for one in reached if "ldconfig" not in one[1] and "uname" not in one[1]]
print(ours)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_nothing_is_asked_of_a_network(backend, python, tmp_path):
    environment = {
        "KERAS_BACKEND": backend,
        "ZOO_CACHE": str(tmp_path / "cache"),
        "ZOO_WEIGHTS_URL": "http://127.0.0.1:9",
    }
    printed = python("-c", CODE, **environment).stdout.splitlines()[-1]
    assert printed.endswith("[]")
    assert not (tmp_path / "cache").exists()
