"""Members of a packed network do not touch each other; single networks fuse into one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo

SIZES = {"lenet": (16, 16, 3), "cifarnet": (16, 16, 3), "mlp": (4, 4, 3)}
LARGE = ("resnet50", "wide_resnet28_10", "efficientnet_lite0")


def build(backbone, method):
    model = zoo.build(method, backbone, 5, SIZES.get(backbone, (8, 8, 3)))
    images = np.random.default_rng(3).uniform(0, 255, (4, *model.input_shape[1:])).astype("float32")
    return model, images


def slices(layer, weight, gradient, members):
    """A gradient's part for each member."""
    packed_kernel = weight is getattr(layer, "kernel", None)
    if packed_kernel and isinstance(layer, keras.layers.DepthwiseConv2D):
        return np.split(gradient, members, axis=-2)
    if packed_kernel and weight.shape[0] > 1:
        return np.split(gradient, members, axis=0)
    return np.split(gradient, members, axis=-1)


# (members, gamma); large networks with both more members and more groups only.
PAIRS = [(2, 1), (2, 2), (4, 1), (4, 2)]
CASES = [
    (backbone, *pair)
    for backbone in zoo.backbones.BACKBONES
    for pair in (
        PAIRS if backbone in ("mlp", "lenet") else PAIRS[3:] if backbone in LARGE else PAIRS[::3]
    )
]


@pytest.mark.fast("mlp-2-2", "lenet-2-1")
@pytest.mark.parametrize(("backbone", "members", "gamma"), CASES)
def test_a_members_logits_have_gradients_on_its_own_weights_only(backbone, members, gamma):
    model, images = build(backbone, zoo.methods.Packed(members, members / 2, gamma))
    owners = [(layer, w) for layer in model.network.layers for w in layer.trainable_weights]
    assert len(owners) == len(model.trainable_weights)
    for training in (False, True) if backbone not in LARGE else (True,):
        with tf.GradientTape(persistent=True) as tape:
            logits = model.network(images, training=training)
            probes = [tf.reduce_sum(tf.sin(logits[:, i])) for i in range(members)]
        for i, probe in enumerate(probes):
            gradients = tape.gradient(probe, [weight.value for _, weight in owners])
            for (layer, weight), gradient in zip(owners, gradients, strict=True):
                for j, part in enumerate(slices(layer, weight, gradient.numpy(), members)):
                    assert (part != 0).any() if i == j else (part == 0).all(), (weight.path, i, j)


def test_gamma_groups_are_there_where_layers_are_wide():
    model, _ = build("resnet18", zoo.methods.Packed(4, 2, 2))
    groups = {layer.name: layer.groups for layer in model.network.layers if hasattr(layer, "groups")}
    assert groups["stem_conv"] == 1
    assert groups["stage3_block2_2_conv"] == groups["stage4_block1_2_conv"] == 8
    assert groups["stage4_block1_1_conv"] == groups["stage2_block1_2_conv"] == groups["head"] == 4


@pytest.fixture(scope="module", params=["resnet20", "lenet", "mlp"])
def singles(request):
    """Three single networks of one architecture after a training step each."""
    models = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        model, images = build(request.param, zoo.methods.Single())
        model.run_eagerly = True
        model.train_on_batch(images * (seed + 1) / 4, np.arange(4))
        models.append(model)
    return models, images


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 2, 3])
def test_fused_singles_answer_as_before(singles, members):
    models, images = singles
    fused = zoo.fuse(models[:members])
    assert fused.spec["method"] == {
        "name": "packed",
        "num_members": members,
        "alpha": members,
        "gamma": 1,
    }
    logits = fused.network(images).numpy()
    for i, model in enumerate(models[:members]):
        np.testing.assert_allclose(logits[:, i], model.network(images).numpy()[:, 0], atol=1e-4)
    assert members == 1 or not np.allclose(logits[:, 0], logits[:, 1], atol=1e-3)


@pytest.mark.slow
def test_fused_network_trains_on(singles):
    models, images = singles
    fused = zoo.fuse(models[:2])
    fused.run_eagerly = True
    before = fused.network.get_weights()
    assert np.isfinite(fused.train_on_batch(images, np.arange(4))[0])
    assert any((old != new).any() for old, new in zip(before, fused.network.get_weights(), strict=True))


@pytest.mark.slow
def test_ensemble_answers_with_the_mean_and_copies_weights(singles):
    models, images = singles
    joined = zoo.ensemble(models)
    assert joined.num_members == 3
    members = np.concatenate([zoo.predict(model, images).members for model in models], axis=1)
    np.testing.assert_allclose(zoo.predict(joined, images).members, members, atol=1e-5)
    np.testing.assert_allclose(
        np.exp(joined.predict(images, verbose=0)), members.mean(axis=1), atol=1e-5
    )
    kept = models[0].network.get_weights()
    joined.run_eagerly = True
    joined.train_on_batch(images, np.arange(4))
    for old, new in zip(kept, models[0].network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_ensemble_of_different_methods_and_backbones_round_trips(tmp_path):
    single, images = build("lenet", zoo.methods.Single())
    packed = zoo.build(zoo.methods.Packed(2, 1), "mlp", 5, (16, 16, 3))
    joined = zoo.ensemble([single, packed])
    assert joined.num_members == 3
    joined.save(tmp_path / "joined.keras")
    loaded = keras.saving.load_model(tmp_path / "joined.keras")
    np.testing.assert_array_equal(loaded(images), joined(images))


def test_softmax_models_join_as_such():
    model = zoo.build(zoo.methods.Single(), "mlp", 3, (4, 4, 1), activation="softmax")
    images = np.full((2, 4, 4, 1), 90, "uint8")
    for joined in (zoo.ensemble([model, model]), zoo.fuse([model, model])):
        np.testing.assert_allclose(
            joined.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5
        )


def mlp(classes=3, shape=(4, 4, 1), method=None, **options):
    return zoo.build(method or zoo.methods.Single(), "mlp", classes, shape, **options)


@pytest.mark.parametrize("join", [zoo.fuse, zoo.ensemble])
@pytest.mark.parametrize(
    ("models", "pattern"),
    [
        (lambda: [], "no models"),
        (lambda: [mlp(), mlp(classes=4)], "3 classes.*4"),
        (lambda: [mlp(), mlp(shape=(5, 4, 1))], r"\(4, 4, 1\).*\(5, 4, 1\)"),
        (lambda: [mlp(), keras.Sequential()], "Sequential"),
    ],
)
def test_models_that_cannot_be_joined(join, models, pattern, raises_line):
    with raises_line(ValueError, pattern):
        join(models())


@pytest.mark.parametrize(
    "other",
    [
        lambda: mlp(method=zoo.methods.Packed(2, 1)),
        lambda: mlp(std=50),
        lambda: zoo.ensemble([mlp()]),
        lambda: zoo.build(zoo.methods.Single(), "lenet", 3, (16, 16, 1)),
    ],
)
def test_only_singles_of_one_architecture_fuse(other, raises_line):
    other = other()
    with raises_line(ValueError, "zoo.ensemble"):
        zoo.fuse([mlp(shape=other.input_shape[1:]), other])
