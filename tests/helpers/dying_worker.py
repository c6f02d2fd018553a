"""`python -m zoo.training.train` that sends itself a signal after a step, for training/loop/test_survival.py.

python dying_worker.py KILL 7 FLAGS ...        SIGKILL after step 7; "NONE 0": lives
"""

import os
import signal
import sys

from absl import app

from zoo.training import train
from zoo.training.loop.preemption import SaveOnSignal


def dying(number, step):
    """SaveOnSignal's look after each step, before which the signal comes after a certain one."""
    look, done = SaveOnSignal.on_train_batch_end, [0]

    def after_batch(self, batch, logs=None):
        done[0] += 1
        if done[0] == step:
            os.kill(os.getpid(), number)
        look(self, batch, logs)

    return after_batch


if __name__ == "__main__":
    name, step, *flags = sys.argv[1:]
    if name != "NONE":
        SaveOnSignal.on_train_batch_end = dying(getattr(signal, f"SIG{name}"), int(step))
    app.run(train.main, argv=["train", *flags])
