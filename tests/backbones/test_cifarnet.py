"""Cifarnet: every method builds it, its cost, and the features that all its members read."""

import keras
import numpy as np
import pytest

import zoo
from zoo import counts
from zoo.methods import METHODS
from zoo.training import recipes
from zoo.training.loop import from_recipe


@pytest.mark.fast("packed", "mimo")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_builds_it_on_one_whitening_layer(name, images):
    model = zoo.load(f"{name}_cifarnet", weights=None, num_classes=3, input_shape=(16, 16, 3))
    found = [x for x in model.network.layers if isinstance(x, zoo.layers.PatchWhitening)]
    assert len(found) == 1 and not found[0].trainable_variables
    prediction = zoo.predict(model, images)
    assert prediction.members.shape == (5, model.num_members, 3)
    assert len(np.unique(prediction.probabilities[:, 0])) == 5


def test_the_single_network_costs_what_the_paper_says():
    """118.1 M multiply-accumulates an image (arXiv 2404.00498), by hand: three stages and the head."""
    network = zoo.load("single_cifarnet", weights=None).network
    by_hand = 31 * 31 * 12 * 24 + 31 * 31 * 9 * 24 * 64 + 15 * 15 * 9 * 64 * 64
    by_hand += 15 * 15 * 9 * 64 * 256 + 7 * 7 * 9 * 256 * 256
    by_hand += 7 * 7 * 9 * 256 * 256 + 3 * 3 * 9 * 256 * 256 + 256 * 10
    assert counts.macs(network) == by_hand
    assert counts.macs(network) == pytest.approx(118.1e6, rel=0.01)


def test_training_fits_the_whitening_to_the_normalised_images(data_dir):
    recipe = recipes.Recipe("cifar10", "single", "cifarnet")
    split = zoo.data.arrays.load("cifar10", "train", data_dir)
    network = from_recipe.model_of(recipe, split.image_shape, 10).network
    from_recipe.adapt(network, split)
    layer = network.get_layer("whitening")
    features = keras.Model(network.input, layer.output).predict(split.images, verbose=0)
    half = features.reshape(-1, features.shape[-1])[:, :12]
    np.testing.assert_allclose(np.cov(half.T, bias=True).diagonal()[:3], 1, atol=0.02)


def test_single_networks_with_one_whitening_are_fused(raises_line):
    models = [zoo.build(zoo.methods.Single(), "cifarnet", 3, (16, 16, 3)) for _ in range(2)]
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), "uint8")
    members = zoo.predict(zoo.fuse(models), images).members
    for member, model in enumerate(models):
        expected = zoo.predict(model, images).probabilities
        np.testing.assert_allclose(members[:, member], expected, atol=1e-5)
    whitening = models[1].network.get_layer("whitening")
    whitening.set_weights([weight + 1 for weight in whitening.get_weights()])
    with raises_line(
        ValueError, "differ in whitening, which all members share; join them by zoo.ensemble"
    ):
        zoo.fuse(models)
