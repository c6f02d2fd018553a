"""Recipes, and runs of them in this process.  Runs on every backend."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import zoo
from zoo.probes import probe_images
from zoo.training import recipe_checks, recipes
from zoo.training.loop import from_recipe, run


def test_recipes_are_equal_for_all_methods():
    names = ("single", "packed")
    pair = [dataclasses.asdict(recipes.recipe(f"cifar10_{m}_resnet18")) for m in names]
    assert [r.pop("method") for r in pair] == list(names)
    assert pair[0] == pair[1]
    assert (pair[0]["dataset"], pair[0]["backbone"]) == ("cifar10", "resnet18")


@pytest.mark.parametrize("name", ["", "cifar10", "cifar10_packed_vgg", "svhn_packed_resnet18"])
def test_unknown_recipes_list_those_there_are(name, raises_line):
    with raises_line(ValueError, f"'{name}'.*cifar10_METHOD_resnet20"):
        recipes.recipe(name)


def test_weight_decay_is_on_kernels_alone():
    recipe = recipes.recipe("cifar10_packed_resnet20")
    model = from_recipe.model_of(recipe, (8, 8, 3), 10)
    optimizer = from_recipe.optimizer(recipe, model, from_recipe.learning_rate(recipe, 10))
    optimizer.build(model.trainable_variables)
    decayed = [v for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    assert {id(v) for v in decayed} == {id(v) for v in kernels}


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"batch_size": 1000}, "batch_size=1000.*96"),
        ({"method": "swag"}, "swag.*packed"),
        ({"schedule": "square"}, "schedule.*square"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1e6}, "alpha must be at most 1,024; got 1000000.0"),
        ({"num_members": 1025}, "num_members must be at most 1,024; got 1025"),
        ({"arguments": "alpha=x"}, "alpha must be a number > 0; got 'x'"),
        ({"accumulate": 25, "epochs": 2}, "accumulate=25 makes no update in 24 steps"),
        ({"shift": 32}, "shift=32 must be less than the side of the images, 32 pixels"),
        ({"image_size": 64}, "image_size=64 is for images that are streamed"),
        ({"image_sizes": "16:1", "epochs": 2}, "image_sizes='16:1' changes the shapes .* of lenet"),
        ({"weights": "cifar10"}, "packed cannot start from weights='cifar10', .* batch_ensemble"),
        ({"weights": "svhn"}, "single_lenet .*'svhn'"),
    ],
)
def test_recipes_that_cannot_run(options, pattern, data_dir, tmp_path, raises_line):
    with raises_line(ValueError, pattern):
        recipe = dataclasses.replace(
            recipes.recipe("cifar10_packed_lenet"), **{"batch_size": 8, **options}
        )
        run.train(recipe, data_dir, tmp_path)


@pytest.mark.slow
def test_half_precision_ends_with_the_training_and_the_record_is_in_float32(data_dir, tmp_path):
    recipe = dataclasses.replace(
        recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=8, precision="mixed_bfloat16"
    )
    config = run.train(recipe, data_dir, tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    model = zoo.load("single_lenet", weights=tmp_path)
    answers = zoo.predict(model, probe_images(model.input_shape[1:])).probabilities
    np.testing.assert_allclose(answers, config["probe"], atol=2e-5)


@pytest.mark.fast("float64")
@pytest.mark.parametrize("precision", recipe_checks._CHOICES["precision"])
def test_a_run_ends_in_every_precision(precision, mnist, tmp_path):
    recipe = dataclasses.replace(
        recipes.recipe("mnist_single_mlp"), epochs=1, batch_size=20, precision=precision
    )
    config = run.train(recipe, mnist, tmp_path)
    model = zoo.load("single_mlp", weights=tmp_path)
    answers = zoo.predict(model, probe_images(model.input_shape[1:])).probabilities
    np.testing.assert_allclose(answers, config["probe"], atol=2e-5)


@pytest.mark.fast("mc_dropout-rate=0.0")
@pytest.mark.parametrize(("method", "arguments"), [("single", ""), ("mc_dropout", "rate=0.0")])
def test_training_starts_from_given_weights(method, arguments, data_dir, tmp_path):
    recipe = dataclasses.replace(
        recipes.recipe(f"cifar10_{method}_lenet"), epochs=1, batch_size=48, learning_rate=1e-9,
        arguments=arguments, weights="cifar10",
    )  # fmt: skip
    config = run.train(recipe, data_dir, tmp_path)
    assert config["name"] == f"{method}_lenet" and config["recipe"]["weights"] == "cifar10"
    images = probe_images((32, 32, 3))
    trained, start = zoo.load(f"{method}_lenet", weights=tmp_path), zoo.load("single_lenet", "cifar10")
    expected = zoo.predict(start, images).probabilities
    np.testing.assert_allclose(zoo.predict(trained, images).probabilities, expected, atol=1e-3)


def test_a_stem_that_given_weights_do_not_have_is_refused(raises_line):
    recipe = dataclasses.replace(
        recipes.recipe("cifar10_single_resnet20"), weights="cifar10", stem="imagenet"
    )
    with raises_line(ValueError, "stem|shape|weights"):
        from_recipe.model_of(recipe, (32, 32, 3), 10)


def test_a_finished_run_of_a_time_with_fewer_fields_is_not_another(data_dir, tmp_path):
    recipe = dataclasses.replace(recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=48)
    config = run.train(recipe, data_dir, tmp_path)
    del config["recipe"]["weights"], config["recipe"]["stem"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run.train(recipe, data_dir, tmp_path) == json.loads(json.dumps(config))


@pytest.mark.slow
def test_a_limited_run_has_all_classes(data_dir, tmp_path):
    recipe = dataclasses.replace(recipes.recipe("cifar10_single_lenet"), epochs=1, batch_size=4)
    config = run.train(recipe, data_dir, tmp_path, limit=8)
    assert config["spec"]["num_classes"] == 10
    assert config["steps_per_epoch"] == 2


def test_image_sizes_are_stages_that_end_at_full_size():
    recipe = recipes.Recipe("cifar10", "single", "resnet20", epochs=16)
    assert recipes.size_stages(recipe) == [(None, 16)]
    given = dataclasses.replace(recipe, image_sizes="32:10, 48:3")
    assert recipes.size_stages(given) == [(32, 10), (48, 13), (None, 16)]


@pytest.mark.parametrize(
    "sizes", ["32", "32:", ":3", "0:2", "16:0", "a:2", "16:2;8:1", "16:1.5", "16:-2", "²:1"]
)
def test_image_sizes_that_cannot_be_read(sizes, raises_line):
    with raises_line(ValueError, 'SIZE:EPOCHS.*"32:10,48:3"; got ' + repr(sizes)):
        recipes.Recipe("cifar10", "single", "resnet20", image_sizes=sizes)


@pytest.mark.parametrize("sizes", ["16:4", "16:3,24:2"])
def test_some_epochs_must_be_left_for_full_size(sizes, raises_line):
    with raises_line(ValueError, "takes [45] epochs; epochs=4 must be more"):
        recipes.Recipe("cifar10", "single", "resnet20", epochs=4, image_sizes=sizes)
