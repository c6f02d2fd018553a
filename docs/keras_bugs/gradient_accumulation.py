"""Gradient accumulation under two replicas."""

from _two_devices import X, Y, model, report, strategy

scope = strategy().scope()
report(lambda: model(scope, gradient_accumulation_steps=2).fit(X, Y, batch_size=8, verbose=0))
