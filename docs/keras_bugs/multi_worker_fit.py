"""`fit` under MultiWorkerMirroredStrategy, two processes on loopback (keras-team/keras#20585).

Starts itself once more as the second worker.
"""

import json
import os
import socket
import subprocess
import sys

if "TF_CONFIG" not in os.environ:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(config)}
        workers.append(
            subprocess.Popen(
                [sys.executable, __file__], env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    print(outputs[0].strip())
    sys.exit(max(worker.returncode != 0 for worker in workers))

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()

from _two_devices import X, Y, model, report  # noqa: E402  (a strategy comes before any tensor)

report(lambda: model(strategy.scope()).fit(X, Y, batch_size=8, verbose=0))
