"""Fast weights' learning-rate factor and freedom from weight decay.  Runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo import fast_weights
from zoo.layers import BatchEnsembleDense, BatchNormalization, MemberLogits, TileMembers
from zoo.methods import BatchEnsemble

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": lambda rate: SGD(rate, 0.9),
    "nesterov": lambda rate: SGD(rate, 0.9, nesterov=True),
    "sgd with decay": lambda rate: SGD(rate, weight_decay=0.5),
    "adam": Adam,
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.5),
    "nadam": keras.optimizers.Nadam,
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate, momentum=0.5, weight_decay=0.5),
    "lamb": keras.optimizers.Lamb,
    "schedule": lambda rate: Adam(keras.optimizers.schedules.ExponentialDecay(rate, 1, 0.5)),
}


def numpy(value):
    return ops.convert_to_numpy(value)


def classifier(multiplier=0.5, **options):
    """A small ensemble with names that a rule by name would trip over."""
    options = {"fast_weight_lr_multiplier": multiplier, **options}
    images = keras.Input((2, 2, 1))
    x = TileMembers(2)(keras.layers.Flatten()(images))
    x = BatchEnsembleDense(3, 2, name="batch_normalization_kernel", **options)(x)
    x = BatchNormalization(name="alpha")(x)  # its gamma is not a fast weight
    x = keras.layers.Dense(3, name="r")(x)
    x = BatchEnsembleDense(3, 2, name="kernel", **options)(x)
    return zoo.EnsembleClassifier(keras.Model(images, MemberLogits(2)(x)), member_loss="mean")


def split(model):
    """(fast weights, all other trainable variables)."""
    fast = [weight for layer in model.network.layers for weight in getattr(layer, "fast_weights", [])]
    others = [v for v in model.trainable_variables if not any(v is weight for weight in fast)]
    assert (len(fast), len(others)) == (4, 8)
    return fast, others


def data(count=6):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (count, 2, 2, 1)).astype("float32"), rng.integers(0, 3, count)


def compiled(optimizer, multiplier=0.5, **options):
    keras.utils.set_random_seed(3)
    model = classifier(multiplier)
    model.compile(optimizer, zoo.losses.CrossEntropy(), run_eagerly=True, **options)
    return model


def change(model, run):
    """What `run` adds to the fast weights and to the others."""
    parts = split(model)
    before = [[numpy(v).copy() for v in part] for part in parts]
    run()
    return [[numpy(v) - b for v, b in zip(part, old)] for part, old in zip(parts, before)]


@pytest.mark.fast("nesterov-0.5", "sgd with decay-0.5", "adamw-0.5", "momentum-0.0")
@pytest.mark.parametrize(
    ("name", "multiplier"), [*((name, 0.5) for name in OPTIMIZERS), ("momentum", 0.0), ("adam", 2.0)]
)
def test_steps_are_those_of_an_optimiser_with_that_rate(name, multiplier):
    """One optimiser's steps are those of two, the fast weights' with another rate and without decay."""
    model = classifier(multiplier)
    parts = split(model)
    optimizer, *twins = (OPTIMIZERS[name](rate) for rate in (0.1, 0.1 * multiplier, 0.1))
    twins[0].weight_decay = None
    copies = [[keras.Variable(numpy(v).copy()) for v in part] for part in parts]
    ours = [*parts[0], *parts[1]]
    for some, variables in ((optimizer, ours), *zip(twins, copies)):
        some.build(variables)
    fast_weights.apply_multipliers(optimizer, model)
    fast_weights.apply_multipliers(optimizer, model)
    rng = np.random.default_rng(1)
    for _ in range(3):
        gradients = [ops.array(rng.normal(size=v.shape).astype("float32")) for v in ours]
        optimizer.apply(gradients, ours)
        twins[0].apply(gradients[:4], copies[0])
        twins[1].apply(gradients[4:], copies[1])
    for v, copy in zip(ours, [*copies[0], *copies[1]], strict=True):
        np.testing.assert_allclose(numpy(v), numpy(copy), rtol=1e-5, atol=1e-6, err_msg=v.path)


@pytest.mark.fast("momentum")
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_training_step_with_half_the_rate_is_half_a_step(name):
    def step(multiplier):
        model = compiled(OPTIMIZERS[name](0.1), multiplier)
        return change(model, lambda: model.train_on_batch(*data()))

    (whole, others), (half, same), (none, also) = step(1.0), step(0.5), step(0.0)
    for a, b, c in zip(whole, half, none):
        assert np.abs(a).min() > 0
        np.testing.assert_allclose(b, a / 2, atol=2e-7)
        np.testing.assert_array_equal(c, 0)
    for a, b, c in zip(others, same, also):
        np.testing.assert_allclose(b, a, atol=1e-7)
        np.testing.assert_allclose(c, a, atol=1e-7)


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.parametrize("make", [keras.optimizers.AdamW, SGD])
def test_fit_again_and_compile_again_change_nothing(make):
    """With nothing to learn, weights move by decay alone: fast ones never, others once a step."""
    model = compiled(make(0.1, weight_decay=0.5))
    x, y = data()

    def run():
        for _ in range(2):
            model.fit(x, y, sample_weight=np.zeros(6), verbose=0)
        model.compile(model.optimizer, model.loss, run_eagerly=True)
        model.fit(x, y, sample_weight=np.zeros(6), batch_size=6, verbose=0)

    kernel = model.network.get_layer("kernel").kernel
    gamma = model.network.get_layer("alpha").gamma
    before = [numpy(v).copy() for v in (kernel, gamma)]
    fast, _ = change(model, run)
    for moved in fast:
        np.testing.assert_array_equal(moved, 0)
    for v, old in zip((kernel, gamma), before):
        np.testing.assert_allclose(numpy(v), old * 0.95**3, rtol=1e-5)


def test_optimisers_own_exclusions_stay():
    optimizer = SGD(0.1, weight_decay=0.5)
    model = compiled(optimizer)
    gamma = model.network.get_layer("alpha").gamma
    optimizer.exclude_from_weight_decay([gamma])
    x, y = data()
    model.fit(x, y, sample_weight=np.zeros(6), verbose=0)
    np.testing.assert_array_equal(numpy(gamma), 1)


@pytest.mark.slow
def test_a_compiled_fit_keeps_to_it():
    def step(multiplier, eagerly):
        model = compiled(Adam(0.1), multiplier)
        model.run_eagerly = eagerly
        return change(model, lambda: model.fit(*data(), verbose=0))

    (whole, others), (half, same) = step(1.0, True), step(0.5, False)
    for a, b in zip(whole, half):
        np.testing.assert_allclose(b, a / 2, atol=1e-5)
    for a, b in zip(others, same):
        np.testing.assert_allclose(b, a, atol=1e-4)


def test_mixed_precision_keeps_to_it():
    keras.config.set_dtype_policy("mixed_float16")
    whole, half = (compiled(SGD(1.0), multiplier) for multiplier in (1.0, 0.5))
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    changes = [change(m, lambda m=m: m.train_on_batch(*data())) for m in (whole, half)]
    for a, b in zip(changes[0][0], changes[1][0]):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(b, a / 2, atol=1e-6)
    for a, b in zip(changes[0][1], changes[1][1]):
        np.testing.assert_allclose(b, a, atol=1e-6)


def test_a_saved_model_keeps_to_it(tmp_path):
    model = compiled(keras.optimizers.AdamW(0.1, weight_decay=0.5))
    model.train_on_batch(*data())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for network in (model, loaded):
        network.train_on_batch(*data())
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6)


def test_a_network_without_fast_weights_has_its_optimiser_left_alone(tiny):
    model = tiny(zoo.methods.Single())
    fast_weights.apply_multipliers(model.optimizer, model)
    assert not {"update_step", "_use_weight_decay"} & set(vars(model.optimizer))


def test_the_method_passes_the_factor_on(tiny):
    model = tiny(BatchEnsemble(2, fast_weight_lr_multiplier=0.25, tile_at="head"))
    factors = {
        layer.name: layer.fast_weight_lr_multiplier
        for layer in model.network.layers
        if hasattr(layer, "fast_weights")
    }
    assert factors == {"head": 0.25}
