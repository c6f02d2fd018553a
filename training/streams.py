"""The public functions of `zoo.data.streams`."""

from zoo.data.streams import evaluation, open_split, order, training

open = open_split  # its name in earlier versions

__all__ = ["evaluation", "open", "open_split", "order", "training"]
