"""The public functions of `zoo.data.streams`."""

from zoo.data.streams import evaluation, order, training
from zoo.data.streams import open_split as open

__all__ = ["evaluation", "open", "order", "training"]
