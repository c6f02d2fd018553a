"""A first batch whose size is not divisible by the number of replicas."""

from _two_devices import X, Y, model, report, strategy

scope = strategy().scope()
report(lambda: model(scope).fit(X[:33], Y[:33], batch_size=33, verbose=0))
