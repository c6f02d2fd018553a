"""The search space of hyper-deep ensembles: groups of kernels, their L2 terms, dropout and samples."""

import dataclasses

import keras
import numpy as np
import pytest

from zoo.training import recipes
from zoo.training.ensembles import search_space
from zoo.training.loop import from_recipe


@pytest.fixture(scope="module")
def recipe():
    return dataclasses.replace(recipes.recipe("mnist_single_mlp"), backbone="resnet20")


@pytest.fixture(scope="module")
def resnet(recipe):
    return from_recipe.model_of(recipe, (8, 8, 1), 3)


def test_every_kernel_is_in_one_group(resnet):
    groups = search_space.l2_groups(resnet.network)
    assert list(groups) == ["stem", "stage1", "stage2", "stage3", "head_kernel", "head_bias"]
    assert [len(variables) for variables in groups.values()] == [1, 6, 7, 7, 1, 1]
    grouped = [id(variable) for variables in groups.values() for variable in variables]
    kernels = [id(weight) for weight in resnet.network.weights if len(weight.shape) > 1]
    assert sorted(grouped) == sorted([*kernels, id(resnet.network.get_layer("head").bias)])


def test_l2_is_half_the_coefficient_times_the_squared_norm(resnet, recipe):
    resnet.network.get_layer("head").bias.assign([1.0, 2.0, 3.0])
    groups = search_space.l2_groups(resnet.network)

    def added(configuration):
        network = search_space.configure(resnet, recipe, configuration)
        return float(sum(keras.ops.convert_to_numpy(loss) for loss in network.losses))

    norms = {
        group: sum(float((keras.ops.convert_to_numpy(v) ** 2).sum()) for v in variables)
        for group, variables in groups.items()
    }
    default = recipe.weight_decay / 2 * (sum(norms.values()) - norms["head_bias"])
    assert added({}) == pytest.approx(default, rel=1e-4)
    coefficients = {f"l2_{group}": 0.1 * 2**index for index, group in enumerate(groups)}
    expected = sum(coefficients[f"l2_{group}"] / 2 * norm for group, norm in norms.items())
    assert added(coefficients) == pytest.approx(expected, rel=1e-4)
    assert added({"l2_head_bias": 1.0}) == pytest.approx(default + norms["head_bias"] / 2, rel=1e-4)


def test_dropout_is_before_the_head_and_shares_the_weights(resnet, recipe, images):
    network = search_space.configure(resnet, recipe, {"dropout": 0.5})
    assert {id(v) for v in network.trainable_variables} == {id(v) for v in resnet.trainable_variables}
    x = images[:, :8, :8, :1].astype("float32")
    plain, twin = resnet.network(x), network(x)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (plain, twin)))
    inner = network.get_layer("dropout")
    assert inner.rate == 0.5 and tuple(inner.output.shape[1:]) == (64,)
    first, second = (keras.ops.convert_to_numpy(network(x, training=True)) for _ in range(2))
    assert (first != second).any()


def test_samples_are_log_uniform_in_their_ranges_and_decided_by_their_number():
    space = search_space.SearchSpace({"l2_stem": (1e-6, 1e-2), "dropout": (0.01, 0.5)}, seed=3)
    samples = [space.sample(index) for index in range(1, 401)]
    for name, (low, high) in space.ranges.items():
        logs = np.log([sample[name] for sample in samples])
        assert low <= np.exp(logs.min()) and np.exp(logs.max()) <= high * (1 + 1e-12)
        share = (logs - np.log(low)) / np.log(high / low)
        assert abs(share.mean() - 0.5) < 0.05 and abs(np.mean(share < 0.25) - 0.25) < 0.07
    assert space.sample(7) == samples[6] == dataclasses.replace(space).sample(7)
    assert dataclasses.replace(space, seed=4).sample(7) != samples[6]
