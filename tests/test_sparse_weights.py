"""Weights of sparse models on disk: exact, small, the same bytes again, and every way to be wrong."""

import os
import shutil
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import zoo
from zoo import weights as weight_files
from zoo.layers import densify, sparse_layers, sparsify
from zoo.methods import Packed, Single, Tickets

FILE = "model.weights.npz"


def mlp(sparsity=0.7, seed=0, shape=(4, 4, 1)):
    return sparsify(zoo.build(Single(), "mlp", 3, shape), sparsity, seed=seed)


def stored(model):
    """What a model should hold after its weights were written: kernels rounded where they exist."""
    masks = {id(layer.kernel): layer.mask for layer in sparse_layers(model.network)}
    values = []
    for weight in model.network.weights:
        value = ops.convert_to_numpy(weight)
        if weight.dtype != "bool" and value.ndim > 1:
            value = value.astype("float16").astype("float32")
        mask = masks.get(id(weight))
        values.append(value if mask is None else np.where(ops.convert_to_numpy(mask), value, 0))
    return values


def assert_equal_bits(values, others):
    for a, b in zip(values, others, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def numpy(model):
    return [ops.convert_to_numpy(weight) for weight in model.network.weights]


def copies(model):
    """Weights as they are now: PyTorch's arrays are views, which would follow the model."""
    return [value.copy() for value in numpy(model)]


def perturb(model, seed=0):
    """Weights nowhere zero, masked ones among them."""
    rng = np.random.default_rng(seed)
    for weight in model.network.weights:
        if weight.dtype != "bool":
            weight.assign(rng.normal(size=weight.shape))
    return model


MODELS = {
    "mlp": mlp,
    "nothing masked": lambda: mlp(0.0),
    "lenet": lambda: sparsify(zoo.build(Single(), "lenet", 3, (16, 16, 3)), 0.9),
    "with normalisations": lambda: zoo.build(Tickets(2, sparsity=0.8), "resnet20", 3, (8, 8, 3)),
    "packed": lambda: sparsify(zoo.build(Packed(2, 2, 1), "lenet", 3, (16, 16, 1)), 0.6),
    "partly sparse": lambda: sparsify(zoo.build(Single(), "mlp", 3, (4, 4, 1)), 0.6, skip=("head",)),
    "ensemble": lambda: zoo.ensemble([mlp(), zoo.build(Single(), "mlp", 3, (4, 4, 1)), mlp(0.5)]),
}


@pytest.mark.fast("partly sparse")
@pytest.mark.parametrize("kind", MODELS)
def test_weights_and_masks_come_back_exactly_and_are_written_as_the_same_bytes(kind, tmp_path):
    model = perturb(MODELS[kind]())
    files = weight_files.write(model, tmp_path)
    assert list(files) == [FILE] == [path.name for path in tmp_path.iterdir()]
    twin = perturb(MODELS[kind](), seed=1)
    weight_files.load_folder(twin, tmp_path, {"files": files})
    assert_equal_bits(numpy(twin), stored(model))
    before = (tmp_path / FILE).read_bytes()
    os.utime(tmp_path / FILE, (time.time() - 1e6, 0))
    assert weight_files.write(twin, tmp_path) == files
    assert (tmp_path / FILE).read_bytes() == before
    images = np.random.default_rng(3).integers(0, 256, (4, *model.input_shape[1:]))
    for weight, value in zip(model.network.weights, numpy(model)):
        if weight.dtype != "bool" and value.ndim > 1:
            weight.assign(value.astype("float16"))
    ours, theirs = (m.predict(images, verbose=0) for m in (model, twin))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "most"), [(0.8, 0.30), (0.9, 0.16)])
@pytest.mark.parametrize("backbone", ["lenet", "resnet20"])
def test_files_are_as_small_as_promised(backbone, sparsity, most, tmp_path):
    dense = zoo.build(Single(), backbone, 10, (32, 32, 3))
    dense.network.save_weights(tmp_path / "dense.weights.h5")
    values = 4 * dense.network.count_params()
    model = sparsify(dense, sparsity)
    (record,) = weight_files.write(model, tmp_path).values()
    assert record["bytes"] == (tmp_path / FILE).stat().st_size
    assert record["bytes"] < most * min(values, (tmp_path / "dense.weights.h5").stat().st_size)
    print(
        f"{backbone} S={sparsity}: {record['bytes']} bytes, {record['bytes'] / values:.4f} of the values"
    )


def test_numpy_alone_can_read_a_file(tmp_path):
    model = mlp()
    weight_files.write(model, tmp_path)
    layer = sparse_layers(model.network)[0]
    kernel = np.zeros(layer.kernel.shape)
    with np.load(tmp_path / FILE) as file:
        mask = np.unpackbits(file["0000.kernel.mask"], count=kernel.size).astype(bool)
        kernel[mask.reshape(kernel.shape)] = file["0000.kernel.values"]
        assert file["0000.kernel.shape"].tolist() == list(kernel.shape)
    np.testing.assert_array_equal(kernel, ops.convert_to_numpy(layer.kernel).astype("float16"))


