"""What all tests share: small data, seeds, fresh processes."""

import contextlib
import dataclasses
import functools
import gc
import json
import os
import pathlib
import shutil
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On JAX nearly all time goes into compiling small programs: less thoroughly, and once for all processes
# and runs.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import hypothesis
import keras
import numpy as np
import pytest

import zoo
import zoo.weights
from zoo.files import hashes

# Tracing makes millions of small objects: looking for cycles among them takes an eighth of all time.
gc.set_threshold(200_000, 20, 100)

pytest.register_assert_rewrite("helpers")


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="of Keras, NumPy and Python before every test")
    parser.addoption("--faults", type=int, default=60, help="damaged files of each kind in tests/faults")
    parser.addoption("--serving_seconds", type=float, default=1.5, help="of load in tests/faults")


def pytest_configure(config):
    """Hypothesis tries the same cases in every run; another `--seed` lets it look for others."""
    hypothesis.settings.register_profile("seeded", derandomize=config.getoption("--seed") == 0)
    hypothesis.settings.load_profile("seeded")


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(config, items):
    """Marks what is slow in a grid; the long tests on JAX come first, so that others go on meanwhile."""
    unknown = set()
    for item in items:
        if fast := item.get_closest_marker("fast"):
            name = item.nodeid.partition("[")[0]
            unknown |= {f"{name}[{case}]" for case in fast.args}
            if item.callspec.id not in fast.args:
                item.add_marker("slow")
    unknown -= {item.nodeid for item in items}
    if unknown and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"fast(...) names cases that do not exist: {', '.join(sorted(unknown))}")
    items.sort(key=lambda item: item.path.name != "test_jax.py")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """Fixtures of modules and of the whole run, which come before `seeds` and after any test, have its seeds, too."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(request.config.getoption("--seed"))


@pytest.fixture(autouse=True)
def seeds(request):
    """Every test begins with the same seeds (`--seed`) and in float32."""
    keras.utils.set_random_seed(request.config.getoption("--seed"))
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def eagerly(request):
    """TensorFlow without graphs in slow tests of other things than graphs: building one takes longer than a few steps.

    The fast cases of a grid have graphs, as users do.
    """
    if keras.backend.backend() != "tensorflow" or not request.node.get_closest_marker("slow"):
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def quick_initializers(monkeypatch):
    """For counts, which need no random draws: these take most of the time of building."""
    zeros = keras.initializers.Zeros()
    draw = "keras.initializers.VarianceScaling.__call__"
    monkeypatch.setattr(draw, lambda self, *args, **options: zeros(*args, **options))


@pytest.fixture(scope="session")
def images():
    """Five uint8 images 16x16x3."""
    return np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), "uint8")


@pytest.fixture(scope="session")
def labels():
    """Labels of the five images, of three classes."""
    return np.array([0, 1, 2, 1, 1])


@pytest.fixture(scope="session")
def raises_line():
    """`with raises_line(ValueError, "pattern"):` an error whose message is one line that says this."""

    @contextlib.contextmanager
    def check(error, match):
        with pytest.raises(error, match=match) as caught:
            yield
        assert "\n" not in str(caught.value)

    return check


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """Run arguments of a fresh interpreter away from the checkout; returns the finished process."""
    folder = tmp_path_factory.mktemp("process")

    def run(*arguments, succeeds=True, timeout=900, **environment):
        process = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=folder, env={**os.environ, **environment},
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if succeeds:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@pytest.fixture(scope="session")
def forked_python(tmp_path_factory):
    """As `python`, for what is not about how a process begins: with Keras imported, five seconds earlier."""
    from helpers import forks

    folder = tmp_path_factory.mktemp("process")

    def run(*arguments, succeeds=True, **environment):
        process = forks.run(arguments, folder, env=os.environ | environment)
        if succeeds:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """A folder with a tiny `mnist.npz` of noisy images 6x6 of four classes."""
    rng = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 100), ("test", 40)):
        y = np.arange(count) % 4
        x = rng.integers(0, 150, (count, 6, 6))
        x[np.arange(count), y] += 90
        arrays |= {f"x_{split}": x.astype("uint8"), f"y_{split}": y.astype("uint8")}
    folder = tmp_path_factory.mktemp("mnist")
    np.savez(folder / "mnist.npz", **arrays)
    return folder


@pytest.fixture(scope="session")
def mnist_28(tmp_path_factory):
    """A folder with a tiny `mnist.npz` of noisy images 28x28 of four classes."""
    rng, arrays = np.random.default_rng(3), {}
    for split, count in (("train", 160), ("test", 40)):
        y = np.arange(count) % 4
        x = rng.integers(0, 150, (count, 28, 28))
        for row, label in enumerate(y):
            x[row, 7 * label : 7 * label + 7] += 90
        arrays |= {f"x_{split}": x.astype("uint8"), f"y_{split}": y.astype("uint8")}
    folder = tmp_path_factory.mktemp("mnist")
    np.savez(folder / "mnist.npz", **arrays)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder with a tiny synthetic `cifar10.npz`: 96 and 40 images 32x32x3 of ten classes."""
    rng = np.random.default_rng(2)
    folder = tmp_path_factory.mktemp("data")
    arrays = {}
    for split, count in (("train", 96), ("test", 40)):
        y = np.arange(count) % 10
        noise = rng.integers(0, 100, (count, 32, 32, 3))
        arrays[f"x_{split}"] = (noise + 15 * y[:, None, None, None]).astype("uint8")
        arrays[f"y_{split}"] = y.astype("uint8")
    np.savez(folder / "cifar10.npz", **arrays)
    return folder


