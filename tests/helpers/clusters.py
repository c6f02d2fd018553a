"""Processes that train, alone or as the workers of a cluster on this machine."""

import json
import os
import socket
import subprocess
import sys

from helpers import jax_processes


def ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return numbers


def cluster_of(count):
    """TF_CONFIG of each of `count` workers on loopback."""
    addresses = [f"127.0.0.1:{port}" for port in ports(count)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def start(command, backend="tensorflow", config=None):
    environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    if backend == "jax":
        environment |= jax_processes.environment()
    environment.pop("TF_CONFIG", None)
    if config:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *map(str, command)], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
