"""The names of methods and backbones, and where each is defined.  Imports nothing of the zoo."""

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any


class Registry(MutableMapping):
    """A dictionary of names whose values are imported when they are first used.

    Args:
        homes: dict from a name to where it is defined, "module:attribute".
    """

    def __init__(self, homes: dict[str, str]):
        self._values: dict[str, Any] = dict(homes)

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = self._values[name] = getattr(importlib.import_module(module), attribute)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values


METHODS = Registry(
    {
        "single": "zoo.methods.single:Single",
        "deep_ensemble": "zoo.methods.deep_ensemble:DeepEnsemble",
        "packed": "zoo.methods.packed:Packed",
        "batch_ensemble": "zoo.methods.batch_ensemble:BatchEnsemble",
        "mimo": "zoo.methods.mimo:MIMO",
        "hyper_batch": "zoo.methods.hyper_batch:HyperBatch",
        "hyper_deep": "zoo.methods.deep_ensemble:HyperDeep",
        "masksembles": "zoo.methods.masksembles:Masksembles",
        "mc_dropout": "zoo.methods.mc_dropout:MCDropout",
        "dst_tickets": "zoo.methods.tickets:Tickets",
        "edst_tickets": "zoo.methods.tickets:SequentialTickets",
    }
)
BACKBONES = Registry(
    {
        "mlp": "zoo.backbones.simple:mlp",
        "lenet": "zoo.backbones.simple:lenet",
        "cifarnet": "zoo.backbones.cifarnet:cifarnet",
        "resnet20": "zoo.backbones.resnet:resnet20",
        "resnet18": "zoo.backbones.resnet:resnet18",
        "resnet50": "zoo.backbones.resnet:resnet50",
        "wide_resnet28_10": "zoo.backbones.wide_resnet:wide_resnet28_10",
        "efficientnet_lite0": "zoo.backbones.efficientnet_lite:efficientnet_lite0",
    }
)
