"""`zoo.training.memory.rematerialize` under its shorter name."""

from zoo.training.memory.rematerialize import Rematerialized, rematerialize

__all__ = ["Rematerialized", "rematerialize"]