floats = st.floats(-65504, 65504, width=16) | st.sampled_from([0.0, -0.0, 6e-8, -6e-8, 5e-5, 65504.0])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), over=st.sampled_from([None, 65520.0, -1e6, np.inf, np.nan]))
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* has no hash beside it")
def test_any_mask_and_any_values(data, over, tmp_path_factory):
    """Zeros, negative zeros and subnormals exist; beyond float16 a kernel stays as it is; NaN is refused.

    No value is so large that answers overflow: such weights are refused, too.
    """
    folder, model, twin = tmp_path_factory.mktemp("any"), *PAIR
    for layer in sparse_layers(model.network):
        size = int(np.prod(layer.kernel.shape))
        few = data.draw(st.lists(floats, min_size=1, max_size=40))
        bits = data.draw(st.lists(st.booleans(), min_size=1, max_size=40))
        layer.mask.assign(np.resize(bits, size).reshape(layer.kernel.shape))
        layer.kernel.assign(np.resize(few, size).reshape(layer.kernel.shape).astype("float32"))
    if over is not None:
        kernel = numpy(model)[0].copy()
        kernel.flat[::3] = over
        model.network.weights[0].assign(kernel)
    weight_files.write(model, folder)
    expected = stored(model)
    mask = ops.convert_to_numpy(sparse_layers(model.network)[0].mask)
    exists = over is not None and mask.flat[::3].any()
    if exists and not np.isfinite(over):
        with pytest.raises(zoo.WeightsError, match="NaN or infinite"):
            weight_files.load_file(twin, folder / FILE)
        return
    weight_files.load_file(twin, folder / FILE)
    if exists:
        expected[0] = np.where(mask, numpy(model)[0], 0)
    assert_equal_bits(numpy(twin), expected)


@pytest.fixture(scope="module", autouse=True)
def pair():
    """Two models that examples reuse."""
    global PAIR
    PAIR = mlp(), mlp(seed=1)


def test_large_weights_go_on_in_the_next_file(tmp_path, monkeypatch, raises_line):
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 50_001)
    model = perturb(zoo.build(Tickets(3, sparsity=0.5), "lenet", 10, (32, 32, 3)))
    files = weight_files.write(model, tmp_path)
    assert len(files) > 4 and all(record["bytes"] < 60_000 for record in files.values())
    for load in (
        lambda twin: weight_files.load_folder(twin, tmp_path, {"files": files}),
        lambda twin: weight_files.load_file(twin, tmp_path / "model_00002.weights.npz"),
    ):
        twin = zoo.build(Tickets(3, sparsity=0.5), "lenet", 10, (32, 32, 3))
        load(twin)
        assert_equal_bits(numpy(twin), stored(model))
    (tmp_path / "model_00001.weights.npz").unlink()
    with raises_line(FileNotFoundError, "model_00001.weights.npz is missing"):
        weight_files.load_folder(twin, tmp_path, {"files": files})
    with raises_line(ValueError, "model_0000[02].*(weights|damaged)"):
        weight_files.load_file(twin, tmp_path / "model_00000.weights.npz")
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 15_000_000)
    assert list(weight_files.write(model, tmp_path)) == [FILE] == [p.name for p in tmp_path.iterdir()]


def test_folders_and_files_load_by_name(tmp_path, publish):
    model = zoo.build(Tickets(2, sparsity=0.7), "lenet", 4, (16, 16, 1))
    config = publish(model, tmp_path)
    assert list(config["files"]) == [FILE]
    options = {"num_classes": 4, "input_shape": (16, 16, 1), "num_members": 2, "sparsity": 0.7}
    for loaded in (
        zoo.load("dst_tickets_lenet", weights=tmp_path),
        zoo.load("dst_tickets_lenet", weights=tmp_path / FILE, **options),
    ):
        assert_equal_bits(numpy(loaded), stored(model))


def refused(model, path, raises_line, match):
    before = copies(model)
    with raises_line(ValueError, match):
        weight_files.load_file(model, path)
    assert_equal_bits(numpy(model), before)


def test_dense_and_sparse_do_not_mix(tmp_path, raises_line):
    sparse, dense = mlp(), zoo.build(Single(), "mlp", 3, (4, 4, 1))
    weight_files.write(sparse, tmp_path)
    dense.network.save_weights(tmp_path / "dense.weights.h5")
    sparse.network.save_weights(tmp_path / "sparse.weights.h5")
    for model, name, match in (
        (dense, FILE, r"npz holds masks of 3 kernels, single_mlp is made for a dense network"),
        (dense, "sparse.weights.h5", r"h5 holds masks of 3 kernels, single_mlp is made for a dense"),
        (sparse, "dense.weights.h5", r"h5 holds a dense network, single_mlp is made for masks of 3"),
        (MODELS["partly sparse"](), FILE, "holds masks of 3 kernels.* made for masks of 2 kernels"),
    ):
        refused(model, tmp_path / name, raises_line, match)
    assert_equal_bits(numpy(densify(sparse)), [v for v in numpy(sparse) if v.dtype != bool])


