"""`zoo.convert`: any trained Keras classifier as the start of an ensemble."""

from zoo.converting.convert import convert

__all__ = ["convert"]
