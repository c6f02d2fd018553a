"""Processes that train, alone or as the workers of a cluster on this machine."""

import contextlib
import json
import os
import random
import socket

from helpers import forks, jax_processes


def ports(count):
    """Free ports, below those that the kernel gives to others until they are bound."""
    found = set()
    while len(found) < count:
        port = random.SystemRandom().randrange(12000, 32000)
        with contextlib.suppress(OSError), socket.socket() as each:
            each.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def cluster_of(count):
    """TF_CONFIG of each of `count` workers on loopback."""
    addresses = [f"127.0.0.1:{port}" for port in ports(count)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def start(command, backend="tensorflow", config=None):
    """A process that runs `command`, a file and its arguments, on one thread; with TF_CONFIG, a worker."""
    environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    if backend == "jax":
        environment |= jax_processes.environment()
    environment.pop("TF_CONFIG", None)
    if config:
        environment["TF_CONFIG"] = config
    return forks.start(["-W", "ignore", *command], merged=True, env=environment)
