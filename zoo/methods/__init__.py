"""Methods: how an ensemble makes the layers a backbone asks for.  One file a method."""

import dataclasses

from zoo.methods.batch_ensemble import BatchEnsemble
from zoo.methods.deep_ensemble import DeepEnsemble, HyperDeep
from zoo.methods.hyper_batch import HyperBatch
from zoo.methods.masksembles import Masksembles
from zoo.methods.mc_dropout import MCDropout
from zoo.methods.mimo import MIMO
from zoo.methods.packed import Packed
from zoo.methods.single import Single
from zoo.methods.tickets import SequentialTickets, Tickets

METHODS = {
    method.name: method
    for method in (
        Single, DeepEnsemble, Packed, BatchEnsemble, MIMO, HyperBatch, HyperDeep, Masksembles, MCDropout,
        Tickets, SequentialTickets,
    )
}  # fmt: skip


def arguments(method):
    """Names of the arguments that a method, or its class, takes."""
    return [field.name for field in dataclasses.fields(method) if field.init]


def serialize(method):
    """A method as a plain dictionary, `{"name": ..., its arguments}`."""
    return {"name": method.name, **{name: getattr(method, name) for name in arguments(method)}}


def deserialize(config):
    """The method of such a dictionary."""
    config = dict(config)
    return METHODS[config.pop("name")](**config)


__all__ = ["METHODS", "arguments", "deserialize", "serialize", *(m.__name__ for m in METHODS.values())]
