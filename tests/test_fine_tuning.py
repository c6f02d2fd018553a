"""Freezing a body and using it for features.  Runs on every backend."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo import methods
from zoo.fine_tuning import features, head_layers

METHODS = {
    "single": methods.Single(),
    "packed": methods.Packed(2, alpha=1),
    "deep_ensemble": methods.DeepEnsemble(2),
    "batch_ensemble": methods.BatchEnsemble(2),
    "hyper_batch": methods.HyperBatch(2),
    "masksembles": methods.Masksembles(2),
    "mc_dropout": methods.MCDropout(2),
    "mimo": methods.MIMO(2),
    "tickets": methods.Tickets(2, sparsity=0.5),
}


def numpy(weights):
    return [ops.convert_to_numpy(weight) for weight in weights]


@pytest.mark.fast("packed")
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", METHODS)
def test_a_frozen_body_stays_as_it_is_and_the_head_learns(name, tiny, images, labels):
    model = tiny(METHODS[name], backbone="lenet")
    (head,) = head_layers(model.network)
    assert head.name == "head"
    assert model.freeze_body(learning_rate=0.1) is model
    assert {id(w) for w in model.trainable_variables} == {id(w) for w in head.trainable_variables}
    body = [w for w in model.network.variables if id(w) not in {id(v) for v in head.variables}]
    body = [w for w in body if "seed" not in w.path]
    before, head_before = numpy(body), numpy(head.trainable_variables)
    model.fit(images, labels, verbose=0)
    for weight, old in zip(numpy(body), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert any((new != old).any() for new, old in zip(numpy(head.trainable_variables), head_before))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)

    model.unfreeze(learning_rate=0.01)
    assert len(model.trainable_variables) > len(head.trainable_variables)
    model.fit(images, labels, verbose=0)
    trained = [w.path for w in body if w.trainable]
    changed = [w.path for w, new, old in zip(body, numpy(body), before) if (new != old).any()]
    assert set(trained) & set(changed)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_normalisation_of_a_frozen_body_uses_and_keeps_its_statistics(images, labels):
    model = zoo.build(methods.Packed(2, alpha=1), "resnet20", 3, (16, 16, 3))
    moving = [w for w in model.network.variables if "moving" in w.path]
    before = numpy(moving)
    model.freeze_body().fit(images, labels, verbose=0)
    for weight, old in zip(numpy(moving), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.slow
def test_joined_and_converted_models_have_their_own_heads(tiny):
    joined = zoo.ensemble([tiny(METHODS["single"]), tiny(METHODS["packed"])])
    assert len(head_layers(joined.network)) == 2
    joined.freeze_body()
    assert len(joined.trainable_variables) == 4
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dense(4, activation="relu")(keras.layers.Flatten()(inputs))
    user = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="answers")(x))
    converted = zoo.convert(user, "batch_ensemble")
    assert [layer.name for layer in head_layers(converted.network)] == ["answers"]


@pytest.mark.fast("packed")
@pytest.mark.parametrize("name", METHODS)
def test_the_head_applied_to_the_backbone_gives_the_logits(name, tiny, images):
    model = tiny(METHODS[name], backbone="lenet")
    found = ops.convert_to_numpy(model.backbone(images.astype("float32")))
    (head,) = head_layers(model.network)
    kernel = ops.convert_to_numpy(head.kernel)
    logits = ops.convert_to_numpy(model.network(images.astype("float32")))
    assert found.shape[0] == 5 and found.shape[1] == (1 if name == "mimo" else model.num_members)
    if name in ("single", "mimo"):
        bias = ops.convert_to_numpy(head.bias)
        expected = (found[:, 0] @ kernel + bias).reshape(logits.shape)
    elif name in ("packed", "deep_ensemble", "tickets"):
        bias = ops.convert_to_numpy(head.bias).reshape(kernel.shape[0], -1)
        expected = np.einsum("bmd,mdk->bmk", found, kernel) + bias
    else:  # their heads look at rows: what they make of the features is theirs to test
        assert found.shape[2] == head_features(head, kernel)
        return
    np.testing.assert_allclose(expected, logits, atol=1e-4)


def head_features(head, kernel):
    return kernel.shape[-2]


@pytest.mark.parametrize("backbone", ["resnet20", "efficientnet_lite0"])
@pytest.mark.slow
def test_pooling_is_that_of_the_maps(backbone):
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for method in (methods.Single(), methods.Packed(2, alpha=1), methods.BatchEnsemble(2)):
        network = zoo.build(method, backbone, 3, (32, 32, 3)).network
        maps = ops.convert_to_numpy(features(network, None)(images))
        assert maps.ndim == 5 and maps.shape[:2] == (2, method.num_members)
        for pooling, pooled in (("avg", maps.mean(axis=(2, 3))), ("max", maps.max(axis=(2, 3)))):
            given = ops.convert_to_numpy(features(network, pooling)(images))
            np.testing.assert_allclose(given, pooled, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_features_are_loaded_without_a_head(images, raises_line):
    options = dict(weights=None, input_shape=(16, 16, 3), include_top=False)
    model = zoo.load("packed_resnet20", **options)
    assert type(model) is not zoo.EnsembleClassifier and model.output_shape == (None, 4, 32)
    assert zoo.load("packed_resnet20", **options, pooling=None).output_shape == (None, 4, 4, 4, 32)
    with raises_line(ValueError, 'pooling must be "avg", "max" or None'):
        zoo.load("packed_resnet20", **options, pooling="mean")
    with raises_line(ValueError, "does not end in pooled maps"):
        zoo.load("single_mlp", **options, pooling=None)


def test_weights_files_keep_the_network_s_keys(tiny, tmp_path):
    """Files of earlier versions have these keys; a property of the model must not change them."""
    tiny(backbone="lenet").save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        keys = set()
        file.visit(keys.add)
    assert "backbone" not in keys
    assert any(key.startswith("layers/functional/layers/") and key.endswith("/vars/0") for key in keys)
