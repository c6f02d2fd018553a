"""The public names of `zoo.training.memory.rematerialize`."""

from zoo.training.memory.rematerialize import Rematerialized, rematerialize

__all__ = ["Rematerialized", "rematerialize"]
