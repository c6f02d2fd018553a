"""Methods: how an ensemble makes the layers a backbone asks for.  One file a method."""

import dataclasses

from zoo.methods.packed import Packed
from zoo.methods.single import Single

METHODS = {method.name: method for method in (Single, Packed)}


def serialize(method):
    """A method as a plain dictionary, `{"name": ..., its arguments}`."""
    return {"name": method.name, **dataclasses.asdict(method)}


def deserialize(config):
    """The method of such a dictionary."""
    config = dict(config)
    return METHODS[config.pop("name")](**config)


__all__ = ["METHODS", "Packed", "Single", "deserialize", "serialize"]