@pytest.mark.parametrize(
    "other",
    [
        lambda: mlp(shape=(5, 4, 1)),
        lambda: sparsify(zoo.build(Single(), "lenet", 3, (16, 16, 1)), 0.5),
        lambda: zoo.build(Tickets(2), "mlp", 3, (4, 4, 1)),
    ],
)
def test_files_of_another_architecture(other, tmp_path, raises_line):
    weight_files.write(mlp(), tmp_path)
    refused(
        other(), tmp_path / FILE, raises_line, r"holds 6 weights, .* has \d+; 000\d\.\w+ has .*build"
    )


def rewrite(path, change):
    """Change the arrays of a file, with checksums that are right."""
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)


def swap_bits(arrays):
    bits = np.unpackbits(arrays["0000.kernel.mask"])
    bits[np.flatnonzero(bits)[0]] = 0
    arrays["0000.kernel.mask"] = np.packbits(bits)


CHANGES = {
    "a connection less": swap_bits,
    "a value more": lambda a: a.update({"0000.kernel.values": np.append(a["0000.kernel.values"], 1.0)}),
    "half a mask": lambda a: a.update({"0000.kernel.mask": a["0000.kernel.mask"][:5]}),
    "another mask": lambda a: a.update({"0000.kernel.mask": a["0002.kernel.mask"]}),
    "mask of bytes": lambda a: a.update({"0000.kernel.mask": a["0000.kernel.mask"].astype("int64")}),
    "no mask": lambda a: a.pop("0002.kernel.mask"),
    "no values": lambda a: a.pop("0002.kernel.values"),
    "no shape": lambda a: a.pop("0002.kernel.shape"),
    "turned shape": lambda a: a.update({"0000.kernel.shape": a["0000.kernel.shape"][::-1]}),
    "short bias": lambda a: a.update({"0001.bias.values": a["0001.bias.values"][:-1]}),
    "whole numbers": lambda a: a.update({"0001.bias.values": a["0001.bias.values"].astype("int32")}),
    "one weight more": lambda a: a.update({"0099.bias.values": np.zeros(3)}),
    "something else": lambda a: a.update({"notes": np.zeros(3)}),
    "not flat": lambda a: a.update({"0001.bias.values": a["0001.bias.values"][None]}),
    "objects": lambda a: a.update({"0001.bias.values": np.array([{}, []], object)}),
    "nothing": lambda a: a.clear(),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the weights of `mlp()`."""
    folder = tmp_path_factory.mktemp("written")
    weight_files.write(mlp(), folder)
    return folder


@pytest.fixture(scope="module")
def another():
    """A model of the same shapes, which refuses what is wrong and stays as it is."""
    return mlp(seed=1)


@pytest.mark.parametrize("kind", CHANGES)
def test_files_that_contradict_themselves_are_refused(kind, written, another, tmp_path, raises_line):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    rewrite(tmp_path / FILE, CHANGES[kind])
    refused(another, tmp_path / FILE, raises_line, FILE)


def _content(whole, entry):
    """Where an entry of an archive has its content."""
    name, extra = struct.unpack("<HH", whole[entry.header_offset + 26 : entry.header_offset + 30])
    start = entry.header_offset + 30 + name + extra
    return range(start, start + entry.compress_size)


@pytest.mark.slow
def test_no_flipped_bit_and_no_lost_byte_goes_unnoticed(tmp_path, raises_line):
    source, model = perturb(mlp()), perturb(mlp(seed=1), seed=1)
    record = weight_files.write(source, tmp_path)[FILE]
    path, expected = tmp_path / FILE, stored(source)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:  # where file headers, contents and the directory are
        entries = archive.infolist()
        stored_at = {i for x in entries for i in _content(content, x)}
        headers = [i for x in entries for i in range(x.header_offset, x.header_offset + 60)]
        directory = range(archive.start_dir, len(content))
    places = {*np.random.default_rng(0).choice(len(content), 150), *headers[::11], *directory[::9]}
    before = copies(model)
    for place in sorted(map(int, places)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            weight_files.load_file(model, path)
        except ValueError as error:
            assert "\n" not in str(error) and FILE in str(error)
            assert_equal_bits(numpy(model), before)
        else:  # such as the time of an entry
            assert place not in stored_at
            assert_equal_bits(numpy(model), expected)
            before = copies(perturb(model))
    assert len(stored_at & places) > 100
    with raises_line(ValueError, "sha256"):
        weight_files.load_folder(model, tmp_path, {"files": {FILE: record}})
    for length in (0, 1, 100, len(content) // 2, len(content) - 30, len(content) - 1):
        path.write_bytes(content[:length])
        refused(model, path, raises_line, "not a complete weights file")
