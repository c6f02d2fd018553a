"""Several steps an execution under two replicas (keras-team/keras#19246)."""

from _two_devices import X, Y, model, report, strategy

scope = strategy().scope()
report(lambda: model(scope, steps_per_execution=4).fit(X, Y, batch_size=8, verbose=0))
