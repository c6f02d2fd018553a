"""`zoo.data.streams` under the name that users of `zoo.training` know."""

from zoo.data.streams import evaluation, order, training
from zoo.data.streams import open_split as open

__all__ = ["evaluation", "open", "order", "training"]
