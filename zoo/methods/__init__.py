"""Methods: how an ensemble makes the layers that a backbone requests. One file per method."""

import dataclasses
from typing import Any

import numpy as np

from zoo.methods.batch_ensemble import BatchEnsemble
from zoo.methods.deep_ensemble import DeepEnsemble, HyperDeep
from zoo.methods.hyper_batch import HyperBatch
from zoo.methods.masksembles import Masksembles
from zoo.methods.mc_dropout import MCDropout
from zoo.methods.method import Method
from zoo.methods.mimo import MIMO
from zoo.methods.packed import Packed
from zoo.methods.single import Single
from zoo.methods.tickets import SequentialTickets, Tickets
from zoo.names import METHODS


def arguments(method: Any) -> list[str]:
    """List the names of the arguments of a method.

    Args:
        method: a method, or its class.

    Returns:
        A list of strings.

    Example:
        >>> zoo.methods.arguments(zoo.methods.Packed)
        ['num_members', 'alpha', 'gamma']
    """
    return [field.name for field in dataclasses.fields(method) if field.init]


def instance(method: Method | str) -> Method:
    """Return a method that is given as such, or by its name for the default arguments.

    Args:
        method: an instance of a class of `zoo.methods`, or a name of `METHODS`.

    Returns:
        An instance, with Python's numbers in place of NumPy's: shapes and JSON take no others.

    Raises:
        ValueError: for anything else.

    Example:
        >>> zoo.methods.instance("packed")
        Packed(num_members=4, alpha=2, gamma=1)
    """
    if isinstance(method, str) and method in METHODS:
        method = METHODS[method]()
    if not isinstance(method, Method):
        raise ValueError(
            "method must be one of zoo.methods, such as zoo.methods.Packed(4), or a name: "
            f"{', '.join(METHODS)}; got {method!r}"
        )
    given = {name: getattr(method, name) for name in arguments(method)}
    plain = {name: value.item() for name, value in given.items() if isinstance(value, np.generic)}
    return dataclasses.replace(method, **plain) if plain else method


def serialize(method: Method) -> dict[str, Any]:
    """Turn a method into a plain dictionary.

    Args:
        method: an instance of a class of `zoo.methods`.

    Returns:
        {"name": str, and every argument}.

    Example:
        >>> zoo.methods.serialize(zoo.methods.Packed(3))
        {'name': 'packed', 'num_members': 3, 'alpha': 2, 'gamma': 1}
    """
    return {"name": method.name, **{name: getattr(method, name) for name in arguments(method)}}


def deserialize(config: dict[str, Any]) -> Method:
    """Make a method from such a dictionary.

    Args:
        config: dict, from `serialize`.

    Returns:
        An instance of a class of `zoo.methods`.

    Raises:
        KeyError: for an unknown name.

    Example:
        >>> zoo.methods.deserialize({"name": "mimo", "num_members": 2}).num_members
        2
    """
    config = dict(config)
    return METHODS[config.pop("name")](**config)


__all__ = [
    "METHODS",
    "MIMO",
    "BatchEnsemble",
    "DeepEnsemble",
    "HyperBatch",
    "HyperDeep",
    "MCDropout",
    "Masksembles",
    "Method",
    "Packed",
    "SequentialTickets",
    "Single",
    "Tickets",
    "arguments",
    "deserialize",
    "instance",
    "serialize",
]
