"""The line of progress.  Runs on every backend."""

import io
import sys
import types

from zoo import progress_line


def test_progress_reaches_a_log_at_once(monkeypatch):
    log, clock = io.BytesIO(), types.SimpleNamespace(now=1e9)
    clock.time = lambda: clock.now
    monkeypatch.setattr(progress_line, "time", clock)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(log))
    line = progress_line.ProgressLine()
    line.set_params({"epochs": 2, "steps": 4})
    line.on_train_begin()
    lines = []
    for epoch in range(2):
        line.on_epoch_begin(epoch)
        for batch in range(4):
            clock.now += 25
            line.on_train_batch_end(batch, {"loss": 1.0})
            lines.append(log.getvalue().count(b"\n"))
        line.on_epoch_end(epoch, {"loss": 1.0})
    assert lines == [1, 1, 1, 2, 3, 3, 4, 4]
    first = log.getvalue().splitlines()[:2]
    assert first[0] == b"epoch 1/2   12%  loss 1.0000" and first[1].endswith(
        b"loss 1.0000  0:01:40 left"
    )
    assert log.getvalue().endswith(b"epoch 2/2  100%  loss 1.0000  0:00:00 left\n")