@pytest.fixture(scope="session")
def publish():
    """Write a model's weights and the part of `config.json` that loading reads; returns the config."""

    def write(model, folder, dataset="cifar10"):
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "name": model.name,
            "dataset": dataset,
            "spec": model.spec,
            "num_members": model.num_members,
            "files": zoo.weights.write(model, folder),
        }
        (folder / "config.json").write_text(json.dumps(config))
        return config

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """A folder as training leaves it: packed LeNet after an epoch on tiny data."""
    from zoo.training import recipes
    from zoo.training.loop import run

    folder = tmp_path_factory.mktemp("runs") / "cifar10_packed_lenet"
    recipe = dataclasses.replace(
        recipes.recipe("cifar10_packed_lenet"), epochs=1, batch_size=8, num_members=2
    )
    run.train(recipe, data_dir, folder, command="a command")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of that folder to damage."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "packed_lenet-cifar10"))


@pytest.fixture
def served(folder, tmp_path, monkeypatch):
    """An index with one entry whose files are nowhere but at ZOO_WEIGHTS_URL; returns the cache."""
    config = json.loads((folder / "config.json").read_text())
    entry = {
        "folder": folder.name,
        **{key: config[key] for key in ("name", "dataset", "metrics", "files")},
        "config": hashes.fingerprint(folder / "config.json"),
    }
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(zoo.registry, "index", lambda: (entry,))
    monkeypatch.setattr(zoo.registry, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_WEIGHTS_URL", folder.parent.as_uri())
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def resnet(tmp_path_factory, publish):
    """A folder with weights of a ResNet-20 for 8x8 images of 5 classes, and the model."""
    model = zoo.build(zoo.methods.Packed(2, 1), "resnet20", 5, (8, 8, 3))
    rng = np.random.default_rng(6)
    model.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    folder = tmp_path_factory.mktemp("runs") / "packed_resnet20-cifar10"
    publish(model, folder)
    return folder, model


@pytest.fixture(scope="session")
def same_weights():
    """Assert that two models' networks have equal weights."""

    def check(model, other):
        for a, b in zip(model.network.get_weights(), other.network.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    return check


@pytest.fixture
def check_layer(tmp_path):
    """See `helpers.layer_checks`."""
    from helpers import layer_checks

    return functools.partial(layer_checks.check_layer, tmp_path=tmp_path)


@pytest.fixture(scope="session")
def check_formula():
    """See `helpers.layer_checks`."""
    from helpers import layer_checks

    return layer_checks.check_formula


@pytest.fixture(scope="session")
def tiny():
    """A small compiled classifier of 3 classes, three members unless `method` says otherwise."""

    def build(method=None, backbone="mlp", input_shape=(16, 16, 3), **options):
        method = method or zoo.methods.Packed(2, alpha=1)
        return zoo.build(method, backbone, 3, input_shape, **options)

    return build
